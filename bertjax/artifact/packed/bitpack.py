"""Small numbers as bytes: codes of 1 to 8 bits without gaps, five trits to a byte, some places of each group of m."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

TRITS_PER_BYTE = 5
"""3^5 = 243 fit in a byte: 1.6 bits for each digit, where 1.585 is the least possible."""

_POWERS = np.uint8(3) ** np.arange(TRITS_PER_BYTE, dtype=np.uint8)
_TRITS = (np.arange(256)[:, None] // _POWERS.astype(int) % 3).astype(np.uint8)
"""The digits of each byte, the first one with weight 1."""


def pack_bits(numbers: UInt8[np.ndarray, " count"], bits: int) -> UInt8[np.ndarray, " bytes"]:
    """Number i in the bits i * `bits` and following, counted from the lowest bit of the first byte.

    Args:
        numbers: Below 2^bits.
        bits: 1 to 8.
    """
    if bits == 8:
        return numbers
    if bits == 1:
        return np.packbits(numbers, bitorder="little")
    # Eight numbers are `bits` whole bytes: they meet in a 64-bit word, whose upper bytes are left out.
    eights = _padded(numbers, 8)
    words = np.zeros(len(eights), "<u8")
    for i in range(8):
        words |= eights[:, i].astype(np.uint64) << np.uint64(bits * i)
    packed = words.view(np.uint8).reshape(-1, 8)[:, :bits]
    return packed.reshape(-1)[:bytes_of_bits(numbers.size, bits)]


def unpack_bits(packed: UInt8[np.ndarray, " bytes"], bits: int, count: int) -> UInt8[np.ndarray, " count"]:
    """The `count` numbers that `pack_bits` packed. Raises `ValueError` where there are not as many bytes."""
    _check_bytes(packed, bytes_of_bits(count, bits))
    if bits == 8:
        return packed
    if bits == 1:
        return np.unpackbits(packed, count=count, bitorder="little")
    padded = _padded(packed, bits)
    words = np.zeros((len(padded), 8), np.uint8)
    words[:, :bits] = padded
    eights = np.empty((len(padded), 8), np.uint8)
    for i in range(8):
        eights[:, i] = words.view("<u8")[:, 0] >> np.uint64(bits * i) & np.uint64(2**bits - 1)
    return eights.reshape(-1)[:count]


def bytes_of_bits(count: int, bits: int) -> int:
    """Bytes of `count` packed numbers of `bits` bits."""
    return -(-count * bits // 8)


def pack_trits(digits: UInt8[np.ndarray, " count"]) -> UInt8[np.ndarray, " bytes"]:
    """Digits 0 to 2, `TRITS_PER_BYTE` in a byte, the first one with weight 1."""
    fives = _padded(digits, TRITS_PER_BYTE)
    packed = np.zeros(len(fives), np.uint8)
    for i, power in enumerate(_POWERS):
        packed += fives[:, i] * power
    return packed


def unpack_trits(packed: UInt8[np.ndarray, " bytes"], count: int) -> UInt8[np.ndarray, " count"]:
    """The `count` digits that `pack_trits` packed. Raises `ValueError` where there are not as many bytes."""
    _check_bytes(packed, bytes_of_trits(count))
    return _TRITS[packed].reshape(-1)[:count]


def bytes_of_trits(count: int) -> int:
    """Bytes of `count` packed trits."""
    return -(-count // TRITS_PER_BYTE)


def fullest_group(nonzero: Bool[np.ndarray, "groups m others"]) -> int:
    """The greatest number of nonzeros in a group; at least 1."""
    return max(int(nonzero.sum(1, dtype=np.uint8).max()), 1)


def gather_groups(
    array: Shaped[np.ndarray, "groups m others"], nonzero: Bool[np.ndarray, "groups m others"], n: int
) -> tuple[Shaped[np.ndarray, "groups n others"], UInt8[np.ndarray, "groups n others"]]:
    """The nonzeros of each group in order and where in it they stand; a group with fewer than `n` ends in zeros."""
    rank = np.cumsum(nonzero, axis=1, dtype=np.uint8)
    shape = array.shape[0], n, array.shape[2]
    values, index = np.zeros(shape, array.dtype), np.zeros(shape, np.uint8)
    for i in range(n):
        hit = nonzero & (rank == i + 1)
        at = hit.argmax(1)
        found = np.take_along_axis(array, at[:, None], 1)[:, 0]
        values[:, i] = np.where(hit.any(1), found, values[:, i])
        index[:, i] = at
    return values, index


def scatter_groups(
    values: Shaped[np.ndarray, "groups n others"], index: UInt8[np.ndarray, "groups n others"], m: int
) -> Shaped[np.ndarray, "groups m others"]:
    """The inverse of `gather_groups`. Raises `IndexError` for an index of `m` or more."""
    array = np.zeros((values.shape[0], m, values.shape[2]), values.dtype)
    # From the last to the first: what fills up a group stands behind its nonzeros, and must not replace one of them.
    for i in reversed(range(values.shape[1])):
        np.put_along_axis(array, index[:, i:i + 1].astype(np.int64), values[:, i:i + 1], 1)
    return array


def _padded(numbers: UInt8[np.ndarray, " count"], size: int) -> UInt8[np.ndarray, "rows size"]:
    """Rows of `size` numbers, the last one filled up with zeros."""
    return np.pad(numbers, (0, -numbers.size % size)).reshape(-1, size)


def _check_bytes(packed: UInt8[np.ndarray, " bytes"], expected: int) -> None:
    if packed.size != expected:
        raise ValueError(f"must be {expected} bytes, got {packed.size}")
