"""The ways to store one array, what each takes, and which one takes least: arithmetic on shapes and counts.

A scheme says two things: which weights are stored (`places`), and as what (`values`).

| places | stored |
|---|---|
| `all` | every weight |
| `mask` | those that are not zero, and a bit for each weight that says which |
| `groups` | N of each M consecutive ones, and where in the group they stand, log2 M bits each |

| values | stored |
|---|---|
| `float32`, `float16`, `bfloat16` | the number; in 16 bits only where they hold every one of the array exactly |
| `int` | a code of 2 to 8 bits; a weight is its code times the scale of its slice |
| `ternary` | codes -1, 0 and 1, five in a byte |
| `binary` | codes -1 and 1, one bit each |

A coded scheme entropy-codes the codes of `all` places, or the mask of floats (`bertjax.artifact.packed.entropy`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from bertjax.artifact.codes import Codes
from bertjax.artifact.packed.bitpack import bytes_of_bits, bytes_of_trits, fullest_group
from bertjax.artifact.packed.entropy import count_symbols, entropy_bytes
from bertjax.compress.quantize import largest_code
from bertjax.config import require

Places: TypeAlias = Literal["all", "mask", "groups"]
Values: TypeAlias = Literal["float32", "float16", "bfloat16", "int", "ternary", "binary"]

GROUP_SIZES = (4, 8, 16)
"""The M of N:M that are looked for: powers of two, so that a place is a whole number of bits."""

TENSOR_BYTES = 128
"""What one more tensor costs in a file's header: no tiny array is taken apart to save less."""

CODER_BYTES = 16
"""What an entropy coder may take beyond the entropy: its last state."""


@dataclass(frozen=True)
class Scheme:
    """How an array is stored; with its tensors, all that is needed to restore it."""

    shape: tuple[int, ...]
    values: Values
    bits: int
    """Of a stored value: 32 or 16 of a float, 2 to 8 of a code; 2 for ternary and binary, which take fewer."""
    places: Places
    kept: int
    """Number of stored values."""
    axis: int = 0
    """Along which weights share a scale and make groups: 0 or -1."""
    group: tuple[int, int] | None = None
    """N and M of `groups`."""
    coded: bool = False
    """The codes, or the mask, are entropy-coded."""
    crc32: int | None = None
    """Of the codes or the mask that a coded stream must give, so that a decoder that errs is found out."""

    def __post_init__(self) -> None:
        for name, kinds in (("values", Values), ("places", Places)):
            require(getattr(self, name) in get_args(kinds),
                    f"{name} must be one of {', '.join(get_args(kinds))}, got {getattr(self, name)!r}: a newer bertjax "
                    "has more schemes, upgrade it")

    @property
    def size(self) -> int:
        """Weights of the array, stored or not."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Numbers are stored, not codes."""
        return "float" in self.values

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """The shape of the array with length 1 along `axis`; only of codes, which have at least one axis."""
        axis = self.axis % len(self.shape)
        return *self.shape[:axis], 1, *self.shape[axis + 1:]

    @property
    def index_bits(self) -> int:
        """Bits of a place in a group."""
        return 0 if self.group is None else (self.group[1] - 1).bit_length()

    @property
    def name(self) -> str:
        """In words, e.g. "int8", "mask + int8", "2:4 + float32", "int4, coded"."""
        places = {"all": "", "mask": "mask + ", "groups": f"{':'.join(map(str, self.group or ()))} + "}[self.places]
        return f"{places}{self.values}{self.bits if self.values == 'int' else ''}{', coded' if self.coded else ''}"


def tensor_bytes(scheme: Scheme) -> dict[str, int]:
    """Bytes of each tensor, by its role, of an array stored by a scheme that is not coded."""
    found = {"values": bytes_of_trits(scheme.kept) if scheme.values == "ternary" else
             bytes_of_bits(scheme.kept, 1 if scheme.values == "binary" else scheme.bits)}
    if scheme.places == "mask":
        found["mask"] = bytes_of_bits(scheme.size, 1)
    if scheme.places == "groups":
        found["index"] = bytes_of_bits(scheme.kept, scheme.index_bits)
    if not scheme.is_float:
        found["scale"] = 4 * math.prod(scheme.scale_shape)
    return found


