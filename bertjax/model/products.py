"""Products of float32 arrays that round their operands to bfloat16 and sum in float32 (`bfloat16_products`).

TPUs multiply float32 so by default, and processors with AMX multiply several times as fast so. Of the other operations
none gains by bfloat16 on a CPU, where XLA computes them by way of float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from bertjax.config import Dtype

Dimensions = tuple[tuple[Any, Any], tuple[Any, Any]]
"""Contracted and batch axes, as `jax.lax.dot_general` takes them."""

ROWS: Dimensions = (((1,), (0,)), ((), ()))
"""Of a linear layer on a matrix."""


def activation_type(dtype: Dtype) -> jnp.dtype:
    """What activations are in a compute type."""
    return jnp.dtype("float32" if dtype == "bfloat16_products" else dtype)


def rounded_product(
    lhs: Array, rhs: Array, dimension_numbers: Dimensions, precision: Any = None, preferred_element_type: Any = None
) -> Array:
    """`jax.lax.dot_general` of operands rounded to bfloat16, in float32; the last two arguments are not used.

    Its own gradient would be slow: JAX's multiplies float32 by bfloat16.
    """
    return lax.dot_general(lhs.astype(jnp.bfloat16), rhs.astype(jnp.bfloat16), dimension_numbers,
                           preferred_element_type=jnp.float32)


def dense_product(
    x: Float[Array, "rows inputs"], weight: Float[Array, "inputs outputs"], dimension_numbers: Dimensions,
    precision: Any = None, preferred_element_type: Any = None, least_peak: float = 0.0,
) -> Float[Array, "rows outputs"]:
    """The same for a linear layer, with gradients that are such products too.

    Args:
        dimension_numbers: Those of `x @ weight`.
        least_peak: Of no use to floats.
    """
    assert dimension_numbers == ROWS, f"a linear layer contracts {ROWS}, got {dimension_numbers}"
    return _dense_product(x, weight)


@jax.custom_vjp
def _dense_product(x: Array, weight: Array) -> Array:
    return rounded_product(x, weight, ROWS)


def _forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    saved = x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)
    return rounded_product(*saved, ROWS), saved


def _backward(saved: tuple[Array, Array], grads: Array) -> tuple[Array, Array]:
    x, weight = saved
    return rounded_product(grads, weight, (((1,), (1,)), ((), ()))), rounded_product(x, grads, (((0,), (0,)), ((), ())))


_dense_product.defvjp(_forward, _backward)
