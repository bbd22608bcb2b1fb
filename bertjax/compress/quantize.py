"""Q: symmetric integer quantization with straight-through gradients; the only file that imports AQT.

One definition for training, packing and export: with b bits the scale is max|x| / (2^(b-1) - 1), codes are
round-half-even(x * (1 / scale)), and both sides of a product are stored as int8 whatever the bits, so that every pair
of 2 to 8 bits lowers to s8 x s8 -> s32 (AQT's own choice for mixed bits is s32 x s32, slow on every device).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from aqt.jax.v2 import calibration
from aqt.jax.v2 import config as aqt_config
from aqt.jax.v2.numerics import int_numerics
from jaxtyping import Array, Float, Int8

from bertjax.config import QuantizeConfig
from bertjax.params import EMBEDDINGS, Params, select


@functools.cache
def dot_general(quantize: QuantizeConfig) -> Callable[..., Array] | None:
    """The product of the encoder's linear layers: activations per token times weights per output channel.

    The gradient is straight-through: that of the product of the dequantized values. Returns None for float.
    """
    if quantize.weight_bits is None or quantize.activation_bits is None:
        return None
    made = aqt_config.config_v4(fwd_bits=8, dlhs_bits=None, drhs_bits=None)
    aqt_config.set_fwd_calibration(made, _Float32AbsMax)
    aqt_config.set_numerics(made.fwd, _symmetric(quantize.activation_bits), _symmetric(quantize.weight_bits))
    aqt_config.set_accumulator_dtype(made, fwd_dtype=jnp.int32, dlhs_dtype=None, drhs_dtype=None)
    aqt_config.set_use_fwd_quant(made, dlhs_use_fwd_quant=True, drhs_use_fwd_quant=True)
    return made


class _Float32AbsMax(calibration.AbsMaxCalibration):
    """Scales by the largest magnitude, in float32 also for bfloat16 operands, whose 8 bits would spoil the codes."""

    def get_scale_and_bias_and_sparsity(
        self, x: Array, *args: Any, **kwargs: Any
    ) -> tuple[list[Array], list[Array], Array | None]:
        return super().get_scale_and_bias_and_sparsity(x.astype(jnp.float32), *args, **kwargs)


def _symmetric(bits: int) -> int_numerics.IntSymmetric:
    """AQT's numerics with max|x| on the centre of the last bucket, stored in int8."""
    return int_numerics.IntSymmetric(bits=bits, preserve_zero=True, preserve_max_val=True, clip=True,
                                     clip_gradient=False, round=True, noise_fn=None, dtype=jnp.int8)


def quantize_codes(
    x: Float[Array, "*shape"], bits: int, axis: int
) -> tuple[Int8[Array, "*shape"], Float[Array, "*shape"]]:
    """Integer codes and float32 scales of `x`, one scale per slice along `axis` (kept with length 1).

    An all-zero slice gets scale 1/(2^(bits-1)-1) and codes 0; so does, but for the scale, one too small to have a
    reciprocal (below 1e-36).
    """
    x = x.astype(jnp.float32)
    peak = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    bound = 2 ** (bits - 1) - 1
    scale = jnp.where(peak == 0, 1.0, peak) / bound
    # AQT multiplies by the reciprocal too: dividing would give other codes next to a rounding boundary.
    inverse = jax.lax.reciprocal(scale)
    inverse = jnp.where(jnp.isinf(inverse), 0.0, inverse)
    return jnp.clip(jnp.round(x * inverse), -bound, bound).astype(jnp.int8), scale


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def fake_quantize(x: Float[Array, "*shape"], bits: int, axis: int) -> Float[Array, "*shape"]:
    """`x` rounded to its codes and back, with the gradient of the identity (straight-through)."""
    codes, scale = quantize_codes(x, bits, axis)
    return (codes * scale).astype(x.dtype)


@fake_quantize.defjvp
def _fake_quantize_jvp(bits: int, axis: int, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return fake_quantize(primals[0], bits, axis), tangents[0]


def quantize_embeddings(params: Params, bits: int | None) -> Params:
    """Fake-quantizes the three embedding tables, one scale per row; None leaves `params` as they are."""
    if bits is None:
        return params

    def leaf(table: Array, selected: bool) -> Array:
        return fake_quantize(table, bits, -1) if selected else table

    return jax.tree.map(leaf, params, select(params, EMBEDDINGS))
