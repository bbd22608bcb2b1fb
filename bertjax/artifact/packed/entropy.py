"""Symbols coded with as many bits as they tell: entropy coding by the library constriction (extra `entropy`).

A decoder must rebuild the coder's model to the last bit. So the model of a stream is a table of integers, which is
stored; constriction makes fixed-point numbers of it by exact sums, one quotient and a product each, which every machine
rounds alike (`perfect=False`; its other way compares logarithms).
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Shaped, UInt8, UInt16

from bertjax.config import InputError

MOST_FREQUENT = 2**16 - 1
"""Entry of a symbol that makes up a whole stream; others in proportion. Costs 0.001 % of a model's bytes (measured)."""

_COUNTED_AT_ONCE = 2**22
"""Symbols counted at once: counting makes 8 bytes of each."""


def count_symbols(symbols: UInt8[np.ndarray, " count"], kinds: int) -> Int[np.ndarray, " kinds"]:
    """How often each of the numbers 0 to `kinds` - 1 occurs."""
    counts = np.zeros(kinds, np.int64)
    for start in range(0, symbols.size, _COUNTED_AT_ONCE):
        counts += np.bincount(symbols[start:start + _COUNTED_AT_ONCE], minlength=kinds)
    return counts


def entropy_bytes(counts: Int[np.ndarray, " kinds"]) -> float:
    """Bytes below which no coder gets symbols that are independent and occur so often: their empirical entropy."""
    some = counts[counts > 0].astype(np.float64)
    return float(np.sum(some * np.log2(some.sum() / some))) / 8


def frequencies(counts: Int[np.ndarray, " kinds"]) -> UInt16[np.ndarray, " kinds"]:
    """The table that a stream of symbols with these counts is coded by; no symbol that occurs has 0."""
    total = max(int(counts.sum()), 1)
    scaled = (counts * MOST_FREQUENT + total // 2) // total
    return np.where(counts > 0, np.maximum(scaled, 1), 0).astype(np.uint16)


def encode_symbols(
    symbols: Shaped[np.ndarray, " count"], table: UInt16[np.ndarray, " kinds"]
) -> UInt8[np.ndarray, " bytes"]:
    """Symbols 0 to kinds - 1 as the words of an ANS coder (arXiv:1311.2540), the lowest byte first.

    Raises:
        InputError: constriction is not installed.
    """
    stream = _stream()
    coder = stream.stack.AnsCoder()
    coder.encode_reverse(symbols.astype(np.int32), _model(stream, table))
    return coder.get_compressed().astype("<u4").view(np.uint8)


def decode_symbols(
    coded: UInt8[np.ndarray, " bytes"], table: UInt16[np.ndarray, " kinds"], count: int
) -> Int32[np.ndarray, " count"]:
    """The `count` symbols that `encode_symbols` coded by the same table.

    Raises:
        InputError: constriction is not installed.
    """
    stream = _stream()
    coder = stream.stack.AnsCoder(coded.view("<u4").astype(np.uint32))
    return coder.decode(_model(stream, table), count)


def _stream() -> Any:
    try:
        return importlib.import_module("constriction").stream
    except ModuleNotFoundError:
        raise InputError("entropy coding needs the package constriction: pip install 'bertjax[entropy]'") from None


def _model(stream: Any, table: UInt16[np.ndarray, " kinds"]) -> Any:
    return stream.model.Categorical(table.astype(np.float32), perfect=False)
