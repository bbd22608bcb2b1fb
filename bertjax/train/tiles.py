"""How arrays of a compiled program lie in a TPU's memory, read from its optimized HLO text.

A TPU keeps the two fastest axes of an array in tiles, of 8 x 128 numbers if nothing speaks for smaller ones, and fills
up what does not divide by them. So a short axis is cheap only where it is not one of these two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from bertjax.train.hlo import parse

ITEM_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s8": 1, "u8": 1, "pred": 1}
"""By element type; others have no arrays in a train step."""

ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(?::T\(([\d,]+)\))?)?")

PLACELESS = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call")
"""Opcodes whose results are arrays that lie somewhere already."""


@dataclass(frozen=True)
class Tiled:
    """An array and how it lies in memory."""

    dtype: str
    dims: tuple[int, ...]
    fastest_first: tuple[int, ...]
    """Axes, from the one whose neighbours lie side by side on; HLO's `minor_to_major`."""
    tile: tuple[int, ...]
    """Numbers along the fastest axes, the fastest one last; empty where the array is not tiled."""

    @property
    def num_bytes(self) -> int:
        """Without what fills up tiles."""
        return math.prod(self.dims) * ITEM_BYTES[self.dtype]

    @property
    def padded_bytes(self) -> int:
        """With it."""
        lengths = [self.dims[axis] for axis in reversed(self.fastest_first)]
        if len(self.tile) > len(lengths):
            numbers = _up(math.prod(lengths), math.prod(self.tile))
        else:
            rest = len(lengths) - len(self.tile)
            numbers = math.prod(lengths[:rest]) * math.prod(map(_up, lengths[rest:], self.tile))
        return numbers * ITEM_BYTES[self.dtype]

    def __str__(self) -> str:
        """As HLO prints it."""
        order, tile = (",".join(map(str, numbers)) for numbers in (self.fastest_first, self.tile))
        return f"{self.dtype}[{','.join(map(str, self.dims))}]{{{order}{f':T({tile})' if tile else ''}}}"


class Padding(NamedTuple):
    """What fills up tiles, as a share of the bytes without it."""

    arguments: float
    """Of what a program is called with: in a train step parameters, moments, masks and the table of rows."""
    results: float
    """Of what its instructions write: in a train step mostly activations and gradients."""


def tiled_arrays(shape: str) -> list[Tiled]:
    """The arrays of an instruction's shape, as HLO prints it: one, or several in parentheses."""
    found = []
    for dtype, dims, order, tile in ARRAY.findall(shape):
        if dtype in ITEM_BYTES:
            axes = _numbers(dims)
            found.append(Tiled(dtype, axes, _numbers(order) or tuple(reversed(range(len(axes)))), _numbers(tile)))
    return found


def argument_arrays(text: str) -> list[Tiled]:
    """What a program is called with.

    Args:
        text: Its optimized HLO (`compiled.as_text()`).
    """
    entry = _entry(text)
    return [array for one in parse(text) if one.opcode == "parameter" and one.computation == entry
            for array in tiled_arrays(one.shape)]


def written_arrays(text: str) -> Iterator[Tiled]:
    """What the instructions of a program write to memory, each once however often it runs; what is computed within a
    fusion is not written."""
    fused = set(re.findall(r"calls=%([\w.-]+)", text))
    for one in parse(text):
        if one.computation not in fused and one.opcode not in PLACELESS:
            yield from tiled_arrays(one.shape)


def tile_padding(text: str) -> Padding:
    """How much of a program's memory fills up tiles; see `argument_arrays` for `text`."""
    return Padding(_share(argument_arrays(text)), _share(list(written_arrays(text))))


def _share(arrays: list[Tiled]) -> float:
    return sum(array.padded_bytes for array in arrays) / max(sum(array.num_bytes for array in arrays), 1) - 1


def _entry(text: str) -> str:
    found = re.search(r"^ENTRY %([\w.-]+)", text, re.MULTILINE)
    return found[1] if found else ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
