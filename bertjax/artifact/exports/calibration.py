"""Fixed scales for a quantized model's activations, measured on training rows.

In training every token has a scale of its own, which takes a pass over the activation to find. A fixed scale, the
largest of those that the tokens of some rows have, takes none, and runtimes have their fastest integer products for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bertjax.artifact.exports.to_onnx import cpu_session, needs_unsigned
from bertjax.artifact.load import Model
from bertjax.config import require
from bertjax.data.examples import Examples, subset
from bertjax.data.tokens import tokenize

if TYPE_CHECKING:
    from bertjax.artifact.exports.onnx_bert import Scales

CALIBRATION_ROWS = 256
"""Training rows that scales are measured on."""
STATIC_BITS = 8
"""What the operators that quantize with fixed scales round to."""


def static_scales(model: Model, train: Examples) -> Scales:
    """The largest scale of any token of `CALIBRATION_ROWS` training rows, by the place that reads the activation.

    Raises:
        InputError: The model's activations are not quantized in 8 bits.
    """
    bits = model.quantize.activation_bits
    require(bits == STATIC_BITS,
            f"static activations need a model trained with Q and {STATIC_BITS}-bit activations, got one with "
            f"{'float' if bits is None else f'{bits}-bit'} activations")
    from bertjax.artifact.exports.onnx_bert import scales_model

    made, places = scales_model(model, needs_unsigned(model))
    session = cpu_session(made.SerializeToString())
    largest = dict.fromkeys(places, np.float32(0))
    for row in calibration_rows(model, train):
        for place, scales in zip(places, session.run(list(places.values()), row), strict=True):
            largest[place] = max(largest[place], np.asarray(scales).max())
    return largest


def calibration_rows(model: Model, train: Examples) -> Iterator[dict[str, np.ndarray]]:
    """The inputs of one training row after the other, as an ONNX session takes them."""
    tokens = tokenize(subset(train, CALIBRATION_ROWS), model.tokenizer, model.max_length, None)
    for row in range(len(tokens)):
        ids = tokens.input_ids[tokens.offsets[row]:tokens.offsets[row + 1]].astype(np.int64)[None]
        types = (np.arange(ids.shape[1]) >= tokens.second_start[row]).astype(np.int64)[None]
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
