"""Operations of the matrix products: against arithmetic by hand and the compiler's own count."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from bertjax.config import BertConfig
from bertjax.model.bert import Inputs, init_params, logits_fn
from bertjax.model.flops import forward_flops, train_flops
from bertjax.model.sizes import encoder_linear_count

CONFIG = BertConfig(vocab_size=100, hidden_size=256, num_hidden_layers=3, num_attention_heads=4,
                    intermediate_size=1024, max_position_embeddings=64, num_labels=2)


def test_by_hand() -> None:
    one = BertConfig(hidden_size=2, num_hidden_layers=1, num_attention_heads=1, intermediate_size=3, num_labels=1)
    # Five tokens: keys and values of all 2*2*4*5 = 80; of the first token query and output 2*2*4 = 16, scores and
    # mixing 2*2*2*5 = 40, feed-forward 2*2*2*3 = 24; pooler 2*4 = 8 and head 2*2 = 4.
    assert forward_flops(one, 5) == 80 + 16 + 40 + 24 + 8 + 4
    assert train_flops(one, 5) == 3 * forward_flops(one, 5)
    two = BertConfig(hidden_size=2, num_hidden_layers=2, num_attention_heads=1, intermediate_size=3, num_labels=1)
    # A whole layer: 80 for keys and values, 80 for query and output, scores and mixing 2*2*2*25, feed-forward 24*5.
    assert forward_flops(two, 5) - forward_flops(one, 5) == 80 + 80 + 200 + 120


def test_a_deep_model_takes_two_operations_per_weight_and_token() -> None:
    deep = BertConfig(num_hidden_layers=48)
    assert forward_flops(deep, 16) == pytest.approx(2 * encoder_linear_count(deep) * 16, rel=0.02)


def test_as_the_compiler_counts() -> None:
    rows, length = 4, 48
    ids = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    inputs = Inputs(ids, ids, jax.ShapeDtypeStruct((rows, length), jnp.bool_))
    params = jax.eval_shape(lambda: init_params(CONFIG))
    forward = logits_fn(CONFIG)

    def loss(params, inputs):
        return forward(params, inputs, None).sum()

    def counted(function) -> float:
        return jax.jit(function).lower(params, inputs).cost_analysis()["flops"]

    # The compiler counts elementwise work too, some percent at this width.
    assert counted(loss) == pytest.approx(rows * forward_flops(CONFIG, length), rel=0.06)
    assert counted(jax.grad(loss)) == pytest.approx(rows * train_flops(CONFIG, length), rel=0.06)
