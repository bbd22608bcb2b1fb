"""What a packed model is made of, and what each convention calls its size."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bertjax.artifact.load import load
from bertjax.artifact.named_sizes import NamedSize, named_sizes
from bertjax.artifact.packed.model import PackedModel, find_packed, read_packed_model
from bertjax.artifact.packed.pack import Packed, PartBytes, packed_bytes
from bertjax.artifact.packed.storing import Stored, decode, decode_codes
from bertjax.artifact.packed_folder import pack_loaded
from bertjax.config import InputError


class LayerRow(NamedTuple):
    """Parameters of one layer that are stored alike."""

    layer: str
    name: str
    """Which they are: kernels, vectors (biases and LayerNorm) or a table."""
    scheme: str
    count: int
    """Of parameters."""
    zeros: int
    """Parameters that are zero: of codes, those that rounding made zero too."""
    bytes: PartBytes


@dataclass(frozen=True)
class Inspection:
    """A packed model taken apart."""

    model: PackedModel
    where: str
    """The file, or that it was packed for this."""
    file_bytes: int
    rows: tuple[LayerRow, ...]
    """From the embeddings to the task head."""
    parts: dict[str, PartBytes]
    """Bytes of each of `bertjax.artifact.packed.pack.PARTS`."""
    sizes: tuple[NamedSize, ...]

    @property
    def header_bytes(self) -> int:
        """Bytes of the file that are names, shapes, schemes, settings and the checksum."""
        return self.file_bytes - sum(found.total for found in self.parts.values())


def inspect_model(source: str | os.PathLike[str]) -> Inspection:
    """Takes a packed model apart, or any model that `load` takes, which is packed in memory for it.

    Of a trial's folder it takes `packed/` where there is one.

    Raises:
        InputError: No such model, or one that is damaged.
    """
    file = find_packed(source)
    if file is not None:
        model, where, num_bytes = read_packed_model(file), str(file), file.stat().st_size
    else:
        model = pack_loaded(load(source))
        where, num_bytes = f"{source}, packed in memory", model.num_bytes
    try:
        rows = layer_rows(model.packed)
        sizes = named_sizes(model, num_bytes)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise InputError(f"{where}: its tensors cannot be decoded ({error})") from None
    return Inspection(model, where, num_bytes, rows, packed_bytes(model.packed), sizes)


def layer_rows(packed: Packed) -> tuple[LayerRow, ...]:
    """The parameters by layer, those of a layer that have one kind and one scheme together."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for path in sorted(packed.parameters, key=_order):
        key = *_place(path), packed.parameters[path].scheme.name
        groups.setdefault(key, []).append(path)
    made = []
    for (layer, name, scheme), found in groups.items():
        stored = [packed.parameters[path] for path in found]
        parts = packed_bytes(Packed(dict(zip(found, stored, strict=True)))).values()
        total = PartBytes(sum(part.values for part in parts), sum(part.places for part in parts),
                          sum(part.scales for part in parts))
        made.append(LayerRow(layer, name, scheme, sum(one.scheme.size for one in stored),
                             sum(map(_zeros, stored)), total))
    return tuple(made)


def _place(path: str) -> tuple[str, str]:
    """The layer of a parameter, and what it is in it."""
    kind = "kernels" if path.endswith("/kernel") else "vectors"
    if found := re.match(r"bert/encoder/layer/(\d+)/", path):
        return f"layer {found[1]}", kind
    if found := re.fullmatch(r"bert/embeddings/(\w+)_embeddings/embedding", path):
        return "embeddings", f"{found[1].replace('_', ' ')} table"
    if path.startswith("bert/embeddings/"):
        return "embeddings", "vectors"
    return ("pooler" if path.startswith("bert/pooler/") else "task head"), kind


def _order(path: str) -> tuple[int, int, int, str]:
    """Embeddings with the words first, layers by number, pooler, head; kernels before vectors."""
    layer, name = _place(path)
    kind, _, number = layer.partition(" ")
    stage = ("embeddings", "layer", "pooler", "task").index(kind)
    names = ("word table", "position table", "token type table", "kernels", "vectors")
    return stage, int(number) if kind == "layer" else 0, names.index(name), path


def _zeros(stored: Stored) -> int:
    array = decode(stored) if stored.scheme.is_float else decode_codes(stored)
    return array.size - int(np.count_nonzero(array))
