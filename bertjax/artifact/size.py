"""Model sizes by the papers' conventions: pure arithmetic on parameter counts, no file is looked at.

Every count here is the encoder with its embeddings and its pooler, **without the task head**: that is what
arXiv:2208.09684 accounts for (its Table 1 is 4 bytes times this count, in decimal megabytes), and it makes one model
weigh the same on every task.
"""

from __future__ import annotations

from bertjax.config import require

BYTES_PER_MB = 1_000_000
"""Decimal megabytes, as in arXiv:2208.09684; one MiB is 1.048576 of them."""


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
    require(bits is None or 1 <= bits <= 32, f"bits must be 1 to 32, or none for float32; got {bits}")
    require(0 <= sparsity < 1, f"sparsity must be in [0, 1), got {sparsity}")
    return round((bits or 32) / 8 * (total_params - sparsity * encoder_linear_params))
