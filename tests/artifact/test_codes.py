"""Codes and scales that leave training are those it computed with, to the last bit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bertjax.artifact.codes import model_codes
from bertjax.artifact.exports.to_hf import weight_only
from bertjax.artifact.load import Model
from bertjax.compress.quantize import dot_general, quantize_embeddings
from bertjax.config import FLOAT, QuantizeConfig
from bertjax.params import EMBEDDINGS, count, paths, select


def test_products_and_tables_of_the_codes_are_trainings(quantized: Model) -> None:
    codes, before = model_codes(quantized.params, quantized.quantize), paths(quantized.params)
    tables = paths(jax.jit(lambda params: quantize_embeddings(params, 8))(quantized.params))
    product = dot_general(quantized.quantize)
    one_by_one = jax.jit(lambda w: product(jnp.eye(w.shape[0]), w, (((1,), (0,)), ((), ()))))
    for path, (integers, scale, _) in codes.items():
        assert integers.dtype == np.int8 and scale.dtype == np.float32
        if path.endswith("/embedding"):
            np.testing.assert_array_equal(integers * scale, tables[path])
        else:
            unit = np.float32(1) * (np.float32(1) / np.float32(127))  # the scale of a row of the identity
            np.testing.assert_array_equal(np.float32(127) * integers * unit * scale, one_by_one(before[path]))


def test_only_what_is_quantized_has_codes(model: Model) -> None:
    def quantized(*bits: int | None) -> set[str]:
        return set(model_codes(model.params, QuantizeConfig(*bits)))

    tables = {path for path, chosen in paths(select(model.params, EMBEDDINGS)).items() if chosen}
    assert quantized(None, None, None) == set() and quantized(None, None, 8) == tables
    assert quantized(8, 8, 8) == quantized(8, 8, None) | tables
    assert len(quantized(8, 8, None)) == 6 * model.config.num_hidden_layers


def test_weight_only_models_hold_the_values_of_the_codes_as_floats(quantized: Model, model: Model) -> None:
    assert weight_only(model) is model
    made, codes = weight_only(quantized), model_codes(quantized.params, quantized.quantize)
    assert made.quantize == FLOAT and count(made.params) == count(quantized.params)
    for path, leaf in paths(made.params).items():
        expected = codes[path].codes * codes[path].scale if path in codes else paths(quantized.params)[path]
        np.testing.assert_array_equal(leaf, expected)
