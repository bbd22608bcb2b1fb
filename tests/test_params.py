"""Laws of paths, patterns, counts and bytes over parameter trees."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.config import BertConfig
from bertjax.model.bert import init_params
from bertjax.model.sizes import encoder_linear_count, param_count
from bertjax.params import EMBEDDINGS, ENCODER_KERNELS, NO_DECAY, count, nest, num_bytes, paths, select

NAMES = st.text("abc", min_size=1, max_size=2)
LEAVES = st.integers(1, 5).map(lambda n: np.zeros(n, np.float16))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=8).filter(
    lambda tree: isinstance(tree, dict))


@pytest.fixture(scope="module")
def shapes():
    """The shapes of a BERT with 12 layers, so that layer numbers of two digits occur."""
    config = BertConfig(vocab_size=50, hidden_size=12, num_attention_heads=3, intermediate_size=20, num_labels=3)
    return config, jax.eval_shape(lambda: init_params(config))


@given(TREES)
def test_nest_inverts_paths(tree):
    again = nest(paths(tree))
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(tree), strict=True))


@given(TREES)
def test_paths_come_in_the_order_of_the_leaves(tree):
    assert [id(leaf) for leaf in paths(tree).values()] == [id(leaf) for leaf in jax.tree.leaves(tree)]


@given(TREES, st.sampled_from(["a/.*", ".*b", "c", ".*"]))
def test_a_pattern_and_its_complement_share_the_count(tree, pattern):
    selected = select(tree, pattern)
    assert jax.tree.structure(selected) == jax.tree.structure(tree)
    chosen = sum(leaf.size for leaf, yes in zip(jax.tree.leaves(tree), jax.tree.leaves(selected), strict=True) if yes)
    assert count(tree, pattern) == chosen
    assert count(tree, pattern) + count(tree, f"(?!(?:{pattern})$).*") == count(tree)
    assert num_bytes(tree, pattern) == 2 * count(tree, pattern)


def test_a_pattern_must_match_the_whole_path():
    tree = {"a": {"bias": np.zeros(2), "bias_like": np.zeros(3)}}
    assert paths(select(tree, "a/bias")) == {"a/bias": True, "a/bias_like": False}
    assert count(tree, "bias") == 0


def test_patterns_of_bert(shapes):
    config, params = shapes
    assert count(params, ENCODER_KERNELS) == encoder_linear_count(config)
    assert sum(jax.tree.leaves(select(params, ENCODER_KERNELS))) == 6 * config.num_hidden_layers
    assert sum(jax.tree.leaves(select(params, EMBEDDINGS))) == 3
    assert count(params) == param_count(config, config.num_labels)
    assert num_bytes(params) == 4 * count(params)
    by_rank = {path: len(leaf.shape) == 1 for path, leaf in paths(params).items()}
    assert paths(select(params, NO_DECAY)) == by_rank
