"""The weights of a trained model as its products see them: integer codes with their scales, and the values of those."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int8

from bertjax.artifact.load import Model
from bertjax.compress.quantize import quantize_codes
from bertjax.config import FLOAT, QuantizeConfig
from bertjax.params import EMBEDDINGS, ENCODER_KERNELS, Params, nest, paths

# Compiled, as training is: XLA turns the division by a constant into a product, and that may move a code.
_quantize = jax.jit(quantize_codes, static_argnums=(1, 2))


class Codes(NamedTuple):
    """A quantized matrix: its values are `codes * scale`."""

    codes: Int8[np.ndarray, "rows columns"]
    scale: Float[np.ndarray, "scale_rows scale_columns"]
    """[1, columns] for a kernel (an output channel each), [rows, 1] for an embedding table."""


def weight_codes(params: Params, quantize: QuantizeConfig) -> dict[str, Codes]:
    """The codes of every matrix that `quantize` makes integer, by path; empty for a float model."""
    made = {}
    for path, leaf in paths(params).items():
        bits, axis = quantize.embedding_bits, -1
        if re.fullmatch(ENCODER_KERNELS, path):
            bits, axis = quantize.weight_bits, 0
        elif not re.fullmatch(EMBEDDINGS, path):
            continue
        if bits is not None:
            made[path] = Codes(*map(np.asarray, _quantize(jnp.asarray(leaf), bits, axis)))
    return made


def weight_only(model: Model) -> Model:
    """The model with its quantized matrices at the float values of their codes, and its activations in float."""
    if model.quantize == FLOAT:
        return model
    codes = weight_codes(model.params, model.quantize)
    leaves = {path: jnp.asarray(codes[path].codes * codes[path].scale) if path in codes else leaf
              for path, leaf in paths(model.params).items()}
    return replace(model, params=nest(leaves), quantize=FLOAT)


