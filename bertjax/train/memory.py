"""Bytes that a program takes on a device, by a formula: what a plan goes by before anything is compiled.

Parameters, moments, masks and gradients are exact. Activations are a fit to what XLA's compilers for CPU and TPU say of
BERTs of 128 to 768 hidden units and 32 to 128 tokens: of a base or large model right to about a quarter on a TPU, of
small ones up to twice too much. A compiler told to make less effort needs half as much again.
"""

from __future__ import annotations

from typing import NamedTuple

from bertjax.config import BertConfig, Dtype
from bertjax.model.products import activation_type
from bertjax.model.sizes import encoder_linear_count, param_count

WORKSPACE = 2**28
"""Bytes of a program whatever its size: the compiler's own room, and the code."""


class Activations(NamedTuple):
    """Elements that the backward pass finds of each token and layer."""

    per_hidden: float
    """For each hidden unit."""
    per_intermediate: float
    """For each unit of the feed-forward layer."""
    per_attended: float
    """For each head and token attended to."""


ACTIVATIONS = {"tpu": Activations(4, 1, 2), "cpu": Activations(12, 3, 2), "gpu": Activations(12, 3, 2)}
"""By platform. XLA's TPU compiler computes more of them twice; a GPU's is taken to keep as much as the CPU's."""


def state_bytes(config: BertConfig) -> int:
    """Of one trial between two steps: parameters and Adam's two moments in float32, a mask of a byte per prunable
    weight."""
    return 3 * 4 * param_count(config, config.num_labels) + encoder_linear_count(config)


def step_bytes(config: BertConfig, rows: int, length: int, dtype: Dtype, platform: str, *, whole: bool = True) -> int:
    """What one trial takes besides while it makes a step: gradients and activations.

    Args:
        config: The student's.
        rows: Rows that a device computes at once.
        length: Tokens of each.
        dtype: As `TrainConfig.dtype`.
        platform: `cpu`, `gpu` or `tpu`.
        whole: The rows are the device's whole batch; of a part, the gradients are added to those of the parts before.
    """
    fit = ACTIVATIONS[platform]
    elements = (fit.per_hidden * config.hidden_size + fit.per_intermediate * config.intermediate_size
                + fit.per_attended * config.num_attention_heads * length)
    activations = rows * length * config.num_hidden_layers * elements * activation_type(dtype).itemsize
    gradients = 4 * param_count(config, config.num_labels)
    return int(activations) + gradients * (1 if whole else 2)
