"""Parameter trees seen as flat paths: select weights by pattern, count them, add up their bytes.

A parameter tree is a nested dict with arrays (or `jax.ShapeDtypeStruct`s) as leaves, in the layout of Hugging Face's
former Flax BERT. The path of a leaf is its keys joined by "/", e.g. "bert/encoder/layer/0/output/dense/kernel".
A pattern is a regular expression that must match a whole path.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeAlias

import jax
import numpy as np

Params: TypeAlias = dict[str, Any]
"""Nested dicts of arrays, or of `jax.ShapeDtypeStruct`s."""

ENCODER_KERNELS = r"bert/encoder/layer/\d+/(attention/self/(query|key|value)|attention/output/dense|" \
                  r"intermediate/dense|output/dense)/kernel"
"""The six kernels of each encoder layer (query, key, value, attention output, FFN in and out) that Q and P compress."""

EMBEDDINGS = r"bert/embeddings/(word|position|token_type)_embeddings/embedding"
"""The three embedding tables, one row per token, position or segment."""

NO_DECAY = r".*/(bias|LayerNorm/scale)"
"""Every bias (LayerNorm's too) and LayerNorm scale: what weight decay leaves alone."""


def paths(params: Params) -> dict[str, Any]:
    """The leaves by path, in the order of `jax.tree.leaves`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(keys, simple=True, separator="/"): leaf for keys, leaf in leaves}


def nest(leaves: dict[str, Any]) -> Params:
    """The inverse of `paths`: nested dicts from leaves by path. No path may be the beginning of another one."""
    tree: Params = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def select(params: Params, pattern: str) -> Params:
    """A tree of the same structure with True where the whole path matches `pattern`."""
    compiled = re.compile(pattern)
    matches = [compiled.fullmatch(path) is not None for path in paths(params)]
    return jax.tree.unflatten(jax.tree.structure(params), matches)


def count(params: Params, pattern: str | None = None) -> int:
    """Number of scalars in the leaves whose path matches `pattern` (None: in all leaves)."""
    return sum(math.prod(leaf.shape) for leaf in _matching(params, pattern))


def num_bytes(params: Params, pattern: str | None = None) -> int:
    """Bytes that the leaves whose path matches `pattern` (None: all leaves) take in memory, by shape and dtype."""
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in _matching(params, pattern))


def _matching(params: Params, pattern: str | None) -> list[Any]:
    return [leaf for path, leaf in paths(params).items() if pattern is None or re.fullmatch(pattern, path)]
