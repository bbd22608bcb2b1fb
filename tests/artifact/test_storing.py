"""One array: every scheme that is offered gives back every bit of it, whatever it holds, and the best one is taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertjax.artifact.codes import Codes
from bertjax.artifact.packed import storing
from bertjax.artifact.packed.entropy import decode_symbols
from bertjax.artifact.packed.schemes import Scheme, as_levels, code_schemes, float_schemes, lossless_type, tensor_bytes
from bertjax.artifact.packed.storing import Stored, decode, decode_codes, decode_mask, encode, store
from bertjax.compress.quantize import dequantize, largest_code
from bertjax.config import InputError

SIDES = st.sampled_from([1, 2, 3, 7, 8, 16, 33])
SPARSITIES = st.sampled_from([0.0, 0.3, 0.75, 0.97, 1.0])
NUMBERS = st.sampled_from(["normal", "float16", "bfloat16", "binary", "constant", "negative zeros", "huge"])


def floats(seed: int, shape: tuple[int, ...], sparsity: float, numbers: str) -> np.ndarray:
    """A float32 array with about that fraction of zeros."""
    draw = np.random.default_rng(seed)
    array = np.asarray(draw.normal(size=shape), np.float32)
    if numbers == "float16":
        array = array.astype(np.float16).astype(np.float32)
    if numbers == "bfloat16":
        array = (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    if numbers == "binary":
        array = np.copysign(np.float32(0.3), array)
    if numbers == "constant":
        array = np.full(shape, 0.1, np.float32)
    if numbers == "huge":
        array = np.clip(array, -3, 3) * np.float32(1e38)
    zeros = np.zeros(shape, np.float32)
    if numbers == "negative zeros":
        zeros[draw.random(shape) < 0.3] = -0.0
    return np.where(draw.random(shape) < sparsity, zeros, array)


def codes(seed: int, shape: tuple[int, int], sparsity: float, bits: int, axis: int) -> Codes:
    """Codes as quantization makes them: every slice has the largest one, or only zeros."""
    draw = np.random.default_rng(seed)
    bound = largest_code(bits)
    made = draw.integers(-bound, bound + 1, shape).astype(np.int8)
    np.put_along_axis(made, draw.integers(0, shape[axis], np.max(made, axis, keepdims=True).shape), np.int8(-bound),
                      axis)
    made[draw.random(shape) < sparsity] = 0
    some = (np.abs(made) == bound).any(axis, keepdims=True)
    scale = draw.uniform(0.1, 1, some.shape).astype(np.float32)
    return Codes(np.where(some, made, 0).astype(np.int8), scale, bits)


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


def size_of(stored: Stored) -> int:
    """Bytes of all tensors."""
    return sum(tensor.nbytes for tensor in stored.tensors.values())


def check_scheme(scheme: Scheme, stored: Stored, expected: np.ndarray) -> None:
    """A stored array comes back, in the bytes that arithmetic says."""
    assert_same_bits(decode(stored), expected)
    assert all(tensor.ndim == 1 and tensor.dtype in (np.uint8, np.uint16, np.float16, np.float32)
               for tensor in stored.tensors.values())
    if not scheme.coded:
        assert {role: tensor.nbytes for role, tensor in stored.tensors.items()} == tensor_bytes(scheme)
    if "mask" in stored.tensors:
        np.testing.assert_array_equal(decode_mask(stored), expected.view(np.uint32) != 0)


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.lists(SIDES, max_size=3), SPARSITIES, NUMBERS, st.sampled_from([0, -1]))
@example(0, [], 0.0, "normal", 0)
@example(0, [0, 3], 0.0, "normal", 0)
@example(0, [64, 33], 0.97, "normal", 0)
@example(0, [7, 16], 1.0, "negative zeros", -1)
def test_floats_come_back_by_every_scheme(
    seed: int, shape: list[int], sparsity: float, numbers: str, axis: int
) -> None:
    array = floats(seed, tuple(shape), sparsity, numbers)
    for _, scheme in float_schemes(array, axis, True):
        check_scheme(scheme, store(scheme, array), array)
    best = encode(array, axis)
    assert_same_bits(decode(best), array)
    assert size_of(best) <= array.nbytes


@settings(max_examples=300)
@given(st.integers(0, 2**32), SIDES, SIDES, SPARSITIES, st.integers(2, 8), st.sampled_from([0, -1]))
@example(0, 64, 32, 0.97, 5, 0)
@example(0, 64, 32, 0.97, 2, -1)
def test_codes_come_back_by_every_scheme(
    seed: int, rows: int, columns: int, sparsity: float, bits: int, axis: int
) -> None:
    quantized = codes(seed, (rows, columns), sparsity, bits, axis)
    expected = dequantize(*quantized)
    for _, scheme in code_schemes(quantized, axis, True):
        stored = store(scheme, quantized)
        check_scheme(scheme, stored, expected)
        assert_same_bits(decode_codes(stored), quantized.codes)
    best = encode(quantized, axis)
    assert_same_bits(decode(best), expected)
    assert size_of(best) <= expected.nbytes


def structured(kind: str) -> Any:
    """A matrix of 128 rows and 96 columns that has some structure."""
    draw = np.random.default_rng(5)
    dense = draw.normal(size=(128, 96)).astype(np.float32)
    grid = np.clip(np.round(30 * dense), -127, 127).astype(np.int8)
    grid[0] = 127
    scale = np.ones((1, 96), np.float32)
    some = draw.random((128, 96)) < 0.4
    fourth = np.arange(128)[:, None] % 4 == draw.integers(0, 4, (32, 96)).repeat(4, 0)
    half = np.arange(128)[:, None] % 2 == draw.integers(0, 2, (64, 96)).repeat(2, 0)
    signs = np.sign(dense).astype(np.int8)
    nonzero = np.where(grid == 0, 1, grid).astype(np.int8)
    return {
        "dense": dense, "float16": dense.astype(np.float16).astype(np.float32),
        "bfloat16": np.float32(1 + draw.integers(0, 128, (128, 96)) / 128), "pruned": np.where(some, dense, 0),
        "1:4": np.where(fourth, dense, 0), "int8": Codes(grid, scale, 8), "pruned int8": Codes(grid * some, scale, 8),
        "2:4": np.where(half, dense, 0), "2:4 int8": Codes(nonzero * half, scale, 8),
        "1:4 int8": Codes(grid * fourth, scale, 8), "int5": Codes((grid // 9).astype(np.int8), scale, 5),
        "signs": signs * scale, "ternary": Codes(signs * (draw.random((128, 96)) < 0.7), scale, 2),
        "few signs": Codes(signs * (draw.random((128, 96)) < 0.1), scale, 2),
        "ones": np.ones(4800, np.float32), "few ones": np.ones(48, np.float32), "one row": dense[:1],
        "codes of one row": Codes(np.full((1, 96), 127, np.int8), scale, 8),
    }[kind]


@pytest.mark.parametrize(("kind", "scheme", "coded"), [
    ("dense", "float32", "float32"), ("float16", "float16", "float16"), ("bfloat16", "bfloat16", "bfloat16"),
    ("pruned", "mask + float32", "mask + float32, coded"), ("1:4", "1:4 + float32", "1:4 + float32"),
    ("int8", "int8", "int8, coded"), ("pruned int8", "mask + int8", "int8, coded"),
    ("1:4 int8", "1:4 + int8", "1:4 + int8"),
    # As many bytes as a mask: what is a pattern is stored as one.
    ("2:4", "2:4 + float32", "2:4 + float32"), ("2:4 int8", "2:4 + int8", "int8, coded"),
    ("int5", "int5", "int5, coded"), ("signs", "binary", "binary"), ("ternary", "ternary", "ternary"),
    ("few signs", "mask + binary", "int2, coded"), ("ones", "binary", "int2, coded"),
    ("few ones", "bfloat16", "bfloat16"), ("one row", "float32", "float32"),
    ("codes of one row", "bfloat16", "bfloat16"),
])
def test_the_smallest_scheme_is_taken(kind: str, scheme: str, coded: str) -> None:
    array = structured(kind)
    assert encode(array, 0).scheme.name == scheme
    assert encode(array, 0, coded=True).scheme.name == coded


@pytest.mark.parametrize(("kind", "bits"), [("pruned int8", 8), ("few signs", 1)])
def test_pruned_codes_take_their_bits_a_mask_and_scales(kind: str, bits: int) -> None:
    stored = encode(structured(kind), 0)
    kept = np.count_nonzero(decode(stored))
    assert size_of(stored) == 128 * 96 // 8 + -(-kept * bits // 8) + 4 * 96


def test_a_large_pruned_matrix_of_floats_has_a_coded_mask() -> None:
    draw = np.random.default_rng(0)
    array = np.where(draw.random((300, 300)) < 0.1, draw.normal(size=(300, 300)), 0).astype(np.float32)
    plain, coded = encode(array, 0), encode(array, 0, coded=True)
    assert plain.scheme.name == "mask + float32" and coded.scheme.name == "mask + float32, coded"
    assert_same_bits(decode(coded), array)
    assert coded.tensors["mask"].nbytes < 0.5 * plain.tensors["mask"].nbytes


@pytest.mark.parametrize(("array", "axis", "levels"), [
    ([[1, 0], [-1, 2]], 0, True), ([[1, 0], [-1, 2]], -1, False), ([[0, 3], [0, 0]], -1, True),
    ([[1, -0.0], [-1, 2]], 0, False), ([[1, -0.0], [-1, 0]], 0, False), ([1, 1, -1], 0, True),
    ([[1, 1], [1, 2]], 0, False),
])
def test_levels_are_one_number_its_negative_and_zero(array: list, axis: int, levels: bool) -> None:
    found = as_levels(np.float32(array), axis)
    assert (found is not None) == levels
    if found is not None:
        assert_same_bits(dequantize(*found), np.float32(array))


@pytest.mark.parametrize(("number", "kind"), [
    (1.0, "bfloat16"), (-0.0, "bfloat16"), (3e38, "float32"), (2.0**100, "bfloat16"), (1 + 2.0**-10, "float16"),
    (1 + 2.0**-11, "float32"), (2.0**-24, "bfloat16"), (3 * 2.0**-24 + 2.0**-14, "float16"), (65504.0, "float16"),
    (65536.0 + 2.0**6, "float32"), (0.1, "float32"),
])
def test_16_bits_are_taken_only_where_nothing_is_lost(number: float, kind: str) -> None:
    array = np.float32([0.5, number])
    assert lossless_type(array) == kind
    assert_same_bits(decode(encode(array, 0)), array)


@pytest.mark.parametrize("kind", ["pruned int8", "pruned"])
def test_a_decoder_that_errs_is_found_out(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = encode(structured(kind), 0, coded=True)
    assert stored.scheme.coded and decode(stored).shape == (128, 96)

    def erring(*arguments: Any) -> np.ndarray:
        symbols = decode_symbols(*arguments)
        symbols[77] ^= 1
        return symbols

    monkeypatch.setattr(storing, "decode_symbols", erring)
    with pytest.raises(InputError, match="entropy decoding gave other numbers"):
        decode(stored)
