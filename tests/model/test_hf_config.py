"""`config.json`: what bertjax cannot run is named, what it does not need is ignored."""

import pytest

from bertjax.config import BertConfig, InputError
from bertjax.model.hf import load_config
from bertjax.model.hf_config import read_extras, write_config


def test_absent_fields_are_huggingfaces_defaults(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 24, "num_attention_heads": 2, "hidden_act": "gelu"}')
    assert load_config(tmp_path) == BertConfig(hidden_size=24, num_attention_heads=2)


def test_unknown_fields_are_ignored(bert, tmp_path):
    bert.write_config(tmp_path, use_cache=True, pruned_heads={}, transformers_version="4.8.2")
    assert load_config(tmp_path) == bert.config


@pytest.mark.parametrize("extras", [None, {}, {"max_length": 64, "quantize": {"weight_bits": 8}}])
def test_extras_read_back_and_change_no_shape(bert, tmp_path, extras):
    file = tmp_path / "config.json"
    write_config(file, bert.config, (), "single_label_classification", extras)
    assert read_extras(file) == (extras or {}) and load_config(tmp_path) == bert.config
    file.write_text('{"bertjax": 3}')
    with pytest.raises(InputError, match="bertjax must hold a JSON object, got int"):
        read_extras(file)


@pytest.mark.parametrize(("changes", "labels"), [
    ({"id2label": {"0": "a", "1": "b", "2": "c"}}, 3),
    ({"id2label": None, "num_labels": 5}, 5),
    ({"id2label": None}, 2),
])
def test_labels_are_counted(bert, tmp_path, changes, labels):
    assert load_config(bert.write_config(tmp_path, **changes)).num_labels == labels


@pytest.mark.parametrize(("field", "value", "says"), [
    ("model_type", "roberta", 'model_type must be "bert", got "roberta"'),
    ("hidden_act", "gelu_new", 'hidden_act must be "gelu", got "gelu_new"'),
    ("position_embedding_type", "relative_key", 'position_embedding_type must be "absolute"'),
    ("is_decoder", True, "is_decoder must be false, got true"),
    ("hidden_size", "12", 'hidden_size must be an integer, got "12"'),
    ("hidden_size", True, "hidden_size must be an integer, got true"),
    ("layer_norm_eps", [1], "layer_norm_eps must be a number"),
    ("num_hidden_layers", 0, "num_hidden_layers must be at least 1, got 0"),
    ("num_attention_heads", 5, "hidden_size must be a multiple of num_attention_heads, got 12 and 5"),
])
def test_what_cannot_run_is_named_with_its_file(bert, tmp_path, field, value, says):
    with pytest.raises(InputError) as caught:
        load_config(bert.write_config(tmp_path, **{field: value}))
    assert says in str(caught.value) and str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")


@pytest.mark.parametrize(("content", "says"), [
    (b'{\n"a": 1,\n,}', "config.json, line 3: not JSON"),
    (b"[1]", "must hold a JSON object, got list"),
    (b"\xff\xfe", "config.json: cannot be read"),
])
def test_a_broken_file_is_one_line(tmp_path, content, says):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_config(tmp_path)
