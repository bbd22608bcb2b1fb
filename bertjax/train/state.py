"""What a step changes, what it is told, and the data it reads: all arrays, stacked on a leading trial axis."""

from typing import Any, Generic, NamedTuple, TypeVar

from jaxtyping import Array, Float, Int, UInt32

from bertjax.compress.prune import KeepMasks
from bertjax.model.bert import Inputs
from bertjax.params import Params

Leaf = TypeVar("Leaf")
"""`np.ndarray` on the host, `jax.Array` once placed; a `PartitionSpec` or `jax.ShapeDtypeStruct` that describes one."""


class TrainState(NamedTuple):
    """Everything that one step changes in one group; leaves have a leading trial axis, except `step`."""

    params: Params
    opt_state: Any
    masks: KeepMasks
    step: Int[Array, ""]
    """Optimizer steps done; shared by all trials, so that `lax.cond` on it stays a branch."""


class Hparams(NamedTuple, Generic[Leaf]):
    """The traced numbers of a group: changing any of them compiles nothing. Each has shape [trial]."""

    learning_rate: Float[Leaf, " trial"]
    weight_decay: Float[Leaf, " trial"]
    max_grad_norm: Float[Leaf, " trial"]
    warmup_steps: Int[Leaf, " trial"]
    total_steps: Int[Leaf, " trial"]
    initial_sparsity: Int[Leaf, " trial"]
    """In units of 1/`SPARSITY_STEPS`, like `final_sparsity`."""
    final_sparsity: Int[Leaf, " trial"]
    begin_step: Int[Leaf, " trial"]
    end_step: Int[Leaf, " trial"]
    """The last step whose mask update counts; the mask is frozen afterwards."""
    exponent: Float[Leaf, " trial"]
    distill_weight: Float[Leaf, " trial"]
    temperature: Float[Leaf, " trial"]
    teacher: Int[Leaf, " trial"]
    """Index into the table's teachers."""
    seed: UInt32[Leaf, " trial"]
    order: Int[Leaf, " trial"]
    """Index into the schedule's row orders: trials of equal seed share one."""


class Table(NamedTuple, Generic[Leaf]):
    """Every row of a task, training and dev alike, resident on the device."""

    input_ids: Int[Leaf, "row longest"]
    second_start: Int[Leaf, " row"]
    """Position at which token type 1 begins."""
    length: Int[Leaf, " row"]
    labels: Leaf
    """int32 classes or float32 scores, [row]."""
    teacher_logits: Float[Leaf, "teacher row labels"]


class Schedule(NamedTuple, Generic[Leaf]):
    """Which rows each step reads."""

    row_index: Int[Leaf, "order step batch"]
    row_weight: Float[Leaf, "step batch"]
    """1/rows for each of the step's rows, 0 for the filler of a partial batch: weighted sums are means."""


class Batch(NamedTuple):
    """The rows of one step of one trial."""

    inputs: Inputs
    labels: Array
    weight: Float[Array, " batch"]
    teacher_logits: Float[Array, "batch labels"]


class StepMetrics(NamedTuple, Generic[Leaf]):
    """Means over the batch of one step, per trial."""

    loss: Float[Leaf, " trial"]
    """What is minimized: task and distillation loss mixed."""
    task_loss: Float[Leaf, " trial"]
    grad_norm: Float[Leaf, " trial"]
    """Global norm before clipping."""


class Losses(NamedTuple):
    """Sums over a device's weighted rows; added over devices they are the means of the batch."""

    loss: Float[Array, ""]
    task_loss: Float[Array, ""]


