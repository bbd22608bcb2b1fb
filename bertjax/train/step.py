"""One optimizer step of every trial, and many of them per call: what a run computes is readable here.

`effective_params` and `trial_loss` are the composition of all compressions. Everything else places it: over the trials
of a group by `vmap`, over groups by a loop that the compiler sees, over devices by `shard_map`, over steps by
`fori_loop`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from bertjax.compress.distill import distill_loss, guard_teacher
from bertjax.compress.prune import KeepMasks, apply_masks, update_masks
from bertjax.compress.quantize import dot_general, quantize_embeddings
from bertjax.compress.schedule import sparsity_units
from bertjax.config import BertConfig, Dtype, QuantizeConfig
from bertjax.model.bert import Inputs, LogitsFn, logits_fn
from bertjax.model.dropout import DropoutKey, dropout_key
from bertjax.model.products import activation_type
from bertjax.params import Params
from bertjax.train.mesh import padded
from bertjax.train.optim import optimizer
from bertjax.train.state import Batch, Hparams, Losses, Schedule, StepMetrics, Table, TrainState

MAX_CHUNK = 8
"""Steps per call at most: the size of the metric buffers, and of a run of batches of one length."""

Stepped: TypeAlias = tuple[tuple[TrainState, ...], tuple[StepMetrics, ...]]
"""For each group its state after a step, and the metrics of it."""


@dataclass(frozen=True)
class ProgramSpec:
    """All that a program is compiled for, besides shapes: the static half of its trials."""

    model: BertConfig
    groups: tuple[QuantizeConfig, ...]
    """One group of stacked trials for each; several are stepped in the same program."""
    regression: bool
    dtype: Dtype = "float32"
    mask_every: int = 8
    part_tokens: int | None = None
    """Tokens of a trial that are computed at once: a batch of more is computed in parts, one after the other, whose
    gradients are added. None computes every batch whole."""

    def logits_fn(self, quantize: QuantizeConfig) -> LogitsFn:
        """The model with the products of a group."""
        return logits_fn(self.model, dot_general(quantize, self.dtype), activation_type(self.dtype))


def part_rows(part_tokens: int | None, batch: int, length: int) -> int:
    """Rows of a part of a batch of rows of `length` tokens: a power of two, at least 1, or the whole batch."""
    most = batch if part_tokens is None else part_tokens // length
    return batch if batch <= most else 2 ** (max(1, most).bit_length() - 1)


def effective_params(params: Params, masks: KeepMasks, quantize: QuantizeConfig) -> Params:
    """The parameters that the forward pass sees: dropped weights at zero, embedding tables on their integer grid."""
    return quantize_embeddings(apply_masks(params, masks), quantize.embedding_bits)


def trial_loss(
    params: Params, masks: KeepMasks, hparams: Hparams, batch: Batch, key: DropoutKey | None,
    *, spec: ProgramSpec, quantize: QuantizeConfig,
) -> tuple[Float[Array, ""], Losses]:
    """One trial's loss, summed over weighted rows: params → masks → quantized products → task and distillation loss."""
    params = effective_params(params, masks, quantize)
    logits = spec.logits_fn(quantize)(params, batch.inputs, key)
    task = task_loss(logits, batch.labels, spec.regression)
    teacher_logits = guard_teacher(batch.teacher_logits, hparams.distill_weight)
    distill = distill_loss(logits, teacher_logits, hparams.temperature, spec.regression)
    loss = (1 - hparams.distill_weight) * task + hparams.distill_weight * distill
    losses = Losses(jnp.sum(loss * batch.weight), jnp.sum(task * batch.weight))
    return losses.loss, losses


def task_loss(logits: Float[Array, "batch labels"], labels: Array, regression: bool) -> Float[Array, " batch"]:
    """Cross-entropy in nats, or squared error, of each row."""
    if regression:
        return jnp.square(logits[:, 0] - labels)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def read_rows(table: Table, rows: Int[Array, " batch"], length: int) -> Inputs:
    """Rows of the table as a batch padded to `length` tokens."""
    at = jnp.arange(length)
    present = at < table.length[rows, None]
    second = present & (at >= table.second_start[rows, None])
    return Inputs(table.input_ids[rows, :length].astype(jnp.int32), second.astype(jnp.int32), present)


def read_batch(
    table: Table, schedule: Schedule, hparams: Hparams, step: Int[Array, ""], at: Int[Array, " batch"], length: int
) -> Batch:
    """The rows of one trial at `step` that are at some places of the batch; beyond its end they weigh nothing."""
    rows = schedule.row_index.at[hparams.order, step, at].get(mode="clip")
    weight = schedule.row_weight.at[step, at].get(mode="fill", fill_value=0)
    teacher_logits = table.teacher_logits[hparams.teacher, rows]
    return Batch(read_rows(table, rows, length), table.labels[rows], weight, teacher_logits)


