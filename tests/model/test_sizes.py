"""The six sizes against the published counts, the arithmetic against the real parameter tree."""

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.config import SIZES as SIZE_NAMES
from bertjax.config import BertConfig, InputError
from bertjax.model.bert import init_params
from bertjax.model.layout import HEAD, param_shapes
from bertjax.model.sizes import (
    SIZES,
    encoder_linear_count,
    hub_name,
    param_count,
    size_config,
    size_name,
    word_embedding_count,
)
from bertjax.params import ENCODER_KERNELS, count, paths

MILLIONS = {"tiny": (4.39, 0.39), "mini": (11.17, 3.15), "small": (28.76, 12.58), "medium": (41.37, 25.17),
            "base": (109.48, 84.93), "large": (335.14, 301.99)}
"""All parameters with pooler and without task head, and the encoder's linear weights."""

CONFIGS = st.builds(
    lambda heads, per_head, layers, ffn, vocab, positions, types, labels: BertConfig(
        vocab_size=vocab, hidden_size=heads * per_head, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=ffn, max_position_embeddings=positions, type_vocab_size=types, num_labels=labels),
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.integers(1, 20), st.integers(1, 50),
    st.integers(1, 20), st.integers(1, 3), st.integers(1, 4))


def tree_without_head(config):
    tree = paths(jax.eval_shape(lambda: init_params(config)))
    return {path: leaf for path, leaf in tree.items() if path not in HEAD}


@pytest.mark.parametrize("name", SIZE_NAMES)
def test_counts_are_the_published_ones_and_the_trees(name):
    config = size_config(name)
    total, linear = MILLIONS[name]
    assert round(param_count(config) / 1e6, 2) == total
    assert round(encoder_linear_count(config) / 1e6, 2) == linear
    tree = tree_without_head(config)
    assert count(tree) == param_count(config)
    assert count(tree, ENCODER_KERNELS) == encoder_linear_count(config)


@given(CONFIGS)
@settings(max_examples=8)
def test_arithmetic_is_the_tree_for_any_shape(config):
    tree = paths(jax.eval_shape(lambda: init_params(config)))
    assert {path: leaf.shape for path, leaf in tree.items()} == param_shapes(config)
    assert param_count(config, config.num_labels) == count(tree)
    assert word_embedding_count(config) == count(tree, "bert/embeddings/word_embeddings/embedding")


@pytest.mark.parametrize("name", SIZE_NAMES)
def test_a_size_knows_its_name(name):
    assert size_name(size_config(name)) == name
    assert set(SIZES) == set(SIZE_NAMES)


def test_hub_names_say_the_shape():
    for name in ("tiny", "mini", "small", "medium"):
        config = size_config(name)
        assert hub_name(name) == (f"google/bert_uncased_L-{config.num_hidden_layers}_H-{config.hidden_size}"
                                  f"_A-{config.num_attention_heads}")
    assert (hub_name("base"), hub_name("large")) == ("google-bert/bert-base-uncased", "google-bert/bert-large-uncased")


def test_other_shapes_are_named_by_layers_and_hidden_size():
    assert size_name(BertConfig(num_hidden_layers=3, hidden_size=384)) == "L3H384"
    assert size_name(BertConfig(num_attention_heads=6)) == "L12H768"


@pytest.mark.parametrize("ask", [size_config, hub_name])
def test_an_unknown_size_is_named(ask):
    with pytest.raises(InputError, match="unknown size 'huge'; the sizes are tiny, mini"):
        ask("huge")
