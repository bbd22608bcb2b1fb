"""`bertjax convert`: the tensors survive as they are, and no pickle runs its code."""

import json
import os
import pickle
import sys

import numpy as np
import pytest

from bertjax.config import InputError
from bertjax.model.hf import from_pretrained
from bertjax.model.torch_convert import convert_bin
from bertjax.params import paths


def test_without_torch_the_extra_is_named(bert, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'bertjax\[torch\]'"):
        convert_bin(bert.write_config(tmp_path / "old"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parity
@pytest.mark.parametrize("shards", [1, 2])
def test_a_converted_model_loads_bitwise(bert, tmp_path, shards):
    torch = pytest.importorskip("torch")
    old = bert.write_config(tmp_path / "old")
    state = {name: torch.from_numpy(array) for name, array in bert.torch().items()}
    state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]  # tied
    if shards == 1:
        torch.save(state, old / "pytorch_model.bin")
    else:
        where = {name: f"part-{i % 2}.bin" for i, name in enumerate(state)}
        for part in set(where.values()):
            torch.save({name: state[name] for name in state if where[name] == part}, old / part)
        (old / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    (old / "vocab.txt").write_text("[PAD]\n")
    (old / "README.md").write_text("not a part of the model")
    assert convert_bin(old, tmp_path / "new") == ["config.json", "model.safetensors", "vocab.txt"]
    loaded = from_pretrained(tmp_path / "new", num_labels=2)
    assert all(np.array_equal(leaf, bert.leaves[path]) for path, leaf in paths(loaded.params).items())
    assert loaded.notes == ["dropped tensors that are no part of the model: cls.predictions.decoder.weight"]


class Evil:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.mark.parity
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_a_pickle_with_code_is_refused_and_does_not_run(bert, tmp_path, how):
    torch = pytest.importorskip("torch")
    file = bert.write_config(tmp_path / "old") / "pytorch_model.bin"
    bad = {"bert.pooler.dense.bias": Evil(tmp_path / "ran")}
    if how == "torch":
        torch.save(bad, file)
    else:
        file.write_bytes(pickle.dumps(bad))
    with pytest.raises(InputError, match="not safe to load") as caught:
        convert_bin(tmp_path / "old", tmp_path / "new")
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "new").exists()


@pytest.mark.parity
def test_only_tensors_by_name_are_converted(bert, tmp_path):
    torch = pytest.importorskip("torch")
    old = bert.write_config(tmp_path / "old")
    with pytest.raises(InputError, match="nothing to convert, there is no pytorch_model.bin"):
        convert_bin(old, tmp_path / "new")
    for content in ({}, [torch.zeros(1)], {"state_dict": {"a": torch.zeros(1)}}, {"epoch": 3}):
        torch.save(content, old / "pytorch_model.bin")
        with pytest.raises(InputError, match="must hold tensors by name"):
            convert_bin(old, tmp_path / "new")
    (old / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read as plain tensors"):
        convert_bin(old, tmp_path / "new")
