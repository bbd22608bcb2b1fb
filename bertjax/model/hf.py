"""Pretrained weights in and fine-tuned weights out, in Hugging Face's folder layout."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from safetensors.numpy import save_file

from bertjax.config import BertConfig, InputError, require
from bertjax.model.folder import new_folder
from bertjax.model.hf_config import ProblemType, read_config, read_label_names, write_config
from bertjax.model.layout import (
    HEAD,
    IGNORED,
    POOLER,
    Shape,
    is_transposed,
    param_shapes,
    stored_names,
    torch_name,
    torch_shape,
)
from bertjax.model.source import SAFETENSORS, find_file, find_weights
from bertjax.model.tensors import FLOAT_TYPES, StoredTensor, read_tensors
from bertjax.params import Params, nest, paths

Source = str | os.PathLike[str]
"""A folder, or a name on the hub."""


class Tokenizer(Protocol):
    """What `save_pretrained` needs of a tokenizer; those of transformers have it."""

    def save_pretrained(self, save_directory: str) -> Any: ...


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint as bertjax uses it."""

    config: BertConfig
    """With the layers kept and the `num_labels` asked for."""
    params: Params
    """numpy float32 arrays."""
    notes: list[str]
    """One line for each thing a user should know: what was initialized, dropped or left out."""
    label_names: tuple[str, ...] | None
    """Names of the head's outputs; None if the head is new or its outputs have no names."""


def load_config(name_or_dir: Source) -> BertConfig:
    """The shape of a pretrained model. Raises `InputError` where there is none or bertjax cannot run it."""
    return read_config(find_file(name_or_dir, "config.json"))


def from_pretrained(
    name_or_dir: Source,
    *,
    num_labels: int,
    num_hidden_layers: int | None = None,
    seed: int = 0,
    reinit_pooler: bool = False,
    reinit_head: bool = False,
) -> Pretrained:
    """Loads a BERT from a folder or the hub: safetensors, Flax msgpack, or the safetensors of a pull request.

    Args:
        name_or_dir: A folder, or a name on the hub.
        num_labels: Outputs of the task head (1 for regression).
        num_hidden_layers: Keep only the first layers; None keeps all.
        seed: Of the weights that are drawn: the task head or the pooler, where missing or not wanted.
        reinit_pooler: Draw the pooler anew although the checkpoint has one.
        reinit_head: Draw the task head anew although the checkpoint has one, whatever its outputs.

    Raises:
        InputError: Nothing to load, a file is corrupted, or the stored tensors are not exactly those of the config;
            the message lists every unexpected name, missing tensor and wrong shape.
    """
    config_file = find_file(name_or_dir, "config.json")
    stored = dataclasses.replace(read_config(config_file), num_labels=num_labels)
    config = _first_layers(name_or_dir, stored, num_hidden_layers)
    weights = find_weights(name_or_dir)
    notes = [] if weights.note is None else [weights.note]
    tensors = read_tensors(weights)
    is_torch = weights.format == "safetensors"
    if reinit_head:
        tensors = _without_head(tensors, notes)
    found = _account(str(weights.files[0].parent), tensors, param_shapes(stored), is_torch, notes)
    if reinit_pooler:
        found = {path: tensor for path, tensor in found.items() if path not in POOLER}
    if config.num_hidden_layers < stored.num_hidden_layers:
        notes.append(f"kept the first {config.num_hidden_layers} of {stored.num_hidden_layers} layers")
    leaves = {path: _read(found[path], is_torch and is_transposed(path))
              for path in param_shapes(config) if path in found}
    label_names = read_label_names(config_file) if HEAD[0] in leaves else None
    if POOLER[0] not in leaves:
        notes.append("pooler initialized: " + ("as asked" if reinit_pooler else "not in the checkpoint"))
        leaves |= paths(init_pooler(config, seed))
    if HEAD[0] not in leaves:
        notes.append("task head initialized: " + ("as asked" if reinit_head else "not in the checkpoint"))
        leaves |= paths(init_head(config, seed))
    if label_names is not None and len(label_names) != num_labels:
        label_names = None
    return Pretrained(config, nest(leaves), notes, label_names)


def init_pooler(config: BertConfig, seed: int) -> Params:
    """A new pooler under its place in the tree: weights from N(0, initializer_range), zero biases."""
    return _draw(config, POOLER, (seed, 0))


def init_head(config: BertConfig, seed: int) -> Params:
    """A new task head under its place in the tree: weights from N(0, initializer_range), zero biases."""
    return _draw(config, HEAD, (seed, 1))