def code_schemes(quantized: Codes, axis: int, coded: bool) -> Iterator[tuple[float, Scheme]]:
    """The schemes that store these codes exactly, each with the bytes it takes; entropy coding only if `coded`."""
    codes, bits = quantized.codes, quantized.bits
    nonzero = codes != 0
    kept = int(np.count_nonzero(nonzero))
    dense = Scheme(codes.shape, "int", bits, "all", codes.size, axis)
    yield _priced(dense)
    if bits == 2:
        yield _priced(dataclasses.replace(dense, values="ternary"))
        if kept == codes.size:
            yield _priced(dataclasses.replace(dense, values="binary"))
    # Zero codes are not stored: whether pruning or rounding made them is the same to a product.
    masked = dataclasses.replace(dense, values="binary" if bits == 2 else "int", places="mask", kept=kept)
    yield _priced(masked)
    yield from _group_schemes(dense, nonzero, _cost(masked))
    if coded:
        kinds = 2 * largest_code(bits) + 1
        counts = count_symbols(symbols_of(quantized), kinds)
        cost = entropy_bytes(counts) + CODER_BYTES + 2 * kinds + tensor_bytes(dense)["scale"] + 3 * TENSOR_BYTES
        yield cost, dataclasses.replace(dense, coded=True)


def float_schemes(array: Float[np.ndarray, "*shape"], axis: int, coded: bool) -> Iterator[tuple[float, Scheme]]:
    """The schemes that store these float32 numbers exactly, each with the bytes it takes; coded masks only if asked."""
    values = lossless_type(array)
    dense = Scheme(array.shape, values, 32 if values == "float32" else 16, "all", array.size, axis)
    yield _priced(dense)
    nonzero = array.view(np.uint32) != 0  # a negative zero is a number to keep
    kept = int(np.count_nonzero(nonzero))
    if kept == array.size:
        return
    masked = dataclasses.replace(dense, places="mask", kept=kept)
    yield _priced(masked)
    yield from _group_schemes(dense, nonzero, min(_cost(masked), _cost(dense)))
    if coded:
        saved = tensor_bytes(masked)["mask"] - entropy_bytes(np.array([array.size - kept, kept])) - CODER_BYTES
        yield _cost(masked) - saved, dataclasses.replace(masked, coded=True)


def symbols_of(quantized: Codes) -> UInt8[np.ndarray, " count"]:
    """The codes in order, counted from 0: what entropy coding takes."""
    return quantized.codes.reshape(-1).view(np.uint8) + np.uint8(largest_code(quantized.bits))


def lossless_type(array: Float[np.ndarray, "*shape"]) -> Values:
    """The narrowest float type that holds every number of the array; bfloat16 where both of 16 bits do."""
    bits = array.view(np.uint32)
    if not (bits & np.uint32(0xFFFF)).any():
        return "bfloat16"
    if (bits & np.uint32(0x1FFF)).any():  # float16 has 13 bits less behind the point
        return "float32"
    with np.errstate(over="ignore"):
        same = array.astype(np.float16).astype(np.float32).view(np.uint32) == bits
    return "float16" if same.all() else "float32"


def as_levels(array: Float[np.ndarray, "*shape"], axis: int) -> Codes | None:
    """The array as codes of 2 bits if every slice along `axis` holds but 0, one number and its negative; else None.

    Such are constant, binary and ternary matrices. A negative zero has no code.
    """
    if array.ndim == 0 or array.size == 0:
        return None
    one = array[:, :1] if array.ndim == 2 and axis == 0 else array[:1] if axis == -1 else array
    for part in (one, array):  # nearly every matrix already fails in its first slice
        magnitude = np.abs(part)
        peak = np.max(magnitude, axis=axis, keepdims=True)
        if not (((magnitude == peak) & (peak > 0)) | (part.view(np.uint32) == 0)).all():
            return None
    return Codes(np.sign(array).astype(np.int8), np.where(peak == 0, np.float32(1), peak), 2)


def grouped(array: Shaped[np.ndarray, "*shape"], m: int, axis: int) -> Shaped[np.ndarray, "groups m others"]:
    """The array as groups of `m` consecutive numbers along `axis`, 0 or -1, whose length is a multiple of `m`."""
    return array.reshape(-1, m, 1) if axis == -1 else array.reshape(array.shape[0] // m, m, -1)


def _group_schemes(dense: Scheme, nonzero: Bool[np.ndarray, "*shape"], best: float) -> Iterator[tuple[float, Scheme]]:
    """N:M by the fullest group, for each M that could take no more than `best`."""
    for m in GROUP_SIZES:
        if not dense.shape or dense.shape[dense.axis] % m or dense.size == 0:
            continue
        n = max(-(-int(np.count_nonzero(nonzero)) * m // dense.size), 1)  # no fewer: the mean, rounded up
        if _cost(_grouped_scheme(dense, n, m)) > best:
            continue
        n = fullest_group(grouped(nonzero, m, dense.axis))
        yield _priced(_grouped_scheme(dense, n, m))


def _grouped_scheme(dense: Scheme, n: int, m: int) -> Scheme:
    return dataclasses.replace(dense, places="groups", group=(n, m), kept=dense.size // m * n)


def _priced(scheme: Scheme) -> tuple[float, Scheme]:
    return _cost(scheme), scheme


def _cost(scheme: Scheme) -> float:
    parts = tensor_bytes(scheme)
    return sum(parts.values()) + TENSOR_BYTES * len(parts)
