"""Floating-point operations of BERT's matrix products: arithmetic on its shape, a multiplication and addition count 2.

Elementwise work is left out, as is usual for a model's FLOPs: it is memory that it costs. int8 products count alike.
"""

from __future__ import annotations

from bertjax.config import BertConfig

BACKWARD = 2
"""Passes over the products that the gradients take: one for the inputs, one for the weights."""


def forward_flops(config: BertConfig, length: int) -> int:
    """The forward pass of one row padded to `length` tokens, as `model.bert` computes it.

    The last layer computes its first token alone, from the keys and values of all. Embeddings are looked up.
    """
    hidden = config.hidden_size
    whole = config.num_hidden_layers - 1
    head = 2 * hidden * hidden + 2 * hidden * config.num_labels
    return whole * _layer_flops(config, length, length) + _layer_flops(config, length, 1) + head


def train_flops(config: BertConfig, length: int) -> int:
    """A training step's share of one row: forward and backward; the optimizer's work does not grow with the rows."""
    return (1 + BACKWARD) * forward_flops(config, length)


def _layer_flops(config: BertConfig, length: int, needed: int) -> int:
    """One encoder layer for the first `needed` tokens out of `length`."""
    hidden, inner = config.hidden_size, config.intermediate_size
    keys_values = 2 * 2 * hidden * hidden * length
    query_output = 2 * 2 * hidden * hidden * needed
    attention = 2 * 2 * hidden * length * needed
    feed_forward = 2 * 2 * hidden * inner * needed
    return keys_values + query_output + attention + feed_forward
