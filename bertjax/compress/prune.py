"""P: magnitude pruning of the encoder's weight matrices (arXiv:2208.09684, section 3; embeddings stay dense).

Score, mask and application are separate pure functions. The threshold is per matrix and exact: bisection on the bit
pattern of |w|, which orders like the magnitude, with integer counts; equal magnitudes go from the lowest index on.
"""

from collections.abc import Callable
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
    # The largest `first_kept` with at most `ties` tied elements before it. Seldom is one of them to be dropped.
    rounds = jnp.where(ties > 0, max(weight.size.bit_length(), 1), 0)
    first_kept = _bisect(lambda bound: jnp.sum(tied & (flat_index < bound), dtype=jnp.int32) <= ties, rounds)
    return (bits > below) | (tied & (flat_index >= first_kept))


def _bisect(holds: Callable[[Int[Array, ""]], Array], rounds: int | Int[Array, ""]) -> Int[Array, ""]:
    """The largest integer below 2^rounds for which the monotone predicate `holds`, set bit by bit; holds(0) is true."""

    def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        left, found = carry
        candidate = found | (jnp.int32(1) << (left - 1))
        return left - 1, jnp.where(holds(candidate), candidate, found)

    return jax.lax.while_loop(lambda carry: carry[0] > 0, body, (jnp.asarray(rounds, jnp.int32), jnp.int32(0)))[1]


def all_kept(params: Params) -> KeepMasks:
    """Masks that keep every weight."""
    chosen = paths(select(params, ENCODER_KERNELS))
    return {path: jnp.ones(w.shape, bool) for path, w in paths(params).items() if chosen[path]}


def update_masks(params: Params, masks: KeepMasks, units: Int[Array, ""], frozen: Bool[Array, ""]) -> KeepMasks:
    """Masks of the present magnitudes at a sparsity of `units`/10,000; the old ones where `frozen`.

    Matrices of one size are stacked: a BERT then has two searches to compile, not six per layer.
    """
    weights, by_size = paths(params), {}
    for path, mask in masks.items():
        by_size.setdefault(mask.size, []).append(path)

    def updated() -> KeepMasks:
        made = {}
        for size, members in by_size.items():
            flat = jnp.stack([weights[path].reshape(-1) for path in members])
            kept = jax.vmap(keep_mask, in_axes=(0, None))(flat, dropped_count(size, units))
            made |= {path: mask.reshape(masks[path].shape) for path, mask in zip(members, kept, strict=True)}
        return {path: made[path] for path in masks}

    return jax.lax.cond(frozen, lambda: masks, updated)


def apply_masks(params: Params, masks: KeepMasks) -> Params:
    """`params` with the dropped weights at zero; they get no gradient, and return if a later mask keeps them."""
    return nest({path: masked(leaf, masks[path]) if path in masks else leaf for path, leaf in paths(params).items()})


@jax.custom_jvp
def masked(weight: Float[Array, "*shape"], keep: Bool[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`weight` where `keep`, else 0.0, whatever the weight: as `jnp.where`, by an AND of bits.

    XLA's CPU does not vectorize a select by stored booleans, which makes it several times slower.
    """
    integer = jnp.dtype(f"int{8 * weight.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(weight, integer) & -keep.astype(integer)
    return jax.lax.bitcast_convert_type(bits, weight.dtype)


@masked.defjvp
def _masked_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (weight, keep), (tangent, _) = primals, tangents
    return masked(weight, keep), tangent * keep.astype(tangent.dtype)
