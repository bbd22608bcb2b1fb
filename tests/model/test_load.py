"""Every checkpoint layout gives the same parameters; every stored tensor is accounted for."""

import ml_dtypes
import numpy as np
import pytest

from bertjax.config import InputError
from bertjax.model.hf import from_pretrained, init_head, init_pooler
from bertjax.params import paths

HEAD_MADE = "task head initialized: not in the checkpoint"
POOLER_MADE = "pooler initialized: not in the checkpoint"


def legacy(name):
    """The LayerNorm names of TensorFlow, which the oldest checkpoints kept."""
    for new, old in (("weight", "gamma"), ("scale", "gamma"), ("bias", "beta")):
        for dot in "./":
            name = name.replace(f"LayerNorm{dot}{new}", f"LayerNorm{dot}{old}")
    return name


def bare(name):
    return name.removeprefix("bert.").removeprefix("bert/")


def without(tensors, *words):
    return {name: array for name, array in tensors.items() if not any(word in name for word in words)}


def assert_params(loaded, expected):
    """Bitwise the same leaves, in float32."""
    got = paths(loaded.params)
    assert got.keys() == expected.keys()
    for path, leaf in got.items():
        assert leaf.dtype == np.float32 and leaf.flags.c_contiguous
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)


@pytest.mark.parametrize("rename", [str, bare, legacy, lambda name: bare(legacy(name))],
                         ids=["prefix", "bare", "legacy", "bare-legacy"])
@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_names_of_every_age_load_the_same(bert, tmp_path, layout, rename):
    if layout == "torch":
        bert.write_torch(tmp_path, {rename(name): array for name, array in bert.torch().items()})
    else:
        bert.write_flax(tmp_path, {rename(name): array for name, array in bert.leaves.items()})
    loaded = from_pretrained(tmp_path, num_labels=2)
    assert_params(loaded, bert.leaves)
    assert loaded.config == bert.config and loaded.notes == []
    assert loaded.label_names == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_any_float_storage_loads_exactly(bert, tmp_path, layout, dtype):
    if layout == "torch":
        bert.write_torch(tmp_path, {name: array.astype(dtype) for name, array in bert.torch().items()})
    else:
        bert.write_flax(tmp_path, {name: array.astype(dtype) for name, array in bert.leaves.items()})
    expected = {path: leaf.astype(dtype).astype(np.float32) for path, leaf in bert.leaves.items()}
    assert_params(from_pretrained(tmp_path, num_labels=2), expected)


def test_shards_load_as_one(bert, tmp_path):
    assert_params(from_pretrained(bert.write_shards(tmp_path), num_labels=2), bert.leaves)


def test_a_missing_shard_is_named(bert, tmp_path):
    bert.write_shards(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match="the shard model-00002-of-00002.safetensors is missing"):
        from_pretrained(tmp_path, num_labels=2)


def test_a_shard_outside_the_folder_is_refused(bert, tmp_path):
    bert.write_config(tmp_path / "m")
    index = tmp_path / "m" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../model.safetensors"}}')
    with pytest.raises(InputError, match="a file name in the same folder"):
        from_pretrained(tmp_path / "m", num_labels=2)
    index.write_text('{"weights": 1}')
    with pytest.raises(InputError, match="not an index of weight shards"):
        from_pretrained(tmp_path / "m", num_labels=2)


