"""Q: symmetric integer quantization with straight-through gradients; the only file that imports AQT.

One definition for training, packing and export: with b bits the scale is max|x| * (1 / (2^(b-1) - 1)), but at least
2^-125, codes are round-half-even(x * (1 / scale)), and both sides of a product are stored as int8 whatever the bits, so
that every pair of 2 to 8 bits lowers to s8 x s8 -> s32 (AQT's own choice for mixed bits is s32 x s32, slow on every
device). What a gelu made counts as at least `bertjax.model.bert.GELU_DEPTH` large.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from aqt.jax.v2 import calibration
from aqt.jax.v2 import config as aqt_config
from aqt.jax.v2 import utils as aqt_utils
from aqt.jax.v2.numerics import int_numerics
from jaxtyping import Array, Float, Int8

from bertjax.config import Dtype, QuantizeConfig
from bertjax.model.products import dense_product, rounded_product
from bertjax.params import EMBEDDINGS, Params, select

SMALLEST_SCALE = np.float32(2.0**-125)
"""Every scale is at least this: twice the smallest normal float32, so that a scale has a reciprocal, and that numbers
which some devices take for zero, being subnormal, have code 0 on those that do not, too."""


@functools.cache
def dot_general(quantize: QuantizeConfig, dtype: Dtype = "float32") -> Callable[..., Array] | None:
    """The product of the encoder's linear layers: activations per token times weights per output channel.

    The gradient is straight-through: that of the product of the dequantized values, in the compute type `dtype`.
    Returns None for `jax.lax.dot_general`, or a function of its arguments and `least_peak`, see `quantize_codes`.
    """
    rounded = dtype == "bfloat16_products"
    bits = quantize.weight_bits, quantize.activation_bits
    if bits[0] is None or bits[1] is None:
        return dense_product if rounded else None

    def product(x: Array, weight: Array, *dimensions: Any, least_peak: float = 0.0, **rest: Any) -> Array:
        return cast(Array, _aqt_product(*bits, rounded, least_peak)(x, weight, *dimensions, **rest))

    return product


@functools.cache
def _aqt_product(weight_bits: int, activation_bits: int, rounded: bool, least_peak: float) -> Any:
    """AQT's product, with gradients of operands that are rounded to bfloat16 or not."""
    made = aqt_config.config_v4(fwd_bits=8, dlhs_bits=None, drhs_bits=None)
    aqt_config.set_fwd_calibration(made, _Float32AbsMax)
    made.fwd.dg_quantizer.lhs.calibration = functools.partial(_Float32AbsMax, least_peak=least_peak)
    aqt_config.set_numerics(made.fwd, _symmetric(activation_bits), _symmetric(weight_bits))
    aqt_config.set_accumulator_dtype(made, fwd_dtype=jnp.int32, dlhs_dtype=None, drhs_dtype=None)
    aqt_config.set_use_fwd_quant(made, dlhs_use_fwd_quant=True, drhs_use_fwd_quant=True)
    if rounded:  # codes of up to 8 bits are exact in bfloat16
        made.dlhs.dot_general = made.drhs.dot_general = rounded_product
    return made


@aqt_utils.flax_slots_kw_only_dataclass
class _Float32AbsMax(calibration.AbsMaxCalibration):
    """Scales by the largest magnitude, in float32 also for bfloat16 operands, whose 8 bits would spoil the codes."""

    least_peak: float = 0.0

    def get_scale_and_bias_and_sparsity(
        self, x: Array, shared_axes: Any, numerics_: Any, context: Any = None
    ) -> tuple[list[Array], list[Array], Array | None]:
        return [_scale(x.astype(jnp.float32), numerics_.bits, shared_axes, self.least_peak)], [], None


def _symmetric(bits: int) -> int_numerics.IntSymmetric:
    """AQT's numerics with max|x| on the centre of the last bucket, stored in int8."""
    return int_numerics.IntSymmetric(bits=bits, preserve_zero=True, preserve_max_val=True, clip=True,
                                     clip_gradient=False, round=True, noise_fn=None, dtype=jnp.int8)


