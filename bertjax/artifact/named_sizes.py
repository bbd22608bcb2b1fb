"""What each convention calls the size of one packed model, in words that say what counts."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from bertjax.artifact.packed.bitpack import fullest_group
from bertjax.artifact.packed.model import PackedModel
from bertjax.artifact.packed.pack import Packed, size_bytes_entropy
from bertjax.artifact.packed.schemes import GROUP_SIZES, grouped
from bertjax.artifact.packed.storing import Stored, decode, decode_codes
from bertjax.artifact.size import (
    BYTES_PER_MB,
    BYTES_PER_MIB,
    encoder_ratio,
    percent_of_base,
    size_bytes_fp32,
    size_bytes_paper,
    size_bytes_xtc,
)
from bertjax.model.layout import HEAD
from bertjax.model.sizes import encoder_linear_count, param_count
from bertjax.params import ENCODER_KERNELS

MOST = 0.6
"""Of the weights that a pattern allows so many must be there: rounding 2:4 to 4 bits leaves three quarters of them."""
WORD_EMBEDDING = "bert/embeddings/word_embeddings/embedding"


class NamedSize(NamedTuple):
    """A size by one convention."""

    name: str
    text: str
    """With its unit."""
    convention: str
    """What counts, and what does not."""


def named_sizes(model: PackedModel, num_bytes: int) -> tuple[NamedSize, ...]:
    """What each convention calls a model's size.

    Args:
        model: The model.
        num_bytes: Of its file.
    """
    total, linear = param_count(model.config), encoder_linear_count(model.config)
    bits, share = model.quantize.weight_bits, model.dropped / linear
    width = f"{bits or 32} bits"
    # Dropped weights are a whole number here, where a setting's sparsity is a fraction of each matrix.
    paper = size_bytes_paper(total - model.dropped, linear - model.dropped, bits, 0.0)
    sizes = [
        NamedSize("float32", megabytes(size_bytes_fp32(total)), "the uncompressed model, without the task head"),
        NamedSize("file on disk", megabytes(num_bytes), f"all bytes of the packed file{_coded(model.packed)}: values, "
                  "places, scales, header; with the task head"),
        NamedSize("entropy", megabytes(size_bytes_entropy(model.packed)), "the same without header if every array of "
                  "codes and every mask took its order-0 entropy; with the task head"),
        NamedSize("paper (A, arXiv:2208.09684)", megabytes(paper), f"every parameter at {width}, zeros free "
                  f"({100 * share:.1f} % of the encoder's weights dropped); no scales, places, header, task head"),
        NamedSize("XTC (B, arXiv:2206.01859)", f"{size_bytes_xtc(total, bits) / BYTES_PER_MIB:.2f} MiB",
                  f"every parameter at {width}, dropped ones too; no scales, header, task head"),
    ]
    return (*sizes, _encoder_size(model, width), *_of_base(model.packed))


def megabytes(num_bytes: int) -> str:
    """Bytes in decimal megabytes, and exactly."""
    return f"{num_bytes / BYTES_PER_MB:.2f} MB ({num_bytes:,} bytes)"


def _coded(packed: Packed) -> str:
    return ", entropy-coded" if any(stored.scheme.coded for stored in packed.parameters.values()) else ""


def _encoder_size(model: PackedModel, width: str) -> NamedSize:
    """Convention C, which has no rule for zeros without a pattern."""
    kernels = (stored for path, stored in model.packed.parameters.items() if re.fullmatch(ENCODER_KERNELS, path))
    patterns = {_pattern(next(kernels))}
    while patterns != {None} and len(patterns) == 1 and (stored := next(kernels, None)) is not None:
        patterns.add(_pattern(stored))
    bits, name = model.quantize.weight_bits, "encoder ratio (C, arXiv:2206.15014)"
    pattern = patterns.pop() if len(patterns) == 1 else None
    if pattern is None:
        return NamedSize(name, f"{100 * encoder_ratio(bits):.2f} %", f"the encoder's matrices at {width} in percent of "
                         "float32; zeros count, since they do not make up N:M; no scales")
    n, m = pattern
    shares = [100 * encoder_ratio(bits, m, n, count_index) for count_index in (True, False)]
    return NamedSize(name, f"{shares[0]:.2f} %", f"the encoder's matrices, {n}:{m} at {width} with indices, in percent "
                     f"of float32 ({shares[1]:.2f} % without indices); no scales")


def _pattern(stored: Stored) -> tuple[int, int] | None:
    """N and M of a matrix with at most N of each M consecutive weights, N at most half of M; None without a pattern.

    It need not be stored so: where rounding made further zeros, a mask takes less. But most of the N must be there, or
    chance has made a pattern of few weights.
    """
    scheme = stored.scheme
    if scheme.group is not None or scheme.places == "all" and not scheme.coded:
        return scheme.group
    nonzero = decode(stored) != 0 if scheme.is_float else decode_codes(stored) != 0
    found = [(fullest_group(grouped(nonzero, m, scheme.axis)), m) for m in GROUP_SIZES
             if scheme.shape[scheme.axis] % m == 0]
    n, m = min(found, key=lambda group: group[0] / group[1], default=(1, 1))
    return (n, m) if 2 * n <= m and np.count_nonzero(nonzero) >= MOST * scheme.size * n / m else None


def _of_base(packed: Packed) -> list[NamedSize]:
    """Convention D, by the bytes that are stored."""
    def num_bytes(paths: list[str]) -> int:
        return sum(tensor.nbytes for path in paths for tensor in packed.parameters[path].tensors.values())

    others = [path for path in packed.parameters if path != WORD_EMBEDDING and path not in HEAD]
    percent = percent_of_base(num_bytes([WORD_EMBEDDING]), num_bytes(others))
    name = "percent of BERT-base (D, arXiv:2002.11985)"
    return [NamedSize(f"{name}, w/ emb", f"{percent.with_embedding:.2f} %",
                      "stored values, places and scales, of float32 BERT-base; without header and task head"),
            NamedSize(f"{name}, w/o emb", f"{percent.without_embedding:.2f} %",
                      "the same, both without their word embedding")]
