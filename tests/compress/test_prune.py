"""The laws of pruning: exact counts, smallest first, ties from the lowest index, nothing where it is off."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bertjax.compress.prune import KeepMasks, all_kept, apply_masks, keep_mask, threshold, update_masks
from bertjax.config import SPARSITY_STEPS, BertConfig
from bertjax.model.layout import param_shapes
from bertjax.params import Params, nest, paths

CONFIG = BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
                    max_position_embeddings=6)
PRUNED = {
    f"bert/encoder/layer/{layer}/{matrix}/kernel" for layer in (0, 1)
    for matrix in ("attention/self/query", "attention/self/key", "attention/self/value", "attention/output/dense",
                   "intermediate/dense", "output/dense")
}
TRIALS = 3

one_mask = jax.jit(keep_mask)
trial_masks = jax.jit(jax.vmap(keep_mask))

tied_values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3e38, -1e-45, 1e-45])
any_values = st.floats(width=32, allow_nan=False, allow_subnormal=False)


def reference_mask(weight: np.ndarray, dropped: int) -> np.ndarray:
    """The same by a stable sort."""
    keep = np.ones(weight.size, bool)
    keep[np.argsort(np.abs(weight).ravel(), kind="stable")[:dropped]] = False
    return keep.reshape(weight.shape)


@st.composite
def stacked_weights(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Weights of some trials, and how many each drops. Few shapes, because each is compiled."""
    shape = draw(st.sampled_from([(1,), (2, 3), (4, 4), (3, 1, 5), (37,)]))
    elements = draw(st.sampled_from([tied_values, any_values, st.just(-0.0), tied_values | any_values]))
    weights = draw(arrays.arrays(np.float32, (TRIALS, *shape), elements=elements))
    size = int(np.prod(shape))
    return weights, draw(st.lists(st.integers(0, size), min_size=TRIALS, max_size=TRIALS))


@given(stacked_weights())
@settings(max_examples=200)
def test_exactly_the_smallest_are_dropped_ties_from_the_lowest_index(case: tuple[np.ndarray, list[int]]) -> None:
    weights, counts = case
    masks = np.asarray(trial_masks(weights, jnp.array(counts, jnp.int32)))
    for weight, dropped, mask in zip(weights, counts, masks, strict=True):
        assert (~mask).sum() == dropped
        if 0 < dropped < weight.size:
            assert np.abs(weight[mask]).min() >= np.abs(weight[~mask]).max()
        np.testing.assert_array_equal(mask, reference_mask(weight, dropped))
    np.testing.assert_array_equal(masks[0], one_mask(weights[0], counts[0]))


@pytest.mark.parametrize("dropped", [0, 1, 2, 5, 7, 8])
def test_nan_is_larger_than_every_number_whatever_its_sign_and_payload(dropped: int) -> None:
    weight = np.uint32([0x7FC00000, 0, 0xFFFFFFFF, 0x7F800000, 0x3F800000, 0x7F800001, 0x7FFFFFFF, 0x80000000])
    magnitude = weight & np.uint32(0x7FFFFFFF)
    keep = np.ones(weight.size, bool)
    keep[np.argsort(magnitude, kind="stable")[:dropped]] = False
    np.testing.assert_array_equal(jax.jit(keep_mask)(weight.view(np.float32), dropped), keep)


def test_a_matrix_of_minilm_with_thousands_of_ties() -> None:
    draw = np.random.default_rng(0)
    weight = (draw.normal(size=(384, 1536)) * 30).round().astype(np.float32) / 30
    for dropped in (0, 235_929, 353_893, weight.size - 1, weight.size):
        np.testing.assert_array_equal(one_mask(weight, dropped), reference_mask(weight, dropped))


