"""Packing small numbers: nothing is lost, nothing is wasted, and the order of the bits is the documented one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.artifact.packed.bitpack import (
    bytes_of_bits,
    bytes_of_trits,
    fullest_group,
    gather_groups,
    pack_bits,
    pack_trits,
    scatter_groups,
    unpack_bits,
    unpack_trits,
)


@given(st.data(), st.integers(1, 8))
def test_packed_bits_are_the_binary_digits_of_one_number(data: st.DataObject, bits: int) -> None:
    numbers = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    packed = pack_bits(np.array(numbers, np.uint8), bits)
    assert int.from_bytes(packed.tobytes(), "little") == sum(n << bits * i for i, n in enumerate(numbers))
    assert packed.dtype == np.uint8 and packed.size == bytes_of_bits(len(numbers), bits) == -(-bits * len(numbers) // 8)
    assert unpack_bits(packed, bits, len(numbers)).tolist() == numbers


@given(st.lists(st.integers(0, 2), max_size=40))
def test_packed_trits_are_digits_to_base_3(digits: list[int]) -> None:
    packed = pack_trits(np.array(digits, np.uint8))
    for i, byte in enumerate(packed.tolist()):
        assert byte == sum(digit * 3**j for j, digit in enumerate(digits[5 * i:5 * i + 5]))
    assert packed.size == bytes_of_trits(len(digits)) == -(-len(digits) // 5)
    assert unpack_trits(packed, len(digits)).tolist() == digits


@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([4, 8, 16]), st.integers(1, 3), st.floats(0, 1))
def test_groups_come_back_from_their_nonzeros(seed: int, groups: int, m: int, others: int, density: float) -> None:
    draw = np.random.default_rng(seed)
    array = draw.integers(1, 100, (groups, m, others)).astype(np.int8)
    array[draw.random(array.shape) >= density] = 0
    n = fullest_group(array != 0)
    values, index = gather_groups(array, array != 0, n)
    assert n == max((array != 0).sum(1).max(), 1)
    assert values.shape == index.shape == (groups, n, others) and index.max() < m
    np.testing.assert_array_equal(scatter_groups(values, index, m), array)


def test_a_missing_or_additional_byte_is_an_error() -> None:
    packed = np.zeros(5, np.uint8)
    for count in (6, 9, 100):
        with pytest.raises(ValueError, match="bytes, got 5"):
            unpack_bits(packed, 7, count)
        with pytest.raises(ValueError, match="bytes, got 5"):
            unpack_trits(packed, 2 * count)