def train_step(
    groups: tuple[TrainState, ...], hparams: tuple[Hparams, ...], table: Table, schedule: Schedule,
    *, spec: ProgramSpec, length: int,
) -> Stepped:
    """One update of every trial of every group, on this device's rows; gradients are added over `data` once."""
    step = groups[0].step
    groups = tuple(map(partial(refresh_masks, mask_every=spec.mask_every), groups, hparams))
    local_batch = schedule.row_weight.shape[1]
    first = lax.axis_index("data") * local_batch
    part = part_rows(spec.part_tokens, local_batch, length)
    parts = jnp.arange(padded(local_batch, part)).reshape(-1, part)

    def gradients(group: TrainState, hparams: Hparams, quantize: QuantizeConfig) -> tuple[Params, Losses]:
        def of_trial(
            params: Params, masks: KeepMasks, hparams: Hparams, at: Int[Array, " part"]
        ) -> tuple[Params, Losses]:
            batch = read_batch(table, schedule, hparams, step, at, length)
            key = dropout_key(hparams.seed, step, first + at)
            loss = partial(trial_loss, spec=spec, quantize=quantize)
            return jax.grad(loss, has_aux=True)(params, masks, hparams, batch, key)

        def of_part(at: Int[Array, " part"]) -> tuple[Params, Losses]:
            return jax.vmap(partial(of_trial, at=at))(group.params, group.masks, hparams)

        # Its shapes are known, and the trials' axis is inside the loop: to trace the gradients once more takes seconds.
        blank = jax.tree.map(jnp.zeros_like, group.params), Losses(*[jnp.zeros(hparams.seed.shape)] * 2)
        return summed_parts(of_part, parts, blank)

    local = tuple(gradients(*group) for group in zip(groups, hparams, spec.groups, strict=True))
    # On one device a sum is a copy of all gradients, unless the compiler sees it: XLA's CPU does not.
    added = lax.psum(local, "data") if lax.axis_size("data") > 1 else local
    updated = [
        jax.vmap(partial(update_trial, step=step))(group.params, group.opt_state, h, *summed)
        for group, h, summed in zip(groups, hparams, added, strict=True)
    ]
    states = tuple(
        group._replace(params=params, opt_state=opt_state, step=step + 1)
        for group, (params, opt_state, _) in zip(groups, updated, strict=True)
    )
    return states, tuple(metrics for _, _, metrics in updated)


Summed = TypeVar("Summed")


def summed_parts(
    of_part: Callable[[Int[Array, " part"]], Summed], parts: Int[Array, "count part"], blank: Summed
) -> Summed:
    """The sum of what is computed of each part, one after the other; `blank` has its shapes, and is zero."""
    if len(parts) == 1:
        return of_part(parts[0])
    return lax.fori_loop(0, len(parts), lambda i, total: jax.tree.map(jnp.add, total, of_part(parts[i])), blank)


def update_trial(
    params: Params, opt_state: Any, hparams: Hparams, grads: Params, losses: Losses, *, step: Int[Array, ""]
) -> tuple[Params, Any, StepMetrics]:
    """One AdamW update of one trial from the gradients of the batch's mean loss."""
    metrics = StepMetrics(losses.loss, losses.task_loss, optax.tree.norm(grads))
    updates, opt_state = optimizer(hparams, step).update(grads, opt_state, params)
    return cast(Params, optax.apply_updates(params, updates)), opt_state, metrics


def refresh_masks(group: TrainState, hparams: Hparams, mask_every: int) -> TrainState:
    """New masks every `mask_every` steps until the last trial of the group has frozen its own."""
    step = group.step
    frozen = (hparams.final_sparsity == 0) | (step > hparams.end_step)

    def refreshed(masks: KeepMasks) -> KeepMasks:
        def one(trial: tuple[Params, KeepMasks, Hparams, Bool[Array, ""]]) -> KeepMasks:
            params, masks, h, frozen = trial
            units = sparsity_units(step, h.initial_sparsity, h.final_sparsity, h.begin_step, h.end_step, h.exponent)
            return update_masks(params, masks, units, frozen)

        return lax.map(one, (group.params, masks, hparams, frozen))  # one by one: a frozen trial then costs nothing

    due = (step % mask_every == 0) & ~jnp.all(frozen)
    return group._replace(masks=lax.cond(due, refreshed, lambda masks: masks, group.masks))


