"""Dropout whose bits depend on the trial's seed, the step and the position in the global batch, and on nothing else.

A counter-based generator: every element hashes its own coordinates. So a trial draws the same bits alone or in a grid,
on one device or on many, in a short bucket or a long one; JAX's `rbg` keys do not promise that under `vmap`, and
threefry costs several times more on a CPU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt32

STRIDES = (2**22, 2**12, 1)
"""Distance in the counter along the last three axes; fixed, so that padding moves no bit. Room for 4,096 features,
1,024 tokens and 1,024 heads."""


class DropoutKey(NamedTuple):
    """What the dropout bits of one batch are a function of."""

    seed: UInt32[Array, ""]
    """Hash of the trial's seed and the optimizer step."""
    position: UInt32[Array, " batch"]
    """Position of each row in the global batch."""


def mix(x: UInt32[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """A bijection of 32-bit words in which every input bit flips every output bit with probability near 1/2."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def dropout_key(seed: UInt32[Array, ""], step: UInt32[Array, ""], position: UInt32[Array, " batch"]) -> DropoutKey:
    """The key of one step of one trial."""
    return DropoutKey(mix(mix(seed.astype(jnp.uint32)) + step.astype(jnp.uint32)), position.astype(jnp.uint32))


def dropout(
    x: Float[Array, "batch *shape"], rate: float, key: DropoutKey | None, site: int
) -> Float[Array, "batch *shape"]:
    """Zeroes elements of `x` with probability `rate` and scales the rest by 1/(1 - rate).

    Args:
        x: Activations with one to three axes after the batch.
        rate: Probability of dropping, in [0, 1).
        key: None, or rate 0, leaves `x` as it is.
        site: Number of this dropout in the model; different sites draw independent bits.
    """
    if key is None or rate == 0.0:
        return x
    row = mix(mix(key.seed + jnp.uint32(site)) ^ key.position)
    counter = jnp.zeros(x.shape[1:], jnp.uint32)
    for axis, stride in enumerate(STRIDES[-(x.ndim - 1):]):
        counter += jax.lax.broadcasted_iota(jnp.uint32, x.shape[1:], axis) * jnp.uint32(stride)
    row = row.reshape([-1] + [1] * (x.ndim - 1))
    bits = mix(mix(counter ^ row) + row)
    keep = bits >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))
