"""K: knowledge distillation from cached teacher outputs (arXiv:1503.02531)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def distill_loss(
    logits: Float[Array, "batch labels"],
    teacher_logits: Float[Array, "batch labels"],
    temperature: Float[Array, ""],
    regression: bool,
) -> Float[Array, " batch"]:
    """Loss of each row against the teacher.

    Classification: soft cross-entropy at `temperature`, times temperature² so that its gradient keeps its size
    (arXiv:1503.02531, section 2). Regression: squared error of the scores.
    """
    if regression:
        return jnp.square(logits - teacher_logits)[:, 0]
    soft = jax.nn.softmax(teacher_logits / temperature)
    return -jnp.sum(soft * jax.nn.log_softmax(logits / temperature), axis=-1) * temperature**2


def guard_teacher(
    teacher_logits: Float[Array, "batch labels"], distill_weight: Float[Array, ""]
) -> Float[Array, "batch labels"]:
    """Zeros where the weight is 0, so that an absent teacher's NaN reaches no loss and no gradient (0 * NaN = NaN)."""
    return jnp.where(distill_weight > 0, teacher_logits, 0.0)
