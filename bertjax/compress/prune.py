"""P: magnitude pruning of the encoder's weight matrices (arXiv:2208.09684, section 3; embeddings stay dense).

Score, mask and application are separate pure functions. The threshold is per matrix and exact: bisection on the bit
pattern of |w|, which orders like the magnitude, with integer counts; equal magnitudes go from the lowest index on.
"""

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bertjax.compress.schedule import dropped_count
from bertjax.params import ENCODER_KERNELS, Params, nest, paths, select

KeepMasks: TypeAlias = dict[str, Bool[Array, "..."]]
"""A mask for each pruned matrix by its path: True = kept."""


def keep_mask(weight: Float[Array, "*shape"], dropped: Int[Array, ""]) -> Bool[Array, "*shape"]:
    """True for all but the `dropped` smallest magnitudes of `weight`; exact, also with ties and NaN (the largest)."""
    bits = jax.lax.bitcast_convert_type(jnp.abs(weight).astype(jnp.float32), jnp.int32)
    flat_index = jnp.arange(weight.size, dtype=jnp.int32).reshape(weight.shape)
    # The largest `below` with at most `dropped` magnitudes under it.
    below = _bisect(lambda bound: jnp.sum(bits < bound, dtype=jnp.int32) <= dropped, 31)
    ties = dropped - jnp.sum(bits < below, dtype=jnp.int32)
    tied = bits == below
    # The largest `first_kept` with at most `ties` tied elements before it.
    rounds = max(weight.size.bit_length(), 1)
    first_kept = _bisect(lambda bound: jnp.sum(tied & (flat_index < bound), dtype=jnp.int32) <= ties, rounds)
    return (bits > below) | (tied & (flat_index >= first_kept))


def _bisect(holds, rounds: int) -> Int[Array, ""]:
    """The largest integer below 2^rounds for which the monotone predicate `holds`, set bit by bit; holds(0) is true."""

    def body(i: Int[Array, ""], found: Int[Array, ""]) -> Int[Array, ""]:
        candidate = found | (jnp.int32(1) << (rounds - 1 - i))
        return jnp.where(holds(candidate), candidate, found)

    return jax.lax.fori_loop(0, rounds, body, jnp.int32(0))


def all_kept(params: Params) -> KeepMasks:
    """Masks that keep every weight."""
    chosen = paths(select(params, ENCODER_KERNELS))
    return {path: jnp.ones(w.shape, bool) for path, w in paths(params).items() if chosen[path]}


def update_masks(params: Params, masks: KeepMasks, units: Int[Array, ""], frozen: Bool[Array, ""]) -> KeepMasks:
    """Masks of the present magnitudes at a sparsity of `units`/10,000; the old ones where `frozen`.

    Matrices of one shape are stacked: a BERT then has three bisections to compile, not six per layer.
    """
    weights, by_shape, updated = paths(params), {}, {}
    for path in masks:
        by_shape.setdefault(masks[path].shape, []).append(path)
    for shape, members in by_shape.items():
        dropped = dropped_count(math.prod(shape), units)
        stacked = jax.vmap(keep_mask, in_axes=(0, None))(jnp.stack([weights[path] for path in members]), dropped)
        updated |= {path: jnp.where(frozen, masks[path], mask) for path, mask in zip(members, stacked, strict=True)}
    return {path: updated[path] for path in masks}


def apply_masks(params: Params, masks: KeepMasks) -> Params:
    """`params` with the dropped weights at zero; they get no gradient, and return if a later mask keeps them."""
    return nest({
        path: jnp.where(masks[path], leaf, jnp.zeros_like(leaf)) if path in masks else leaf
        for path, leaf in paths(params).items()
    })