COMPILER_OPTIONS = {
    "tpu": {"xla_jf_crs_combiner_threshold_in_bytes": 2**40, "xla_jf_crs_combiner_threshold_count": 2**20},
}
"""By platform. The TPU compiler would cut the gradients' all-reduce at 128 MB and 256 arrays: into 12 for BERT-base."""


class ChunkPlaces(NamedTuple):
    """How the arguments of a chunk lie on the mesh."""

    groups: Any
    hparams: Any
    table: Any
    schedule: Any


_OVER_TRIALS: Any = P("trial")  # Any: it stands in a tree for a whole subtree of arrays
_EVERYWHERE: Any = P()

PLACES = ChunkPlaces(
    groups=TrainState(params=_OVER_TRIALS, opt_state=_OVER_TRIALS, masks=_OVER_TRIALS, step=_EVERYWHERE),
    hparams=_OVER_TRIALS,
    table=_EVERYWHERE,
    schedule=Schedule(row_index=P(None, None, "data"), row_weight=P(None, "data")),
)
"""Trials split over `trial`; the rows of a batch over `data`; the table is on every device."""


def train_chunk(spec: ProgramSpec, mesh: Mesh, length: int) -> Any:
    """The jitted `(groups, hparams, table, schedule, n) -> (groups, metrics)`: `n` steps of batches of `length` tokens.

    `n` is traced (at most `MAX_CHUNK`): one compilation serves every chunk. Metrics are [MAX_CHUNK, trial], filled up
    to `n`. The groups are donated. The steps read the schedule at the groups' own step counter.
    """

    def chunk(
        groups: tuple[TrainState, ...], hparams: tuple[Hparams, ...], table: Table, schedule: Schedule,
        n: Int[Array, ""],
    ) -> Stepped:
        blank = tuple(StepMetrics(*[jnp.zeros((MAX_CHUNK, h.seed.shape[0]))] * 3) for h in hparams)

        def body(i: Int[Array, ""], carry: Stepped) -> Stepped:
            groups, buffers = carry
            groups, metrics = train_step(groups, hparams, table, schedule, spec=spec, length=length)
            return groups, jax.tree.map(lambda buffer, value: buffer.at[i].set(value), buffers, metrics)

        return lax.fori_loop(0, n, body, (groups, blank))

    count = len(spec.groups)
    places = (PLACES.groups,) * count
    sharded = jax.shard_map(
        chunk, mesh=mesh, check_vma=False,  # AQT's custom gradients do not carry varying-axis types
        in_specs=(places, (PLACES.hparams,) * count, PLACES.table, PLACES.schedule, P()),
        out_specs=(places, (P(None, "trial"),) * count),
    )
    return jax.jit(sharded, donate_argnums=0, compiler_options=COMPILER_OPTIONS.get(mesh.devices.flat[0].platform))


def eval_chunk(spec: ProgramSpec, mesh: Mesh, length: int) -> Any:
    """The jitted `(groups, table, row_index, n) -> logits`: forward passes of `n` batches `length` tokens long.

    `row_index` is [MAX_CHUNK, batch]; the logits of each group are [MAX_CHUNK, trial, batch, labels], filled up to `n`.
    """

    def chunk(
        groups: tuple[TrainState, ...], table: Table, row_index: Int[Array, "chunk batch"], n: Int[Array, ""]
    ) -> tuple[Float[Array, "chunk trial batch labels"], ...]:
        made = []
        for group, quantize in zip(groups, spec.groups, strict=True):
            params = jax.vmap(partial(effective_params, quantize=quantize))(group.params, group.masks)
            forward = jax.vmap(spec.logits_fn(quantize), in_axes=(0, None, None))
            trials = group.masks[next(iter(group.masks))].shape[0]
            buffer = jnp.zeros((MAX_CHUNK, trials, row_index.shape[1], spec.model.num_labels))

            def body(
                i: Int[Array, ""], buffer: Float[Array, "chunk trial batch labels"],
                forward: LogitsFn = forward, params: Params = params,
            ) -> Float[Array, "chunk trial batch labels"]:
                return buffer.at[i].set(forward(params, read_rows(table, row_index[i], length), None))

            made.append(lax.fori_loop(0, n, body, buffer))
        return tuple(made)

    count = len(spec.groups)
    sharded = jax.shard_map(
        chunk, mesh=mesh, check_vma=False,
        in_specs=((PLACES.groups,) * count, P(), P(None, "data"), P()),
        out_specs=(P(None, "trial", "data"),) * count,
    )
    return jax.jit(sharded)
