"""P: magnitude pruning of the encoder's weight matrices (arXiv:2208.09684, section 3; embeddings stay dense).

Score, mask and application are separate pure functions. The threshold is per matrix and exact: a search on the bit
pattern of |w|, which orders like the magnitude, with integer counts; equal magnitudes go from the lowest index on.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bertjax.compress.schedule import dropped_count
from bertjax.params import ENCODER_KERNELS, Params, nest, paths, select

KeepMasks: TypeAlias = dict[str, Bool[Array, "..."]]
"""A mask for each pruned matrix by its path: True = kept."""


MOST_BITS = 2**31 - 2
"""Bit pattern of the largest magnitude, a NaN: one more is still an int32."""
GUESSES = 12
"""Steps of a search that interpolate; few need more, and those halve what is left, at most 31 times."""


def keep_mask(weight: Float[Array, "*shape"], dropped: Int[Array, ""]) -> Bool[Array, "*shape"]:
    """True for all but the `dropped` smallest magnitudes of `weight`; exact, also with ties and NaN (the largest)."""
    magnitude = jnp.abs(weight).astype(jnp.float32)
    bits = jnp.minimum(jax.lax.bitcast_convert_type(magnitude, jnp.int32), MOST_BITS)
    flat_index = jnp.arange(weight.size, dtype=jnp.int32).reshape(weight.shape)
    found = threshold(bits, jnp.mean(magnitude), dropped)
    ties = dropped - found.count
    tied = bits == found.low
    # The largest `first_kept` with at most `ties` tied elements before it. Seldom is one of them to be dropped.
    rounds = jnp.where(ties > 0, max(weight.size.bit_length(), 1), 0)
    first_kept = _bisect(lambda bound: jnp.sum(tied & (flat_index < bound), dtype=jnp.int32) <= ties, rounds)
    return (bits > found.low) | (tied & (flat_index >= first_kept))


class Bracket(NamedTuple):
    """Bounds of a threshold. At most `dropped` magnitudes are below `low`, and more are below `high`."""

    low: Int[Array, ""]
    high: Int[Array, ""]
    count: Int[Array, ""]
    """Magnitudes below `low`."""
    places: Float[Array, "2"]
    """Of both bounds on an axis from 0 to 1, along which counts grow evenly."""
    misses: Float[Array, "2"]
    """How many magnitudes each bound is off, halved for one that stayed where it was (the Illinois method)."""
    moved: Int[Array, ""]
    """The bound that moved last, 0 or 1; 2 at first."""
    steps: Int[Array, ""]
    """Passes over the magnitudes."""


def threshold(bits: Int[Array, "*shape"], mean: Float[Array, ""], dropped: Int[Array, ""]) -> Bracket:
    """A bracket whose `low` has as many `bits` below it as are `dropped`, or is the largest bound that has fewer.

    Weights lie about as an exponential distribution of their mean magnitude says, so that interpolating between its
    quantiles takes about ten passes over the weights, where a bisection takes 31. A bad guess costs time alone.
    """

    def searching(b: Bracket) -> Bool[Array, ""]:
        return (b.count != dropped) & (b.high - b.low > 1)

    def narrowed(b: Bracket) -> Bracket:
        place = b.places[0] + (b.places[1] - b.places[0]) * b.misses[0] / (b.misses[0] - b.misses[1])
        guess = jax.lax.bitcast_convert_type(-mean * jnp.log1p(-place), jnp.int32)
        guess = jnp.where(b.steps < GUESSES, guess, b.low + (b.high - b.low) // 2)
        guess = jnp.clip(guess, b.low + 1, b.high - 1)
        count = jnp.sum(bits < guess, dtype=jnp.int32)
        side = (count > dropped).astype(jnp.int32)
        misses = jnp.where(b.moved == side, b.misses.at[1 - side].multiply(0.5), b.misses)
        place = -jnp.expm1(-jax.lax.bitcast_convert_type(guess, jnp.float32) / mean)
        return Bracket(
            low=jnp.where(side == 0, guess, b.low), high=jnp.where(side == 1, guess, b.high),
            count=jnp.where(side == 0, count, b.count), places=b.places.at[side].set(place),
            misses=misses.at[side].set((count - dropped).astype(jnp.float32)), moved=side, steps=b.steps + 1)

    zero = jnp.int32(0)
    off = jnp.stack([-dropped, bits.size - dropped]).astype(jnp.float32)
    first = Bracket(zero, jnp.int32(MOST_BITS + 1), zero, jnp.array([0.0, 1.0]), off, jnp.int32(2), zero)
    return jax.lax.while_loop(searching, narrowed, first)


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
            kept = _each_mask(flat, dropped_count(size, units))
            made |= {path: mask.reshape(masks[path].shape) for path, mask in zip(members, kept, strict=True)}
        return {path: made[path] for path in masks}

    return jax.lax.cond(frozen, lambda: masks, updated)


def _each_mask(weights: Float[Array, "matrices size"], dropped: Int[Array, ""]) -> Bool[Array, "matrices size"]:
    """`keep_mask` of each: on a CPU one after the other, which stays in its caches and takes no more steps than it
    needs; elsewhere all at once."""
    one = partial(keep_mask, dropped=dropped)
    return jax.lax.platform_dependent(weights, cpu=lambda w: jax.lax.map(one, w), default=jax.vmap(one))


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
