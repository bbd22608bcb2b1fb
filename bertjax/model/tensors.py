"""Tensors stored in safetensors and msgpack files, with shapes known before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import serialization
from safetensors import SafetensorError, safe_open

from bertjax.config import InputError, require
from bertjax.model.source import Weights
from bertjax.params import paths

FLOAT_TYPES = {"F16", "BF16", "F32", "F64", "float16", "bfloat16", "float32", "float64"}
"""Storage types of weights, as safetensors and numpy spell them."""


class StoredTensor(NamedTuple):
    """One tensor of a checkpoint."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


def read_tensors(weights: Weights) -> dict[str, StoredTensor]:
    """Every stored tensor by its name: dotted in safetensors, joined by "/" in msgpack.

    Raises:
        InputError: A file is truncated or corrupted, or two shards hold the same name.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in weights.files:
        found = _read_msgpack(file) if weights.format == "msgpack" else _read_safetensors(file)
        twice = sorted(found.keys() & tensors.keys())
        require(not twice, f"{file}: these tensors are in another shard too: {', '.join(twice)}")
        tensors |= found
    return tensors


def _read_safetensors(file: Path) -> dict[str, StoredTensor]:
    try:
        opened = safe_open(file, framework="numpy")
        tensors = {}
        for name in opened.keys():  # noqa: SIM118 - the handle is no mapping
            header = opened.get_slice(name)
            read = _reader(file, opened, name)
            tensors[name] = StoredTensor(tuple(header.get_shape()), header.get_dtype(), read)
        return tensors
    except (SafetensorError, OSError, ValueError) as error:
        raise _corrupted(file, error) from None


def _reader(file: Path, opened: safe_open, name: str) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        try:
            return opened.get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise _corrupted(file, error) from None

    return read


def _read_msgpack(file: Path) -> dict[str, StoredTensor]:
    try:
        tree = serialization.msgpack_restore(file.read_bytes())
    except Exception as error:  # what a broken file raises depends on where it is broken
        raise _corrupted(file, error) from None
    if not isinstance(tree, dict):
        raise InputError(f"{file}: must hold a tree of named arrays, got {type(tree).__name__}")
    arrays = {path: np.asarray(leaf) for path, leaf in paths(tree).items()}
    return {path: StoredTensor(array.shape, array.dtype.name, _constant(array)) for path, array in arrays.items()}


def _constant(array: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: array


def _corrupted(file: Path, error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{file}: truncated or corrupted ({reason}); download or save it again")