def test_the_same_tensor_in_two_shards_is_refused(bert, tmp_path):
    bert.write_shards(tmp_path)
    first, second = sorted(tmp_path.glob("*.safetensors"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(InputError, match="in another shard too: "):
        from_pretrained(tmp_path, num_labels=2)


def test_safetensors_come_before_msgpack(bert, tmp_path):
    bert.write_flax(tmp_path, {path: leaf + 1 for path, leaf in bert.leaves.items()})
    bert.write_torch(tmp_path)
    assert_params(from_pretrained(tmp_path, num_labels=2), bert.leaves)


@pytest.mark.parametrize("pickles", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_lone_pickle_is_refused_and_the_way_out_named(bert, tmp_path, pickles):
    bert.write_config(tmp_path)
    (tmp_path / pickles).write_bytes(b"anything")
    with pytest.raises(InputError, match=f"bertjax convert {tmp_path} FOLDER"):
        from_pretrained(tmp_path, num_labels=2)


def test_a_folder_without_weights_or_config_says_so(bert, tmp_path):
    with pytest.raises(InputError, match="a model needs config.json, and there is none"):
        from_pretrained(tmp_path, num_labels=2)
    bert.write_config(tmp_path)
    with pytest.raises(InputError, match="weights in model.safetensors or flax_model.msgpack, and there are none"):
        from_pretrained(tmp_path, num_labels=2)


@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_missing_pooler_and_head_are_drawn_and_said(bert, tmp_path, layout):
    if layout == "torch":
        bert.write_torch(tmp_path, without(bert.torch(), "pooler", "classifier"))
    else:
        bert.write_flax(tmp_path, without(bert.leaves, "pooler", "classifier"))
    loaded = from_pretrained(tmp_path, num_labels=3, seed=7)
    drawn = paths(init_pooler(bert.config, 7)) | paths(init_head(loaded.config, 7))
    assert_params(loaded, without(bert.leaves, "pooler", "classifier") | drawn)
    assert loaded.notes == [POOLER_MADE, HEAD_MADE] and loaded.label_names is None
    assert loaded.config.num_labels == 3


def test_drawn_weights_follow_the_seed_and_the_initialization(bert):
    config = type(bert.config)(hidden_size=256, num_attention_heads=4, num_labels=40, initializer_range=0.05)
    for draw in (init_pooler, init_head):
        (bias_path, bias), (kernel_path, kernel) = sorted(paths(draw(config, 1)).items())
        assert bias_path.endswith("/bias") and not bias.any()
        assert abs(kernel.std() / 0.05 - 1) < 0.03 and abs(kernel.mean()) < 0.002
        np.testing.assert_array_equal(kernel, paths(draw(config, 1))[kernel_path])
        assert (kernel != paths(draw(config, 2))[kernel_path]).mean() > 0.99


def test_pooler_and_head_are_drawn_anew_when_asked(bert, tmp_path):
    bert.write_torch(tmp_path)
    loaded = from_pretrained(tmp_path, num_labels=2, seed=3, reinit_pooler=True, reinit_head=True)
    assert_params(loaded, bert.leaves | paths(init_pooler(bert.config, 3)) | paths(init_head(bert.config, 3)))
    assert loaded.notes == ["dropped the checkpoint's task head", "pooler initialized: as asked",
                            "task head initialized: as asked"]
    assert loaded.label_names is None


def test_half_a_pooler_is_an_error_not_a_missing_one(bert, tmp_path):
    bert.write_torch(tmp_path, without(bert.torch(), "pooler.dense.bias"))
    with pytest.raises(InputError, match=r"missing bert.pooler.dense.bias \(12,\)"):
        from_pretrained(tmp_path, num_labels=2)


def test_the_first_layers_are_kept(bert, tmp_path):
    bert.write_torch(tmp_path)
    loaded = from_pretrained(tmp_path, num_labels=2, num_hidden_layers=2)
    assert_params(loaded, without(bert.leaves, "layer/2/"))
    assert loaded.config.num_hidden_layers == 2 and loaded.notes == ["kept the first 2 of 3 layers"]
    same = from_pretrained(tmp_path, num_labels=2, num_hidden_layers=3)
    assert_params(same, bert.leaves)
    assert same.notes == []


@pytest.mark.parametrize("layers", [0, -1, 4])
def test_layers_that_are_not_there_are_refused(bert, tmp_path, layers):
    bert.write_torch(tmp_path)
    with pytest.raises(InputError, match=f"layers must be 1 to 3, the number it has; got {layers}"):
        from_pretrained(tmp_path, num_labels=2, num_hidden_layers=layers)


def test_all_misfits_are_in_one_error(bert, tmp_path):
    tensors = without(bert.torch(), "layer.1.output.dense.bias", "word_embeddings")
    tensors["bert.encoder.layer.3.output.dense.bias"] = np.zeros(12, np.float32)
    tensors["adapter.weight"] = np.zeros((2, 2), np.float32)
    tensors["bert.encoder.layer.0.intermediate.dense.weight"] = np.zeros((12, 20), np.float32)
    tensors["encoder.layer.0.output.dense.bias"] = np.zeros(12, np.float32)
    tensors["bert.encoder.layer.2.output.dense.bias"] = np.zeros(12, np.int8)
    with pytest.raises(InputError) as caught:
        from_pretrained(bert.write_torch(tmp_path, tensors), num_labels=2)
    message = str(caught.value)
    assert "\n" not in message and str(tmp_path) in message
    for problem in ("unexpected bert.encoder.layer.3.output.dense.bias (12,)", "unexpected adapter.weight (2, 2)",
                    "missing bert.encoder.layer.1.output.dense.bias (12,)",
                    "missing bert.embeddings.word_embeddings.weight (23, 12)",
                    "bert.encoder.layer.0.intermediate.dense.weight has shape (12, 20), must be (20, 12)",
                    "stored twice under different names",
                    "bert.encoder.layer.2.output.dense.bias must be stored as floats, got I8"):
        assert problem in message
    assert message.count(";") == 6


def test_misfits_of_a_layer_that_is_not_kept_count_too(bert, tmp_path):
    bert.write_torch(tmp_path, without(bert.torch(), "layer.2.output.dense.bias"))
    with pytest.raises(InputError, match="missing bert.encoder.layer.2.output.dense.bias"):
        from_pretrained(tmp_path, num_labels=2, num_hidden_layers=1)


def test_torch_names_and_flax_names_do_not_mix(bert, tmp_path):
    """A square kernel under Flax's name in safetensors would be transposed, or not, by guess."""
    tensors = bert.torch()
    name = "bert.encoder.layer.0.attention.self.query"
    tensors[f"{name}.kernel"] = tensors.pop(f"{name}.weight")
    with pytest.raises(InputError, match=f"unexpected {name}.kernel .*missing {name}.weight"):
        from_pretrained(bert.write_torch(tmp_path, tensors), num_labels=2)


@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_buffers_and_pretraining_heads_are_dropped_and_said(bert, tmp_path, layout):
    if layout == "torch":
        extra = {"bert.embeddings.position_ids": np.arange(9)[None], "cls.predictions.bias": np.zeros(23, np.float32),
                 "cls.seq_relationship.weight": np.zeros((2, 12), np.float32)}
        bert.write_torch(tmp_path, bert.torch() | extra)
    else:
        extra = {"cls/predictions/bias": np.zeros(23), "cls/seq_relationship/kernel": np.zeros((12, 2))}
        bert.write_flax(tmp_path, bert.leaves | extra)
    loaded = from_pretrained(tmp_path, num_labels=2)
    assert_params(loaded, bert.leaves)
    assert loaded.notes == ["dropped tensors that are no part of the model: " + ", ".join(sorted(extra))]


def test_a_head_for_other_labels_needs_a_decision(bert, tmp_path):
    bert.write_torch(tmp_path)
    with pytest.raises(InputError, match=r"classifier.weight has shape \(2, 12\), must be \(3, 12\): the task head is "
                                         r"for another number of labels; ask for a new one \(reinit_head, "):
        from_pretrained(tmp_path, num_labels=3)
    loaded = from_pretrained(tmp_path, num_labels=3, reinit_head=True)
    assert_params(loaded, without(bert.leaves, "classifier") | paths(init_head(loaded.config, 0)))


def test_label_names_come_with_the_head(bert, tmp_path):
    bert.write_torch(tmp_path, id2label={"1": "yes", "0": "no"})
    assert from_pretrained(tmp_path, num_labels=2).label_names == ("no", "yes")
    bert.write_torch(tmp_path, id2label={"0": "no", "7": "yes"})
    assert from_pretrained(tmp_path, num_labels=2).label_names is None


@pytest.mark.parametrize("share", [0, 1e-6, 0.001, 0.01, 0.5, 0.999, 0.999999])
@pytest.mark.parametrize("file", ["model.safetensors", "flax_model.msgpack"])
def test_a_file_cut_anywhere_is_named(bert, tmp_path, file, share):
    write = bert.write_torch if file.endswith("safetensors") else bert.write_flax
    path = write(tmp_path) / file
    content = path.read_bytes()
    path.write_bytes(content[:int(share * len(content))])
    with pytest.raises(InputError, match=f"{file}: truncated or corrupted"):
        from_pretrained(tmp_path, num_labels=2)


@pytest.mark.parametrize("content", [b"garbage " * 50, b"\xff" * 400, b"\x08" + b"\0" * 7 + b"{}      ", b"\x80"])
@pytest.mark.parametrize("file", ["model.safetensors", "flax_model.msgpack"])
def test_garbage_is_one_line(bert, tmp_path, file, content):
    (bert.write_config(tmp_path) / file).write_bytes(content)
    with pytest.raises(InputError) as caught:
        from_pretrained(tmp_path, num_labels=2)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
