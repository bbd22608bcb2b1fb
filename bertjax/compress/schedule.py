"""How the sparsity of a trial rises over its steps."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bertjax.config import SPARSITY_STEPS


def sparsity_units(
    step: Int[Array, ""],
    initial: Int[Array, ""],
    final: Int[Array, ""],
    begin_step: Int[Array, ""],
    end_step: Int[Array, ""],
    exponent: Float[Array, ""],
) -> Int[Array, ""]:
    """Sparsity at `step` in whole units of 1/`SPARSITY_STEPS`.

    0 before `begin_step`, exactly `final` from `end_step` on, and in between
    `final + (initial - final) * (1 - progress) ** exponent` (arXiv:1710.01878, section 3): 1 is linear, 3 cubic.
    """
    span = jnp.maximum(end_step - begin_step, 1)
    progress = jnp.clip((step - begin_step) / span, 0.0, 1.0)
    risen = final + (initial - final) * (1.0 - progress) ** exponent
    units = jnp.where(step >= end_step, final, jnp.round(risen).astype(jnp.int32))
    return jnp.where(step < begin_step, 0, units)


def dropped_count(size: int, units: Int[Array, ""]) -> Int[Array, ""]:
    """`floor(units / SPARSITY_STEPS * size)`, exact for every size below 2^31."""
    whole, rest = divmod(size, SPARSITY_STEPS)
    return units * whole + units * rest // SPARSITY_STEPS