def quantize_codes(
    x: Float[Array, "*shape"], bits: int, axis: int, least_peak: float = 0.0
) -> tuple[Int8[Array, "*shape"], Float[Array, "*shape"]]:
    """Integer codes and float32 scales of `x`, one scale per slice along `axis` (kept with length 1).

    An all-zero slice gets `smallest_scale` and codes 0. The largest code is missing where the peak is below the largest
    code times that (3e-36 with 8 bits); where the scale is above 2^126, and so has no reciprocal, all codes are 0.

    Args:
        x: Any floats.
        bits: 2 to 8.
        axis: Along which numbers share a scale.
        least_peak: What a slice's largest magnitude counts as at least. Of numbers that are never below minus this the
            largest tells the scale, without the magnitudes.
    """
    x = x.astype(jnp.float32)
    bound = largest_code(bits)
    scale = _scale(x, bits, axis, least_peak)
    # AQT multiplies by the reciprocal too: dividing would give other codes next to a rounding boundary.
    return jnp.clip(jnp.round(x * jax.lax.reciprocal(scale)), -bound, bound).astype(jnp.int8), scale


def largest_code(bits: int) -> int:
    """Codes of `bits` bits go from minus this number to this number."""
    return 2 ** (bits - 1) - 1


def inverse_bound(bits: int) -> np.float32:
    """1 / `largest_code`, rounded: what a peak is multiplied by.

    A division by the bound is another number, by one unit in the last place; XLA's CPU compiles one to this product.
    """
    return np.float32(1) / np.float32(largest_code(bits))


def _scale(x: Float[Array, "*shape"], bits: int, axis: Any, least_peak: float) -> Float[Array, "*shape"]:
    peak = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    return jnp.maximum(peak * inverse_bound(bits), smallest_scale(bits, least_peak))


def smallest_scale(bits: int, least_peak: float = 0.0) -> np.float32:
    """The scale of a slice of zeros, see `quantize_codes`."""
    return np.maximum(np.float32(least_peak) * inverse_bound(bits), SMALLEST_SCALE)


def dequantize(
    codes: Int8[np.ndarray, "*shape"], scale: Float[np.ndarray, "*shape"], bits: int
) -> Float[np.ndarray, "*shape"]:
    """Floats that `quantize_codes` turns into just these codes and scales, so that a model of them computes the same.

    They are `codes * scale`, but for the largest code of some slices: that product, times `inverse_bound`, need not
    round to the scale again (of all float32 peaks it fails for 4 % with 8 bits, 71 % with 7, 17 % with 3, none with
    2). Such a slice has one of the product's two neighbours there, one of which always gives the scale.

    Args:
        codes: At least one of each slice is the largest, or the scale is `SMALLEST_SCALE`.
        scale: As `quantize_codes` makes it, broadcast against the codes.
        bits: 2 to 8.
    """
    bound = largest_code(bits)
    with np.errstate(over="ignore"):  # the greatest float32 may be the neighbour of an infinite product
        values = np.multiply(codes, scale, dtype=np.float32)
        peak = _returning_peak(scale, bits)
        moved = peak != scale * np.float32(bound)
    if moved.any():
        np.copyto(values, peak, where=moved & (codes == bound))
        np.copyto(values, -peak, where=moved & (codes == -bound))
    return values


def _returning_peak(scale: Float[np.ndarray, "*shape"], bits: int) -> Float[np.ndarray, "*shape"]:
    """The float next to `scale` times the largest code whose product with `inverse_bound` is `scale`."""
    product = scale * np.float32(largest_code(bits))
    near = [product, np.nextafter(product, np.float32(0)), np.nextafter(product, np.float32(np.inf))]
    return np.select([peak * inverse_bound(bits) == scale for peak in near], near, product)


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