def save_pretrained(
    directory: Source,
    config: BertConfig,
    params: Params,
    *,
    label_names: Sequence[str] = (),
    problem_type: ProblemType,
    tokenizer: Tokenizer | None = None,
    bertjax: Mapping[str, Any] | None = None,
) -> None:
    """Writes a folder that Hugging Face's `BertForSequenceClassification` and `from_pretrained` load, all at once.

    Args:
        directory: Made with its parents; a folder that already holds a saved model (and nothing else) is replaced.
        config: The shape of `params`.
        params: Arrays of any float type; saved as float32.
        label_names: Names of the head's outputs in order; none gives LABEL_0, LABEL_1, ...
        problem_type: What the outputs mean.
        tokenizer: Saved beside the model.
        bertjax: Kept under "bertjax" in config.json, which Hugging Face ignores: what else the model needs to run here.

    Raises:
        InputError: `params` do not fit `config`, the label names do not fit, or the folder cannot be written.
    """
    leaves, shapes = paths(params), param_shapes(config)
    got = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
    wrong = sorted(path for path in shapes.keys() | got.keys() if shapes.get(path) != got.get(path))
    require(not wrong, "params do not fit the config: " + "; ".join(
        f"{path} must have shape {shapes.get(path, 'none')}, got {got.get(path, 'none')}" for path in wrong))
    tensors = {}
    for path, leaf in leaves.items():
        array = np.asarray(leaf).astype(np.float32)
        tensors[torch_name(path)] = np.ascontiguousarray(array.T if is_transposed(path) else array)
    with new_folder(directory) as folder:
        save_file(tensors, folder / SAFETENSORS, metadata={"format": "pt"})
        write_config(folder / "config.json", config, tuple(label_names), problem_type, bertjax)
        if tokenizer is not None:
            tokenizer.save_pretrained(str(folder))


def _first_layers(name: Source, stored: BertConfig, layers: int | None) -> BertConfig:
    if layers is None:
        return stored
    require(1 <= layers <= stored.num_hidden_layers,
            f"{name}: layers must be 1 to {stored.num_hidden_layers}, the number it has; got {layers}")
    return dataclasses.replace(stored, num_hidden_layers=layers)


def _without_head(tensors: Mapping[str, StoredTensor], notes: list[str]) -> dict[str, StoredTensor]:
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(("classifier.", "classifier/"))}
    if len(kept) < len(tensors):
        notes.append("dropped the checkpoint's task head")
    return kept


def _account(
    where: str, tensors: Mapping[str, StoredTensor], shapes: Mapping[str, Shape], is_torch: bool, notes: list[str]
) -> dict[str, StoredTensor]:
    """The stored tensors by parameter path. Raises one `InputError` with everything that does not fit."""
    by_name = stored_names(shapes, is_torch)
    found: dict[str, StoredTensor] = {}
    ignored, problems = [], []
    for name, tensor in tensors.items():
        path = by_name.get(name)
        if path is None:
            if IGNORED.fullmatch(name):
                ignored.append(name)
            else:
                problems.append(f"unexpected {name} {tensor.shape}")
        elif path in found:
            problems.append(f"{name} is stored twice under different names")
        else:
            found[path] = tensor
            problems += _misfit(name, path, tensor, shapes[path], is_torch)
    optional = {path for part in (POOLER, HEAD) if found.keys().isdisjoint(part) for path in part}
    for path in sorted(shapes.keys() - found.keys() - optional):
        name = torch_name(path) if is_torch else path
        problems.append(f"missing {name} {torch_shape(path, shapes[path]) if is_torch else shapes[path]}")
    if problems:
        raise InputError(f"{where}: the stored tensors do not fit config.json and the task: {'; '.join(problems)}")
    if ignored:
        notes.append(f"dropped tensors that are no part of the model: {', '.join(sorted(ignored))}")
    return found


def _misfit(name: str, path: str, tensor: StoredTensor, shape: Shape, is_torch: bool) -> list[str]:
    expected = torch_shape(path, shape) if is_torch else shape
    problems = []
    if tensor.dtype not in FLOAT_TYPES:
        problems.append(f"{name} must be stored as floats, got {tensor.dtype}")
    if tensor.shape != expected and path in HEAD:
        problems.append(f"{name} has shape {tensor.shape}, must be {expected}: the task head is for another number of "
                        "labels; ask for a new one (reinit_head, --reinit-head True)")
    elif tensor.shape != expected:
        problems.append(f"{name} has shape {tensor.shape}, must be {expected}")
    return problems


def _read(tensor: StoredTensor, transposed: bool) -> np.ndarray:
    array = tensor.read().astype(np.float32)
    return np.ascontiguousarray(array.T) if transposed else array


def _draw(config: BertConfig, part: tuple[str, str], seed: tuple[int, int]) -> Params:
    kernel, bias = part
    shapes = param_shapes(config)
    drawn = np.random.default_rng(seed).standard_normal(shapes[kernel], dtype=np.float32)
    return nest({kernel: drawn * np.float32(config.initializer_range), bias: np.zeros(shapes[bias], np.float32)})
