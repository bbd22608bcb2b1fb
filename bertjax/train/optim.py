"""AdamW with warm-up, linear decay and clipping, from numbers that are traced."""

import operator

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bertjax.params import NO_DECAY, Params, select
from bertjax.train.state import Hparams


def learning_rate(
    step: Int[Array, ""], peak: Float[Array, ""], warmup_steps: Int[Array, ""], total_steps: Int[Array, ""]
) -> Float[Array, ""]:
    """Rises linearly from 0 at step 0 to `peak` at `warmup_steps`, then falls linearly to 0 at `total_steps`."""
    rising = step / jnp.maximum(warmup_steps, 1)
    falling = (total_steps - step) / jnp.maximum(total_steps - warmup_steps, 1)
    return peak * jnp.where(step < warmup_steps, rising, jnp.maximum(falling, 0.0))


def optimizer(hparams: Hparams, step: Int[Array, ""]) -> optax.GradientTransformation:
    """The update of one trial (scalar `hparams`) at `step`: clip, Adam, decoupled decay, learning rate."""
    rate = learning_rate(step, hparams.learning_rate, hparams.warmup_steps, hparams.total_steps)
    return optax.chain(
        optax.clip_by_global_norm(hparams.max_grad_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(hparams.weight_decay, mask=decayed),
        optax.scale_by_learning_rate(rate),
    )


def decayed(params: Params) -> Params:
    """True for what weight decay applies to: everything but biases and LayerNorm."""
    return jax.tree.map(operator.not_, select(params, NO_DECAY))
