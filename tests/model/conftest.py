"""A small BERT, and writers of every checkpoint layout that bertjax reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import save_file

from bertjax.config import BertConfig
from bertjax.model.hf_config import write_config
from bertjax.model.layout import is_transposed, param_shapes, torch_name
from bertjax.params import nest


class SmallBert:
    """Three layers of random parameters, and the names and arrays that checkpoints of it hold."""

    config = BertConfig(vocab_size=23, hidden_size=12, num_hidden_layers=3, num_attention_heads=3, intermediate_size=20,
                        max_position_embeddings=9, type_vocab_size=2, num_labels=2)

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.leaves = {path: random.standard_normal(shape, dtype=np.float32)
                       for path, shape in param_shapes(self.config).items()}
        self.params = nest(self.leaves)

    def torch(self) -> dict[str, np.ndarray]:
        """The tensors by PyTorch's names, linear weights as [out, in]."""
        return {torch_name(path): np.ascontiguousarray(leaf.T if is_transposed(path) else leaf)
                for path, leaf in self.leaves.items()}

    def write_config(self, folder: Path, **changes: object) -> Path:
        """Writes `config.json`, with fields changed or (given None) removed."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "config.json"
        write_config(file, self.config, (), "single_label_classification")
        fields = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))
        return folder

    def write_torch(self, folder: Path, tensors: dict[str, np.ndarray] | None = None, **changes: object) -> Path:
        """Writes config and `model.safetensors`."""
        self.write_config(folder, **changes)
        save_file(self.torch() if tensors is None else tensors, folder / "model.safetensors")
        return folder

    def write_shards(self, folder: Path) -> Path:
        """Writes config, index and two shards."""
        self.write_config(folder)
        tensors, shards = self.torch(), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        where = {name: shards[i % 2] for i, name in enumerate(tensors)}
        for shard in shards:
            save_file({name: array for name, array in tensors.items() if where[name] == shard}, folder / shard)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
        return folder

    def write_flax(self, folder: Path, leaves: dict[str, np.ndarray] | None = None) -> Path:
        """Writes config and `flax_model.msgpack`."""
        self.write_config(folder)
        tree = nest(self.leaves if leaves is None else leaves)
        (folder / "flax_model.msgpack").write_bytes(serialization.msgpack_serialize(tree))
        return folder


@pytest.fixture(scope="session")
def bert() -> SmallBert:
    return SmallBert()
