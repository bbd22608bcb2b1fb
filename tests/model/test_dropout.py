"""The laws of dropout: its rate, and bits that depend on seed, step, site and position, and on nothing else."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.model.dropout import DropoutKey, dropout, dropout_key, mix

SHAPES = [(64, 1024), (16, 48, 96), (4, 4, 64, 64)]
"""Pooled outputs [batch, hidden], hidden states [batch, seq, hidden], attention [batch, heads, q, k]."""
RATES = (0.1, 0.3, 0.5, 0.9)
SIGMAS = 4


def key(seed: int = 0, step: int = 0, batch: int = 4, first: int = 0) -> DropoutKey:
    """The key of `batch` rows from position `first` on."""
    return dropout_key(jnp.uint32(seed), jnp.uint32(step), first + jnp.arange(batch))


@partial(jax.jit, static_argnums=(1, 2))
def dropped(x: jax.Array, rate: float, site: int, key: DropoutKey | None) -> jax.Array:
    """`dropout`, compiled."""
    return dropout(x, rate, key, site)


def kept(shape: tuple[int, ...], rate: float, key: DropoutKey, site: int = 0) -> np.ndarray:
    """True where an element of a tensor of `shape` stays."""
    return np.asarray(dropped(jnp.ones(shape), rate, site, key)) > 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kept_fraction_is_the_rate_everywhere(shape: tuple[int, ...]) -> None:
    for rate in RATES:
        keep = kept(shape, rate, key(seed=1, step=2, batch=shape[0]))
        sigma = np.sqrt(rate * (1 - rate))
        assert abs(keep.mean() - (1 - rate)) < SIGMAS * sigma / np.sqrt(keep.size)
        # Also of every slice along every axis: there is no index that is dropped more often than others.
        for axis in range(keep.ndim):
            slices = keep.mean(tuple(i for i in range(keep.ndim) if i != axis))
            error = (slices - (1 - rate)) / (sigma / np.sqrt(keep.size / keep.shape[axis]))
            assert np.abs(error).max() < SIGMAS + 1
            assert abs((error**2).mean() - 1) < SIGMAS * np.sqrt(2 / error.size)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_neighbours_along_every_axis_are_independent(shape: tuple[int, ...]) -> None:
    keep = kept(shape, 0.5, key(seed=3, batch=shape[0])) - 0.5
    for axis in range(keep.ndim):
        for lag in (1, 2, 3):
            moved = np.moveaxis(keep, axis, 0)
            product = moved[lag:] * moved[:-lag]
            assert abs(product.mean()) * 4 * np.sqrt(product.size) < SIGMAS


@jax.jit
def bits_of(seed: jax.Array, step: jax.Array, site: jax.Array) -> jax.Array:
    """Two rows of 64 × 64 elements for each seed, step and site."""
    return jax.vmap(lambda *at: dropout(jnp.ones((2, 64, 64)), 0.5, dropout_key(*at[:2], jnp.arange(2)), at[2]))(
        seed, step, site)


def test_seeds_steps_sites_and_rows_draw_independent_bits() -> None:
    seeds, steps, sites = np.meshgrid([0, 1, 2**32 - 1], [0, 1, 2, 1000], [0, 1, 2, 19], indexing="ij")
    rows = np.asarray(bits_of(*(jnp.asarray(at.ravel(), jnp.uint32) for at in (seeds, steps, sites)))) - 1
    rows = rows.reshape(-1, 64 * 64)
    assert rows.shape[0] == 96
    correlation = (rows @ rows.T / rows.shape[1])[np.triu_indices(len(rows), 1)] * np.sqrt(rows.shape[1])
    # 4,560 pairs, each of unit variance: the largest of so many normal numbers is below 5.
    assert np.abs(correlation).max() < 5
    assert abs(correlation.mean()) < SIGMAS / np.sqrt(correlation.size)
    assert abs((correlation**2).mean() - 1) < SIGMAS * np.sqrt(2 / correlation.size)


def test_equal_coordinates_draw_equal_bits() -> None:
    np.testing.assert_array_equal(kept((4, 5, 6), 0.5, key(seed=7, step=8)), kept((4, 5, 6), 0.5, key(seed=7, step=8)))


@pytest.mark.parametrize("shape", [(6, 40), (6, 5, 40), (6, 3, 5, 7)], ids=str)
def test_a_rows_bits_depend_on_its_position_alone_and_not_on_the_other_rows(shape: tuple[int, ...]) -> None:
    whole = kept(shape, 0.5, key(batch=6))
    np.testing.assert_array_equal(kept((2, *shape[1:]), 0.5, key(batch=2, first=3)), whole[3:5])
    order = np.array([4, 0, 5, 2, 1, 3])
    shuffled = DropoutKey(key().seed, jnp.asarray(order, jnp.uint32))
    np.testing.assert_array_equal(kept(shape, 0.5, shuffled), whole[order])


def test_padding_moves_no_bit() -> None:
    short, long = kept((4, 5, 24), 0.5, key()), kept((4, 31, 24), 0.5, key())
    np.testing.assert_array_equal(short, long[:, :5])
    short, long = kept((4, 3, 5, 5), 0.5, key()), kept((4, 3, 31, 31), 0.5, key())
    np.testing.assert_array_equal(short, long[:, :, :5, :5])


def test_trials_under_vmap_draw_what_they_draw_alone() -> None:
    seeds = jnp.array([0, 5, 2**31], jnp.uint32)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5, 6)), jnp.float32)

    def one(x: jax.Array, seed: jax.Array) -> jax.Array:
        return dropout(x, 0.3, dropout_key(seed, jnp.uint32(9), jnp.arange(4)), 2)

    together = jax.jit(jax.vmap(one))(x, seeds)
    for trial in range(3):
        np.testing.assert_array_equal(together[trial], jax.jit(one)(x[trial], seeds[trial]))


def test_what_stays_is_scaled_so_that_the_mean_is_preserved_forward_and_backward() -> None:
    x = jnp.asarray(np.random.default_rng(1).uniform(1, 2, (64, 32, 32)), jnp.float32)
    for rate in RATES:
        made, pull = jax.vjp(lambda x, rate=rate: dropped(x, rate, 0, key(batch=64)), x)
        keep = np.asarray(made) != 0
        np.testing.assert_allclose(np.asarray(made)[keep], np.asarray(x)[keep] / (1 - rate), rtol=1e-6)
        sigma = np.sqrt((np.asarray(x) ** 2).sum() * rate / (1 - rate))
        assert abs(float(made.sum() - x.sum())) < SIGMAS * sigma
        np.testing.assert_allclose(pull(jnp.ones_like(x))[0], keep / (1 - rate), rtol=1e-6)


def test_no_key_or_rate_0_is_the_identity() -> None:
    x = jnp.asarray([[np.nan, -0.0, np.inf, 1e-45]], jnp.float32)
    for same in (dropout(x, 0.5, None, 0), dropout(x, 0.0, key(batch=1), 0)):
        assert np.asarray(same).tobytes() == np.asarray(x).tobytes()


def test_a_dropped_nan_is_zero_and_the_type_stays() -> None:
    made = dropped(jnp.full((4, 32), jnp.nan, jnp.bfloat16), 0.5, 0, key())
    assert made.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.isnan(np.float32(made)), kept((4, 32), 0.5, key()))


def test_mix_is_a_bijection_that_flips_half_of_the_bits() -> None:
    # Of 2^20 words, a map that is not one to one would bring about 128 pairs together.
    words = np.unique(np.random.default_rng(2).integers(0, 2**32, 2**20).astype(np.uint32))
    assert len(np.unique(mix(jnp.asarray(words)))) == len(words)
    words = np.concatenate([words[: 2**14], np.arange(2**14, dtype=np.uint32)])
    mixed = np.asarray(mix(jnp.asarray(words)))
    for bit in range(32):
        flipped = mixed ^ np.asarray(mix(jnp.asarray(words ^ np.uint32(1 << bit))))
        share = np.array([(flipped >> out & 1).mean() for out in range(32)])
        assert np.abs(share - 0.5).max() < 0.05
