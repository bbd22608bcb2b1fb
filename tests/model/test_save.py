"""What is saved reads back bit for bit, appears at once, and never replaces a stranger's folder."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.config import BertConfig, InputError
from bertjax.model.hf import from_pretrained, load_config, save_pretrained
from bertjax.model.layout import param_shapes
from bertjax.params import nest, paths

CLASSES = "single_label_classification"
CONFIGS = st.builds(
    lambda heads, layers, ffn, labels, eps, dropout, head_dropout: BertConfig(
        vocab_size=11, hidden_size=6 * heads, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=ffn, max_position_embeddings=7, type_vocab_size=1, num_labels=labels, layer_norm_eps=eps,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout / 2, classifier_dropout=head_dropout),
    st.integers(1, 3), st.integers(1, 12), st.integers(1, 9), st.integers(1, 4), st.sampled_from([1e-12, 1e-5]),
    st.floats(0, 0.9), st.none() | st.floats(0, 0.9))


@given(CONFIGS, st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_what_is_saved_reads_back_bitwise(tmp_path_factory, config, seed):
    random = np.random.default_rng(seed)
    leaves = {path: random.integers(0, 2**31, shape, dtype=np.uint32).view(np.float32)
              for path, shape in param_shapes(config).items()}
    folder = tmp_path_factory.mktemp("saved") / "model"
    names = tuple(f"label {i}, größer" for i in range(config.num_labels))
    save_pretrained(folder, config, nest(leaves), label_names=names, problem_type=CLASSES)
    loaded = from_pretrained(folder, num_labels=config.num_labels)
    assert loaded.config == config == load_config(folder)
    assert loaded.label_names == names and loaded.notes == []
    again = paths(loaded.params)
    assert again.keys() == leaves.keys()
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(again[path].view(np.uint32), leaf.view(np.uint32), err_msg=path)


def test_device_arrays_of_any_float_type_are_saved_as_float32(bert, tmp_path):
    params = nest({path: jnp.asarray(leaf, jnp.bfloat16) for path, leaf in bert.leaves.items()})
    save_pretrained(tmp_path / "m", bert.config, params, problem_type=CLASSES)
    for path, leaf in paths(from_pretrained(tmp_path / "m", num_labels=2).params).items():
        np.testing.assert_array_equal(leaf, bert.leaves[path].astype(jnp.bfloat16).astype(np.float32))


def test_the_config_says_what_huggingface_reads(bert, tmp_path):
    save_pretrained(tmp_path / "m", bert.config, bert.params, label_names=("no", "yes"), problem_type=CLASSES)
    fields = json.loads((tmp_path / "m" / "config.json").read_text())
    assert fields["architectures"] == ["BertForSequenceClassification"] and fields["model_type"] == "bert"
    assert fields["id2label"] == {"0": "no", "1": "yes"} and fields["label2id"] == {"no": 0, "yes": 1}
    assert fields["problem_type"] == CLASSES and fields["hidden_act"] == "gelu"
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"config.json", "model.safetensors"}


def test_a_save_that_fails_leaves_nothing_and_the_old_model_whole(bert, tmp_path):
    class Tokenizer:
        def save_pretrained(self, save_directory):
            raise RuntimeError("no space")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no space"):
            save_pretrained(tmp_path / "m", bert.config, nest({path: leaf + 1 for path, leaf in bert.leaves.items()}),
                            problem_type=CLASSES, tokenizer=Tokenizer())
        assert list(tmp_path.iterdir()) == ([tmp_path / "m"] if (tmp_path / "m").exists() else [])
        save_pretrained(tmp_path / "m", bert.config, bert.params, problem_type=CLASSES)
    old = paths(from_pretrained(tmp_path / "m", num_labels=2).params)
    assert all(np.array_equal(old[path], leaf) for path, leaf in bert.leaves.items())


def test_a_saved_model_is_replaced_whole(bert, tmp_path):
    class Tokenizer:
        def save_pretrained(self, save_directory):
            with open(f"{save_directory}/vocab.txt", "w") as file:
                file.write("[PAD]\n")

    folder = tmp_path / "deep" / "m"
    save_pretrained(folder, bert.config, bert.params, problem_type=CLASSES, tokenizer=Tokenizer())
    assert (folder / "vocab.txt").read_text() == "[PAD]\n"
    save_pretrained(folder, bert.config, bert.params, problem_type=CLASSES)
    assert not (folder / "vocab.txt").exists() and [path.name for path in folder.parent.iterdir()] == ["m"]


def test_other_files_are_never_replaced(bert, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds other files than a model \(thesis.txt\); choose another folder"):
        save_pretrained(tmp_path, bert.config, bert.params, problem_type=CLASSES)
    with pytest.raises(InputError, match="saved as a folder, and this is a file"):
        save_pretrained(tmp_path / "thesis.txt", bert.config, bert.params, problem_type=CLASSES)
    with pytest.raises(InputError, match="cannot be written"):
        save_pretrained(tmp_path / "thesis.txt" / "m", bert.config, bert.params, problem_type=CLASSES)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_params_of_another_shape_are_listed(bert, tmp_path):
    deeper = dataclasses.replace(bert.config, num_hidden_layers=4, num_labels=3)
    with pytest.raises(InputError) as caught:
        save_pretrained(tmp_path / "m", deeper, bert.params, problem_type=CLASSES)
    message = str(caught.value)
    assert "classifier/kernel must have shape (12, 3), got (12, 2)" in message
    assert "bert/encoder/layer/3/output/dense/bias must have shape (12,), got none" in message
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("names", "problem", "says"), [
    (("a", "b", "c"), CLASSES, "must be 2 different names"),
    (("a", "a"), CLASSES, "must be 2 different names"),
    ((), "regression", "regression needs a head of 1 output, got 2"),
])
def test_labels_that_do_not_fit_are_refused(bert, tmp_path, names, problem, says):
    with pytest.raises(InputError, match=says):
        save_pretrained(tmp_path / "m", bert.config, bert.params, label_names=names, problem_type=problem)
    assert list(tmp_path.iterdir()) == []
