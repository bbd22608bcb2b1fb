"""Entropy coding: every symbol comes back, near the least bytes, and the bytes are the same everywhere."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.artifact.packed import entropy
from bertjax.artifact.packed.entropy import count_symbols, decode_symbols, encode_symbols, entropy_bytes, frequencies
from bertjax.config import InputError


@given(st.integers(0, 2**32), st.integers(1, 3000), st.integers(2, 255), st.floats(0, 1))
def test_symbols_come_back_within_the_entropy_and_a_state(seed: int, size: int, kinds: int, skew: float) -> None:
    draw = np.random.default_rng(seed)
    chance = draw.random(kinds) ** (1 / (1.001 - skew)) + 1e-12
    symbols = draw.choice(kinds, size, p=chance / chance.sum()).astype(np.uint8)
    counts = count_symbols(symbols, kinds)
    table = frequencies(counts)
    assert counts.tolist() == [int((symbols == kind).sum()) for kind in range(kinds)]
    assert table.dtype == np.uint16 and ((table > 0) == (counts > 0)).all()
    coded = encode_symbols(symbols, table)
    assert coded.size <= 1.001 * entropy_bytes(counts) + 8
    np.testing.assert_array_equal(decode_symbols(coded, table, size), symbols)


def test_counting_in_pieces_counts_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = np.random.default_rng(0).integers(0, 7, 1000).astype(np.uint8)
    whole = count_symbols(symbols, 9)
    monkeypatch.setattr(entropy, "_COUNTED_AT_ONCE", 33)
    assert count_symbols(symbols, 9).tolist() == whole.tolist() and whole.sum() == 1000


def test_the_entropy_is_shannons() -> None:
    assert entropy_bytes(np.array([8, 8])) == 2  # a bit each
    assert entropy_bytes(np.array([0, 5])) == 0
    assert entropy_bytes(np.array([4, 2, 1, 1])) == (4 * 1 + 2 * 2 + 2 * 3) / 8


def test_the_rarest_symbol_has_a_frequency() -> None:
    assert frequencies(np.array([10**9, 1, 0])).tolist() == [65535, 1, 0]


def test_the_bytes_are_those_of_the_format() -> None:
    # A file must be read wherever and whenever it is: what this stream is coded as may never change.
    symbols = np.array([0, 1, 2, 1, 1, 1, 6, 1, 2, 1, 1, 0, 1, 1, 2, 1] * 2, np.uint8)
    table = frequencies(count_symbols(symbols, 7))
    assert table.tolist() == [8192, 40959, 12288, 0, 0, 0, 4096]
    assert encode_symbols(symbols, table).tobytes().hex() == "a1f395e5262604e419000000"


def test_without_the_library_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(InputError, match=r"constriction: pip install 'bertjax\[entropy\]'"):
        encode_symbols(np.zeros(3, np.uint8), np.array([1, 1], np.uint16))