@pytest.mark.parametrize("weights", ["normal", "laplace", "uniform", "with outliers", "pruned before"])
def test_a_threshold_takes_few_passes_over_the_weights(weights: str) -> None:
    draw = np.random.default_rng(2)
    weight = np.abs(getattr(draw, weights, draw.normal)(size=384 * 384)).astype(np.float32)
    if weights == "with outliers":
        weight[::1000] *= 1000
    if weights == "pruned before":
        weight[: weight.size // 4] *= 1e-6  # by weight decay
    search = jax.jit(lambda dropped: threshold(weight.view(np.int32), weight.mean(), dropped))
    for sparsity in (0.1, 0.4, 0.6, 0.95):
        found = search(int(sparsity * weight.size))
        assert found.count == int(sparsity * weight.size) == (weight.view(np.int32) < int(found.low)).sum()
        assert found.steps <= 18, (sparsity, found.steps)  # a bisection takes 31


@pytest.fixture(scope="module")
def params() -> Params:
    """A BERT whose matrices hold few distinct values, so that every threshold has ties."""
    draw = np.random.default_rng(1)
    return nest({path: np.float32(draw.integers(-4, 5, shape) / 4) for path, shape in param_shapes(CONFIG).items()})


def test_masks_cover_the_six_matrices_of_each_layer_and_nothing_else(params: Params) -> None:
    masks = all_kept(params)
    assert set(masks) == PRUNED
    for path, mask in masks.items():
        assert mask.dtype == bool and mask.shape == paths(params)[path].shape and mask.all()


def test_masks_that_keep_all_are_the_identity_bitwise(params: Params) -> None:
    special = jax.tree.map(lambda leaf: np.where(leaf == 0, np.float32(-0.0), leaf), params)
    same = apply_masks(special, all_kept(special))
    assert jax.tree.structure(same) == jax.tree.structure(special)
    for ours, theirs in zip(jax.tree.leaves(same), jax.tree.leaves(special), strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def trial_update(params: Params, masks: KeepMasks, units: int, frozen: bool) -> KeepMasks:
    """`update_masks` of each of two trials, the second with 1,234 units more than the first."""
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), params)
    each = jax.vmap(update_masks, in_axes=(0, None, 0, None))
    return each(stacked, masks, jnp.array([units, units + 1234]), jnp.array(frozen))


trial_update_jit = jax.jit(trial_update)


def test_every_matrix_of_every_trial_drops_its_own_exact_count(params: Params) -> None:
    for units in (0, 1, 4000, 6000, 8765):
        masks = trial_update_jit(params, all_kept(params), units, False)
        assert set(masks) == PRUNED
        for path, mask in masks.items():
            weight = paths(params)[path]
            for one, kept, its in zip((weight, weight[::-1]), mask, (units, units + 1234), strict=True):
                np.testing.assert_array_equal(kept, reference_mask(one, its * weight.size // SPARSITY_STEPS))


def test_frozen_masks_stay_as_they_are(params: Params) -> None:
    draw = np.random.default_rng(2)
    old = {path: draw.random(mask.shape) < 0.5 for path, mask in all_kept(params).items()}
    for path, mask in trial_update_jit(params, old, 5000, True).items():
        np.testing.assert_array_equal(mask, np.stack([old[path]] * 2))


def test_dropped_weights_count_as_zero_and_get_no_gradient_until_they_are_kept_again(params: Params) -> None:
    @jax.jit
    def applied_and_gradients(params: Params, masks: KeepMasks) -> tuple[Params, Params]:
        applied, pull = jax.vjp(lambda params: apply_masks(params, masks), params)
        return applied, pull(jax.tree.map(lambda leaf: 3 - leaf, applied))[0]

    half = {path: mask[0] for path, mask in trial_update_jit(params, all_kept(params), 5000, False).items()}
    for masks in (half, all_kept(params)):
        applied, gradients = map(paths, applied_and_gradients(params, masks))
        for path, leaf in paths(params).items():
            kept = np.asarray(masks.get(path, np.ones(leaf.shape, bool)))
            np.testing.assert_array_equal(applied[path], np.where(kept, leaf, 0))
            np.testing.assert_array_equal(gradients[path], np.where(kept, 3 - leaf, 0))
