"""Four papers' size conventions against the sizes that the papers print, or that can be read in their figures."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.artifact.size import (
    BYTES_PER_MB,
    BYTES_PER_MIB,
    PercentOfBase,
    encoder_ratio,
    percent_of_base,
    size_bytes_fp32,
    size_bytes_paper,
    size_bytes_xtc,
)
from bertjax.config import SIZES, InputError
from bertjax.model.sizes import encoder_linear_count, param_count, size_config

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


# ---- B: XTC, arXiv:2206.01859

# (layers, bits) -> the paper's "MB", and how many times smaller than float32; known by citation, not read in the paper.
# Some are cut off (26.07, 14.26) where others are rounded, so a tenth is what they tell.
XTC = {(12, None): (417.2, 1.0), (12, 2): (26.0, 16.0), (12, 1): (13.0, 32.0), (6, 2): (16.0, 26.2),
       (6, 1): (8.0, 52.3), (5, 2): (14.2, 29.3), (5, 1): (7.1, 58.5)}


def matrix_count(layers: int) -> int:
    """The parameters of a BERT-base of fewer layers without its vectors: what makes the paper's 417.2."""
    config = replace(size_config("base"), num_hidden_layers=layers)
    return encoder_linear_count(config) + (30522 + 512 + 2) * 768 + 768 * 768


@pytest.mark.parametrize(("layers", "bits"), XTC)
def test_xtc_sizes_are_mebibytes_of_all_parameters_at_the_same_bits(layers: int, bits: int | None) -> None:
    mebibytes, times = XTC[layers, bits]
    size = size_bytes_xtc(matrix_count(layers), bits)
    assert abs(size / BYTES_PER_MIB - mebibytes) < 0.1
    assert abs(size_bytes_xtc(matrix_count(12), None) / size - times) < 0.06


def test_xtc_left_the_vectors_of_bert_base_out() -> None:
    everything = param_count(size_config("base"))
    assert round(size_bytes_xtc(everything, None) / BYTES_PER_MIB, 1) == 417.6
    assert round(size_bytes_xtc(matrix_count(12), None) / BYTES_PER_MIB, 1) == 417.2
    assert size_bytes_xtc(everything, 1) * 32 == size_bytes_fp32(everything)


@pytest.mark.parametrize(("total", "bits", "what"), [(-1, 1, "total_params"), (10, 0, "bits"), (10, 33, "bits")])
def test_xtc_out_of_range_is_refused(total: int, bits: int, what: str) -> None:
    with pytest.raises(InputError, match=what):
        size_bytes_xtc(total, bits)


# ---- C: NxMiFormer, arXiv:2206.15014

# bits, group, kept -> percent of the float32 encoder, with the index that the code counts and without any.
NXM = {(16, 4, 2): (28.1, 25.0), (8, 1, 1): (25.0, 25.0), (8, 4, 2): (15.6, 12.5), (4, 1, 1): (12.5, 12.5),
       (4, 4, 2): (9.4, 6.25), (None, 1, 1): (100.0, 100.0)}


@pytest.mark.parametrize(("bits", "group", "kept"), NXM)
def test_nxm_percents_are_those_of_the_code_and_of_the_abstract(bits: int | None, group: int, kept: int) -> None:
    with_index, without = NXM[bits, group, kept]
    # The published numbers have one decimal; 28.125 and 15.625 lie between two of them.
    assert abs(100 * encoder_ratio(bits, group, kept) - with_index) < 0.051
    assert 100 * encoder_ratio(bits, group, kept, count_index=False) == without


def test_only_a_sparse_group_needs_an_index() -> None:
    assert encoder_ratio(8, 4, 4) == encoder_ratio(8) == 0.25
    assert encoder_ratio(8, 8, 2) == 2 * (8 + 3) / (8 * 32)  # three bits tell eight places apart
    assert encoder_ratio(8, 5, 1) == (8 + 3) / (5 * 32)  # and five places
    assert encoder_ratio(None, 2, 1) == (32 + 1) / 64


@pytest.mark.parametrize(("bits", "group", "kept"), [(8, 4, 0), (8, 4, 5), (8, 0, 0), (0, 4, 2), (33, 4, 2)])
def test_nxm_out_of_range_is_refused(bits: int, group: int, kept: int) -> None:
    with pytest.raises(InputError, match="kept|bits"):
        encoder_ratio(bits, group, kept)


# ---- D: Ganesh et al., arXiv:2002.11985, Table 1

BASE_BYTES = size_bytes_fp32(param_count(size_config("base")))
BASE_WORDS = size_bytes_fp32(30522 * 768)

# What a row keeps of the word embedding and of all the rest -> its cells "w/ emb" and "w/o emb", as printed. The three
# 6-layer models (SNIP, MiniLM, DistilBERT) count as half of the rest: their real shapes have 50.6 % with a pooler.
TABLE_D = {
    "BERT-base": ((1, 1), ("100", "100")),
    "Q-BERT: 4-bit encoder, 8-bit embeddings": ((8 / 32, 4 / 32), ("15", "12.5")),
    "movement pruning, 3 % of the rest": ((1, 0.03), ("23.8", "3")),
    "SNIP, MiniLM, DistilBERT: half of the rest": ((1, 0.5), ("60.7", "50")),
    "DynaBERT": ((1, 0.124), ("31.2", "12.4")),
}

# Cells that do not follow from each other, or from what the row says it does: ours, and what the table prints.
DOUBTFUL = {
    "lottery ticket, 35.1 % of the rest, a mean over tasks": ((1, 0.351), (49.0, 35.1), (48.9, 35.1)),
    "GOBO: 3-bit encoder, 4-bit embeddings": ((4 / 32, 3 / 32), (10.0, 9.4), (10.2, 5.5)),
    "GOBO of half of the rest, 4 bits": ((4 / 32, 4 / 64), (7.6, 6.2), (7.6, 3.9)),
    "low rank, 49.1 % of the rest": ((1, 0.491), (60.0, 49.1), (60.6, 49.1)),
    "LadaBERT, 37.3 % of the rest": ((1, 0.373), (50.7, 37.3), (40.0, 37.3)),
}


def percent(words: float, rest: float) -> PercentOfBase:
    """The size of a BERT-base that keeps these fractions of the bytes of its word embedding and of all the rest."""
    return percent_of_base(words * BASE_WORDS, rest * (BASE_BYTES - BASE_WORDS))


@pytest.mark.parametrize("row", TABLE_D)
def test_percents_of_bert_base_are_those_of_the_table(row: str) -> None:
    kept, printed = TABLE_D[row]
    for ours, cell in zip(percent(*kept), printed, strict=True):
        decimals = len(cell.partition(".")[2])
        assert f"{ours:.{decimals}f}" == cell


@pytest.mark.parametrize("row", DOUBTFUL)
def test_doubtful_cells_of_the_table_are_known(row: str) -> None:
    kept, ours, printed = DOUBTFUL[row]
    assert tuple(round(value, 1) for value in percent(*kept)) == ours != printed


def test_a_model_of_another_shape_is_compared_with_bert_base() -> None:
    # MobileBERT as published: 25.3 million parameters, embeddings of 128 numbers; the table prints 23.1 and 24.8.
    words = 4 * 30522 * 128
    found = percent_of_base(words, 4 * 25_300_000 - words)
    assert round(found.with_embedding, 1) == 23.1 and abs(found.without_embedding - 24.8) < 0.1


def test_negative_bytes_are_refused() -> None:
    with pytest.raises(InputError, match="negative"):
        percent_of_base(-1, 10)
