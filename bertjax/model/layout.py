"""The names and shapes of BERT's tensors, in bertjax's parameter tree and in the checkpoints of PyTorch and Flax."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from bertjax.config import BertConfig

Shape = tuple[int, ...]

POOLER = ("bert/pooler/dense/kernel", "bert/pooler/dense/bias")
HEAD = ("classifier/kernel", "classifier/bias")

IGNORED = re.compile(r"(bert[./])?embeddings[./](position_ids|token_type_ids)|cls[./].*")
"""Stored names that are no parameters of this model: index buffers of old versions, and the pretraining heads."""

_TORCH_LEAF = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
_LEGACY_LEAF = {"scale": "gamma", "bias": "beta"}


def param_shapes(config: BertConfig) -> dict[str, Shape]:
    """The shape of every parameter of `BertForSequenceClassification` by path; kernels are [in, out]."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    shapes: dict[str, Shape] = {}
    for name, rows in (("word", config.vocab_size), ("position", config.max_position_embeddings),
                       ("token_type", config.type_vocab_size)):
        shapes[f"bert/embeddings/{name}_embeddings/embedding"] = (rows, hidden)
    shapes |= _layer_norm("bert/embeddings", hidden)
    for i in range(config.num_hidden_layers):
        layer = f"bert/encoder/layer/{i}"
        for name in ("query", "key", "value"):
            shapes |= _linear(f"{layer}/attention/self/{name}", hidden, hidden)
        shapes |= _linear(f"{layer}/attention/output/dense", hidden, hidden)
        shapes |= _layer_norm(f"{layer}/attention/output", hidden)
        shapes |= _linear(f"{layer}/intermediate/dense", hidden, ffn)
        shapes |= _linear(f"{layer}/output/dense", ffn, hidden)
        shapes |= _layer_norm(f"{layer}/output", hidden)
    shapes |= _linear("bert/pooler/dense", hidden, hidden)
    shapes |= _linear("classifier", hidden, config.num_labels)
    return shapes


def torch_name(path: str) -> str:
    """The name of a parameter in Hugging Face's PyTorch `BertForSequenceClassification`."""
    *stem, leaf = path.split("/")
    return ".".join([*stem, _TORCH_LEAF[leaf]])


def is_transposed(path: str) -> bool:
    """PyTorch stores linear weights as [out, in]; embeddings and vectors are the same in both."""
    return path.endswith("/kernel")


def torch_shape(path: str, shape: Shape) -> Shape:
    """The shape that PyTorch stores a parameter in."""
    return shape[::-1] if is_transposed(path) else shape


def stored_names(shapes: Mapping[str, Shape], torch: bool) -> dict[str, str]:
    """Every name under which a checkpoint may store a parameter, with the parameter's path.

    With and without the prefix `bert`, with `weight`/`scale` or the legacy `gamma`, `bias` or the legacy `beta`.
    `torch` chooses the names of PyTorch ("a.b.weight") over those of Flax ("a/b/kernel").
    """
    return {name: path for path in shapes for name in _names(path, torch)}


def _names(path: str, torch: bool) -> Iterator[str]:
    stem, leaf = path.rsplit("/", 1)
    leaves = [_TORCH_LEAF[leaf] if torch else leaf]
    if stem.endswith("/LayerNorm"):
        leaves.append(_LEGACY_LEAF[leaf])
    for name in leaves:
        full = f"{stem}/{name}"
        for variant in {full, full.removeprefix("bert/")}:
            yield variant.replace("/", ".") if torch else variant


def _linear(stem: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{stem}/kernel": (inputs, outputs), f"{stem}/bias": (outputs,)}


def _layer_norm(stem: str, hidden: int) -> dict[str, Shape]:
    return {f"{stem}/LayerNorm/scale": (hidden,), f"{stem}/LayerNorm/bias": (hidden,)}
