"""Model sizes by the conventions of four papers: pure arithmetic on counts and bits, no file is looked at.

The four do not agree with each other, and none tells how large a file is: none counts scales, and only C counts an
index of what was kept.

| | paper | function | what counts | unit |
|---|---|---|---|---|
| A | arXiv:2208.09684 | `size_bytes_paper` | all parameters, zeros free | decimal megabytes |
| B | arXiv:2206.01859 (XTC) | `size_bytes_xtc` | all parameters, each at the same bits | MiB |
| C | arXiv:2206.15014 (NxMiFormer) | `encoder_ratio` | the encoder's matrices only | fraction of float32 |
| D | arXiv:2002.11985 | `percent_of_base` | the model with, and without, its word embedding | percent of BERT-base |

Every count of parameters here is the encoder with its embeddings and its pooler, **without the task head**: that is
what arXiv:2208.09684 accounts for (its Table 1 is 4 bytes times this count), and it makes one model weigh the same on
every task.
"""

from __future__ import annotations

from typing import NamedTuple

from bertjax.config import require
from bertjax.model.sizes import param_count, size_config, word_embedding_count

BYTES_PER_MB = 1_000_000
"""Decimal megabytes, as in arXiv:2208.09684."""

BYTES_PER_MIB = 1_048_576
"""Binary megabytes, which arXiv:2206.01859 prints as "MB"."""


def size_bytes_fp32(total_params: int) -> int:
    """Bytes of the uncompressed model: 4 per parameter (the "Size" column of arXiv:2208.09684, Table 1).

    Args:
        total_params: Encoder, embeddings and pooler, without the task head.
    """
    return size_bytes_paper(total_params, 0, None, 0.0)


def size_bytes_paper(total_params: int, encoder_linear_params: int, bits: int | None, sparsity: float) -> int:
    """Bytes by the convention of arXiv:2208.09684, Figure 1: `bits/8 * (total - sparsity * encoder_linear)`.

    The whole model counts at `bits`, embeddings, biases and LayerNorm included. Zeros are free: no mask, no index, no
    scale and no entropy coding is counted, so a real file is larger. The formula was read off the figure and fits all
    of its points within the reading error of about 1 %.

    Args:
        total_params: Encoder, embeddings and pooler, without the task head.
        encoder_linear_params: The weights that pruning acts on: query, key, value, attention output and the two
            feed-forward matrices of every layer, without biases.
        bits: Bits of a stored weight; None is float32.
        sparsity: Fraction of zeros among `encoder_linear_params`, in [0, 1).

    Returns:
        Bytes, rounded to a whole number.

    Raises:
        InputError: A count, the bits or the sparsity is out of range.
    """
    require(0 <= encoder_linear_params <= total_params,
            f"encoder_linear_params must be between 0 and total_params, got {encoder_linear_params} of {total_params}")
    _check_bits(bits)
    require(0 <= sparsity < 1, f"sparsity must be in [0, 1), got {sparsity}")
    return round((bits or 32) / 8 * (total_params - sparsity * encoder_linear_params))


def size_bytes_xtc(total_params: int, bits: int | None) -> int:
    """Bytes by the convention of XTC (arXiv:2206.01859): the float32 size divided by `32 / bits`; printed in MiB.

    Every parameter counts at `bits`, also the biases, LayerNorm, pooler, position and type embeddings that XTC keeps in
    float32, and no scale counts; so its 32 times smaller model of 1 bit would be about 24 times smaller as a file.
    Layers that are left out are the only other saving: a count of fewer parameters. The convention was inferred from
    the sizes of the paper's table, which we know by citation only; it fits each of them within 0.1 MiB.

    Args:
        total_params: Encoder, embeddings and pooler, without the task head. The table's 417.2 MiB of BERT-base is what
            it has without its vectors (biases, LayerNorm); with them it is 417.6.
        bits: Bits of a weight; None is float32.

    Returns:
        Bytes, rounded to a whole number; divide by `BYTES_PER_MIB` for the paper's numbers.

    Raises:
        InputError: The count or the bits are out of range.
    """
    require(total_params >= 0, f"total_params must not be negative, got {total_params}")
    _check_bits(bits)
    return round((bits or 32) / 8 * total_params)


def encoder_ratio(bits: int | None, group: int = 1, kept: int = 1, count_index: bool = True) -> float:
    """Size of the encoder's matrices as a fraction of float32, by the convention of arXiv:2206.15014 (NxMiFormer).

    Embeddings, pooler, biases and LayerNorm do not count at all. Of each `group` consecutive weights `kept` are stored:
    2 of 4 is what hardware calls 2:4. The published code counts an index of 2 bits for each kept weight of a group of
    4; the abstract's compression of 93 % can only be reached without any (2:4 with 4 bits: 9.4 % with, 6.25 % without).

    Args:
        bits: Bits of a stored weight; None is float32. The code stores 2:4 without quantization in 16 bits.
        group: Weights in a group, at least 1.
        kept: Weights stored of each group, 1 to `group`; all of them means dense, and needs no index.
        count_index: Count the smallest number of whole bits that tells the places in a group apart, for each kept
            weight.

    Returns:
        A fraction, above 1 where the index costs more than the zeros save.

    Raises:
        InputError: The bits, the group or the kept weights are out of range.
    """
    _check_bits(bits)
    require(1 <= kept <= group, f"of a group of weights 1 to all must be kept, got {kept} of {group}")
    index_bits = (group - 1).bit_length() if count_index and kept < group else 0
    return kept * ((bits or 32) + index_bits) / (group * 32)


class PercentOfBase(NamedTuple):
    """A size by the convention of arXiv:2002.11985, Table 1."""

    with_embedding: float
    """The whole model, in percent of the whole of BERT-base: the column "w/ emb"."""
    without_embedding: float
    """The model without its word embedding, in percent of BERT-base without its own: the column "w/o emb"."""


def percent_of_base(word_embedding_bytes: float, other_bytes: float) -> PercentOfBase:
    """A model's size in percent of float32 BERT-base, with and without the word embedding (arXiv:2002.11985, Table 1).

    "The embedding matrix" of the paper is the word embedding, 21.4 % of BERT-base: only then do 3 % of all the rest
    make the 23.8 % of its movement-pruning row. The paper took most sizes from other papers, so that not all of its
    rows follow from one another; which ones do is what `tests/artifact/test_size.py` lists.

    Args:
        word_embedding_bytes: Bytes of the word embedding, by any of the conventions of this file.
        other_bytes: Bytes of everything else without the task head.

    Raises:
        InputError: A negative size.
    """
    require(word_embedding_bytes >= 0 and other_bytes >= 0,
            f"bytes must not be negative, got {word_embedding_bytes} and {other_bytes}")
    base = size_config("base")
    total, words = size_bytes_fp32(param_count(base)), size_bytes_fp32(word_embedding_count(base))
    return PercentOfBase(100 * (word_embedding_bytes + other_bytes) / total, 100 * other_bytes / (total - words))


def _check_bits(bits: int | None) -> None:
    require(bits is None or 1 <= bits <= 32, f"bits must be 1 to 32, or none for float32; got {bits}")
