"""A trained model as small as it claims to be: every parameter by the scheme that stores it in the fewest bytes.

What is packed is what the evaluation computed with: encoder kernels and embedding tables of a quantized model as codes
and scales by `bertjax.compress.quantize`'s one definition, everything else in float32, dropped weights not at all.
Restored, the quantized parameters are the dequantized ones, which have the same codes and scales again: on the machine
that packs, the restored model gives the logits of the original to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from bertjax.artifact.codes import Codes, code_bits, quantized, scale_axis
from bertjax.artifact.packed.entropy import count_symbols, entropy_bytes
from bertjax.artifact.packed.schemes import symbols_of
from bertjax.artifact.packed.storing import Stored, decode, decode_codes, encode
from bertjax.compress.quantize import largest_code
from bertjax.config import InputError, QuantizeConfig, require
from bertjax.params import ENCODER_KERNELS, Params, nest, paths

FloatType: TypeAlias = Literal["float32", "float16", "bfloat16"]

PARTS = {"embeddings": r"bert/embeddings/.*", "encoder kernels": ENCODER_KERNELS, "rest": r".*"}
"""The parts whose bytes are told apart: a parameter belongs to the first pattern that its whole path matches."""

_COLUMNS = {"values": "values", "frequencies": "values", "mask": "places", "index": "places", "scale": "scales"}


@dataclass(frozen=True)
class Packed:
    """A packed model; see `bertjax.artifact.packed.file` for its file."""

    parameters: Mapping[str, Stored]
    """By path (see `bertjax.params`)."""


class PartBytes(NamedTuple):
    """Bytes of a part of a packed model, without the file's header."""

    values: int
    """Stored codes and floats, and the frequencies of coded ones."""
    places: int
    """Which weights are stored: masks, and indices in groups."""
    scales: int

    @property
    def total(self) -> int:
        """All three."""
        return sum(self)


def pack(
    params: Params, quantize: QuantizeConfig, *, float_type: FloatType = "float32", entropy: bool = False
) -> Packed:
    """Packs a model's parameters; `unpack` gives what its evaluation computed with.

    Args:
        params: The float weights with dropped ones at zero, as a trial's folder holds them. Of any float type of at
            most 32 bits.
        quantize: How the model's products and tables are quantized.
        float_type: Rounds what is not quantized to this type first. Only float32 keeps the model's logits.
        entropy: Entropy-code codes and masks where it saves (extra `entropy`).

    Raises:
        InputError: A parameter is not finite, also once it is rounded, or no float of at most 32 bits; or a library
            is missing.
    """
    require(float_type in get_args(FloatType),
            f"float_type must be one of {', '.join(get_args(FloatType))}, got {float_type!r}")
    packed = {}
    for path, leaf in paths(params).items():
        array = _finite_float32(path, leaf)
        axis, bits = scale_axis(path), code_bits(path, quantize)
        found = _rounded(path, array, float_type) if bits is None else quantized(array, bits, axis)
        packed[path] = encode(found, axis, entropy)
    return Packed(packed)


def unpack(packed: Packed) -> Params:
    """The parameters of a packed model in float32; quantized ones are the dequantized values.

    Raises:
        InputError: The tensors of a parameter are not those of its scheme, or cannot be decoded here.
    """
    found = {}
    for path, stored in packed.parameters.items():
        try:
            found[path] = decode(stored)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise InputError(f"{path}: its tensors are not those of its scheme, {stored.scheme.name} ({error}); "
                             "pack the model again") from None
    return nest(found)


def packed_bytes(packed: Packed) -> dict[str, PartBytes]:
    """Bytes of each of `PARTS`, without the names and shapes in the header of a file."""
    totals = {part: dict.fromkeys(PartBytes._fields, 0) for part in PARTS}
    for path, stored in packed.parameters.items():
        part = next(part for part, pattern in PARTS.items() if re.fullmatch(pattern, path))
        for role, tensor in stored.tensors.items():
            totals[part][_COLUMNS[role]] += tensor.nbytes
    return {part: PartBytes(**found) for part, found in totals.items()}


def size_bytes_entropy(packed: Packed) -> int:
    """Bytes of a packed model if each array of codes, and each mask of floats, took its empirical entropy.

    The entropy is that of independent symbols (order 0), each array with its own frequencies. Scales and the floats
    that are stored count as they are, frequencies not at all. The same of a model packed with entropy coding and
    without.
    """
    total = 0.0
    for stored in packed.parameters.values():
        scheme, tensors = stored
        if scheme.is_float:
            total += tensors["values"].nbytes
            if "mask" in tensors:
                total += entropy_bytes(np.array([scheme.size - scheme.kept, scheme.kept]))
            continue
        symbols = symbols_of(Codes(decode_codes(stored), tensors["scale"], scheme.bits))
        total += entropy_bytes(count_symbols(symbols, 2 * largest_code(scheme.bits) + 1)) + tensors["scale"].nbytes
    return round(total)


def require_finite(path: str, array: Float[np.ndarray, "*shape"], done: str) -> None:
    """Raises `InputError` where a parameter is not finite, which then cannot be `done`."""
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    require(bad == 0, f"{path} must be finite to be {done}, got {bad} of {array.size} numbers that are not: the model "
                      "has diverged; train it again, or take another one")


def _finite_float32(path: str, leaf: Shaped[np.ndarray, "*shape"] | jax.Array) -> Float[np.ndarray, "*shape"]:
    array = np.asarray(leaf)
    require(jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize <= 4,
            f"{path} must hold floats of at most 32 bits to be packed, got {array.dtype}")
    array = np.ascontiguousarray(array.astype(np.float32, copy=False))
    require_finite(path, array, "packed")
    return array.reshape(np.shape(leaf))


def _rounded(path: str, array: Float[np.ndarray, "*shape"], to: FloatType) -> Float[np.ndarray, "*shape"]:
    if to == "float32":
        return array
    with np.errstate(over="ignore"):
        made = array.astype(jnp.dtype(to)).astype(np.float32)
    require(bool(np.isfinite(made).all()), f"{path} has numbers too large for {to}; take bfloat16 or float32")
    return made
