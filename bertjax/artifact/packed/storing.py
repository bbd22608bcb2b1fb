"""One array to packed tensors and back, by the scheme that takes the fewest bytes; no file is touched."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int8, Shaped, UInt16

from bertjax.artifact.codes import Codes
from bertjax.artifact.packed.bitpack import (
    gather_groups,
    pack_bits,
    pack_trits,
    scatter_groups,
    unpack_bits,
    unpack_trits,
)
from bertjax.artifact.packed.entropy import count_symbols, decode_symbols, encode_symbols, frequencies
from bertjax.artifact.packed.schemes import (
    TENSOR_BYTES,
    Scheme,
    as_levels,
    code_schemes,
    float_schemes,
    grouped,
    symbols_of,
)
from bertjax.compress.quantize import dequantize, largest_code
from bertjax.config import InputError

Tensors: TypeAlias = Mapping[str, np.ndarray]
"""Flat arrays by their role: `values`, `scale`, `mask`, `index`, `frequencies`."""


class Stored(NamedTuple):
    """An array as it is stored."""

    scheme: Scheme
    tensors: Tensors


def encode(array: Float[np.ndarray, "*shape"] | Codes, axis: int, coded: bool = False) -> Stored:
    """Stores an array by the scheme with the fewest bytes, of those that give every bit of it back.

    Args:
        array: Finite float32; or the codes of quantized weights, which stand for their dequantized values.
        axis: 0 or -1: along it weights share a scale, and may make groups.
        coded: Take entropy coding where it saves.

    Raises:
        InputError: `coded`, and its library is not installed.
    """
    if isinstance(array, Codes):
        codes, schemes = array, list(code_schemes(array, axis, coded))
        # Floats take 2 bytes or more each, and making them much memory: only for the tiniest arrays can they win.
        least = min(cost for cost, _ in schemes)
        floats = dequantize(*array) if least > 2 * array.codes.size + TENSOR_BYTES else None
    else:
        codes, floats = as_levels(array, axis), array
        schemes = [] if codes is None else list(code_schemes(codes, axis, coded))
    if floats is not None:
        schemes += float_schemes(floats, axis, coded)
    # A mask takes as many bytes as the indices of 2:4 or 4:16; what is a pattern is stored as one.
    _, scheme = min(schemes, key=lambda found: (found[0], found[1].places != "groups"))
    chosen = floats if scheme.is_float else codes
    assert chosen is not None
    return store(scheme, chosen)


def store(scheme: Scheme, array: Float[np.ndarray, "*shape"] | Codes) -> Stored:
    """Stores an array by one of the schemes that `code_schemes` or `float_schemes` have for it."""
    return _store_codes(scheme, array) if isinstance(array, Codes) else _store_floats(scheme, array)


def decode(stored: Stored) -> Float[np.ndarray, "*shape"]:
    """The float32 array that was encoded; of codes, their dequantized values.

    Raises:
        InputError: A coded stream does not give what was coded, or its library is not installed.
        ValueError, IndexError, KeyError, TypeError: The tensors are not those of the scheme.
    """
    scheme, tensors = stored
    if not scheme.is_float:
        return dequantize(decode_codes(stored), tensors["scale"].reshape(scheme.scale_shape), scheme.bits)
    packed = tensors["values"]
    if scheme.values == "bfloat16":
        kept = (packed.astype(np.uint32) << np.uint32(16)).view(np.float32)
    else:
        kept = packed.astype(scheme.values).astype(np.float32, copy=False)
    return _placed(stored, kept)


def decode_codes(stored: Stored) -> Int8[np.ndarray, "*shape"]:
    """The codes of an array that is stored as codes. Raises what `decode` raises."""
    scheme, tensors = stored
    if scheme.coded:
        symbols = decode_symbols(tensors["values"], tensors["frequencies"], scheme.size)
        codes = (symbols - largest_code(scheme.bits)).astype(np.int8)
        _check_crc32(scheme, codes)
        return codes.reshape(scheme.shape)
    if scheme.values == "ternary":
        kept = unpack_trits(tensors["values"], scheme.kept).view(np.int8) - np.int8(1)
    elif scheme.values == "binary":
        kept = 2 * unpack_bits(tensors["values"], 1, scheme.kept).view(np.int8) - np.int8(1)
    else:
        sign = np.uint8(2 ** (scheme.bits - 1))  # two's complement: the highest bit counts negative
        kept = ((unpack_bits(tensors["values"], scheme.bits, scheme.kept) ^ sign) - sign).view(np.int8)
    return _placed(stored, kept)


def decode_mask(stored: Stored) -> Bool[np.ndarray, "*shape"]:
    """True where a weight is stored, of an array stored with a mask. Raises what `decode` raises."""
    scheme, tensors = stored
    if not scheme.coded:
        return unpack_bits(tensors["mask"], 1, scheme.size).view(bool).reshape(scheme.shape)
    symbols = decode_symbols(tensors["mask"], _mask_frequencies(scheme), scheme.size).astype(np.uint8)
    _check_crc32(scheme, symbols)
    return symbols.view(bool).reshape(scheme.shape)


def _store_floats(scheme: Scheme, array: Float[np.ndarray, "*shape"]) -> Stored:
    kept, places, scheme = _chosen(scheme, array, array.view(np.uint32) != 0)
    if scheme.values == "bfloat16":
        packed = (kept.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    else:
        packed = kept.astype(scheme.values, copy=False)
    return Stored(scheme, {"values": packed, **places})


def _store_codes(scheme: Scheme, quantized: Codes) -> Stored:
    codes, bound = quantized.codes, largest_code(quantized.bits)
    scale = {"scale": np.ascontiguousarray(quantized.scale.reshape(-1))}
    if scheme.coded:
        symbols = symbols_of(quantized)
        table = frequencies(count_symbols(symbols, 2 * bound + 1))
        scheme = dataclasses.replace(scheme, crc32=_crc32(codes))
        return Stored(scheme, {"values": encode_symbols(symbols, table), "frequencies": table, **scale})
    kept, places, scheme = _chosen(scheme, codes, codes != 0)
    if scheme.values == "ternary":
        packed = pack_trits((kept + np.int8(1)).view(np.uint8))
    elif scheme.values == "binary":
        packed = pack_bits((kept > 0).view(np.uint8), 1)
    else:
        packed = pack_bits(kept.view(np.uint8) & np.uint8(2**scheme.bits - 1), scheme.bits)
    return Stored(scheme, {"values": packed, **places, **scale})


def _chosen(
    scheme: Scheme, array: Shaped[np.ndarray, "*shape"], nonzero: Bool[np.ndarray, "*shape"]
) -> tuple[Shaped[np.ndarray, " kept"], dict[str, np.ndarray], Scheme]:
    """The values that the scheme stores, the tensors that say where they stand, and the scheme with their checksum."""
    if scheme.places == "all":
        return np.ascontiguousarray(array.reshape(-1)), {}, scheme
    if scheme.group is not None:
        n, m = scheme.group
        values, index = gather_groups(grouped(array, m, scheme.axis), grouped(nonzero, m, scheme.axis), n)
        return values.reshape(-1), {"index": pack_bits(index.reshape(-1), scheme.index_bits)}, scheme
    bits = np.ascontiguousarray(nonzero).reshape(-1).view(np.uint8)
    if not scheme.coded:
        return array[nonzero], {"mask": pack_bits(bits, 1)}, scheme
    mask = encode_symbols(bits, _mask_frequencies(scheme))
    return array[nonzero], {"mask": mask}, dataclasses.replace(scheme, crc32=_crc32(bits))


def _placed(stored: Stored, kept: Shaped[np.ndarray, " kept"]) -> Shaped[np.ndarray, "*shape"]:
    """The array with the stored values in their places, and zeros elsewhere."""
    scheme, tensors = stored
    if scheme.places == "all":
        return kept.reshape(scheme.shape)
    if scheme.group is not None:
        n, m = scheme.group
        index = unpack_bits(tensors["index"], scheme.index_bits, scheme.kept)
        groups = scheme.size // m, n, -1
        if scheme.axis == 0:
            groups = scheme.shape[0] // m, n, -1
        return scatter_groups(kept.reshape(groups), index.reshape(groups), m).reshape(scheme.shape)
    array = np.zeros(scheme.shape, kept.dtype)
    array[decode_mask(stored)] = kept
    return array


def _mask_frequencies(scheme: Scheme) -> UInt16[np.ndarray, " 2"]:
    """The table of a coded mask; it follows from the number of stored values."""
    return frequencies(np.array([scheme.size - scheme.kept, scheme.kept]))


def _crc32(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).data)


def _check_crc32(scheme: Scheme, found: np.ndarray) -> None:
    if _crc32(found) != scheme.crc32:
        raise InputError("entropy decoding gave other numbers than were coded: this version of constriction does not "
                         "read what another one wrote; install the version of bertjax's constraints.txt")
