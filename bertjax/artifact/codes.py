"""The matrices of a quantized model as its products see them: integer codes with their scales."""

from __future__ import annotations

import re
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int8

from bertjax.compress.quantize import SMALLEST_SCALE, quantize_codes
from bertjax.config import QuantizeConfig
from bertjax.params import EMBEDDINGS, ENCODER_KERNELS, Params, paths

_quantize_codes = jax.jit(quantize_codes, static_argnums=(1, 2))


class Codes(NamedTuple):
    """A quantized matrix: its values are `codes * scale`."""

    codes: Int8[np.ndarray, "*shape"]
    scale: Float[np.ndarray, "*scale_shape"]
    """Float32, [1, columns] for a kernel (an output channel each), [rows, 1] for an embedding table."""
    bits: int


def code_bits(path: str, quantize: QuantizeConfig) -> int | None:
    """Bits of the codes of a parameter in a model that is quantized so; None where it is float."""
    if re.fullmatch(ENCODER_KERNELS, path):
        return quantize.weight_bits
    return quantize.embedding_bits if re.fullmatch(EMBEDDINGS, path) else None


def scale_axis(path: str) -> int:
    """The axis along which the weights of a matrix share a scale."""
    return -1 if re.fullmatch(EMBEDDINGS, path) else 0


def quantized(array: Float[np.ndarray, "rows columns"], bits: int, axis: int) -> Codes:
    """The codes of a matrix. A slice without any has no say in its scale, and gets that of zeros."""
    codes, scale = map(np.asarray, _quantize_codes(array, bits, axis))
    return Codes(codes, np.where(codes.any(axis, keepdims=True), scale, SMALLEST_SCALE), bits)


def model_codes(params: Params, quantize: QuantizeConfig) -> dict[str, Codes]:
    """The codes of every matrix that `quantize` makes integer, by path; empty for a float model."""
    bits = {path: code_bits(path, quantize) for path in paths(params)}
    return {path: quantized(np.asarray(leaf), found, scale_axis(path))
            for path, leaf in paths(params).items() if (found := bits[path]) is not None}
