"""The size convention of arXiv:2208.09684 against every point that can be read in its Figure 1 and Table 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.artifact.size import BYTES_PER_MB, size_bytes_fp32, size_bytes_paper
from bertjax.config import SIZES, InputError

SHAPES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512), "base": (12, 768),
          "large": (24, 1024)}
"""Layers and hidden size; the feed-forward width is 4 times the hidden size, the vocabulary has 30,522 entries."""

TABLE_1_MB = {"tiny": 18, "mini": 45, "small": 115, "medium": 166, "base": 438, "large": 1341}

# (size, bits, sparsity) -> megabytes read in Figure 1 (a range where the reading is one).
READ_MB = {
    ("large", 32, 0.4): (852, 854), ("base", 32, 0.4): (301, 302), ("medium", 32, 0.4): (125, 125),
    ("small", 32, 0.4): (94.5, 95), ("mini", 32, 0.4): (39.6, 39.6), ("tiny", 32, 0.4): (16.9, 16.9),
    ("large", 32, 0.6): (612, 616), ("base", 32, 0.6): (234, 235), ("medium", 32, 0.6): (105, 105),
    ("small", 32, 0.6): (85, 85), ("mini", 32, 0.6): (37, 37.5), ("tiny", 32, 0.6): (16.6, 16.6),
    ("large", 8, 0.0): (335, 335), ("base", 8, 0.0): (109, 109.8), ("medium", 8, 0.0): (41, 41.5),
    ("small", 8, 0.0): (28.7, 29), ("mini", 8, 0.0): (11, 11.3), ("tiny", 8, 0.0): (4.4, 4.4),
    ("large", 8, 0.4): (214, 214), ("base", 8, 0.4): (75.5, 75.5), ("medium", 8, 0.4): (31.3, 31.3),
    ("small", 8, 0.4): (23.7, 23.7), ("mini", 8, 0.4): (9.9, 9.9), ("tiny", 8, 0.4): (4.2, 4.2),
    ("large", 8, 0.6): (154, 154), ("base", 8, 0.6): (58.5, 58.9), ("medium", 8, 0.6): (26.3, 26.3),
    ("small", 8, 0.6): (21.2, 21.2), ("mini", 8, 0.6): (9.3, 9.3), ("tiny", 8, 0.6): (4.1, 4.1),
}

READING_ERROR = 0.01
"""Of the digitised figure, relative."""


def counts(size: str) -> tuple[int, int]:
    """All parameters without the task head, and those of the encoder's weight matrices."""
    layers, hidden = SHAPES[size]
    embeddings = (30522 + 512 + 2) * hidden + 2 * hidden
    linear = 4 * hidden * hidden + 2 * hidden * 4 * hidden
    biases_and_norms = 4 * hidden + 4 * hidden + hidden + 4 * hidden
    pooler = hidden * hidden + hidden
    return embeddings + layers * (linear + biases_and_norms) + pooler, layers * linear


def test_shapes_cover_every_size() -> None:
    assert tuple(SHAPES) == SIZES
    assert len(READ_MB) == len(SIZES) * 5


@pytest.mark.parametrize("size", SIZES)
def test_uncompressed_is_table_1(size: str) -> None:
    total, linear = counts(size)
    # The table prints whole megabytes; for medium it prints 166 where the exact count gives 165.49.
    assert abs(size_bytes_fp32(total) / BYTES_PER_MB - TABLE_1_MB[size]) < 0.51
    assert size_bytes_fp32(total) == size_bytes_paper(total, linear, None, 0.0) == 4 * total


@pytest.mark.parametrize("size, bits, sparsity", READ_MB)
def test_fits_every_point_of_figure_1(size: str, bits: int, sparsity: float) -> None:
    total, linear = counts(size)
    megabytes = size_bytes_paper(total, linear, None if bits == 32 else bits, sparsity) / BYTES_PER_MB
    low, high = READ_MB[size, bits, sparsity]
    # Half a unit of the last printed digit (0.05 MB) is all that can be read of the smallest models.
    slack = max(READING_ERROR * high, 0.05)
    assert low - slack <= megabytes <= high + slack


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from([None, 2, 3, 4, 8]),
       st.floats(0, 0.99), st.floats(0, 0.99))
def test_more_compression_is_never_larger(
    linear: int, rest: int, bits: int | None, sparsity: float, other: float
) -> None:
    low, high = sorted((sparsity, other))
    total = linear + rest
    assert size_bytes_paper(total, linear, bits, high) <= size_bytes_paper(total, linear, bits, low)
    assert size_bytes_paper(total, linear, bits, low) <= size_bytes_paper(total, linear, None, low)
    assert size_bytes_paper(total, linear, None, 0.0) == size_bytes_fp32(total)


@pytest.mark.parametrize("total, linear, bits, sparsity, what", [
    (10, 11, 8, 0.5, "encoder_linear_params"), (10, 5, 0, 0.5, "bits"), (10, 5, 33, 0.5, "bits"),
    (10, 5, 8, 1.0, "sparsity"), (10, 5, 8, -0.1, "sparsity"),
])
def test_out_of_range_is_one_line(total: int, linear: int, bits: int, sparsity: float, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        size_bytes_paper(total, linear, bits, sparsity)
    assert "\n" not in str(caught.value)
