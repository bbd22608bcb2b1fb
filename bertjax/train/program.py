"""One program: groups of trials placed on the mesh, with its compiled chunks and what compiling them cost."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int

from bertjax.compress.prune import all_kept
from bertjax.config import BertConfig
from bertjax.heap import reserve
from bertjax.params import Params
from bertjax.study import TrialConfig
from bertjax.train.mesh import padded
from bertjax.train.optim import optimizer
from bertjax.train.processes import from_all, several
from bertjax.train.state import Hparams, Schedule, Table, TrainState
from bertjax.train.step import PLACES, ProgramSpec, eval_chunk, train_chunk
from bertjax.train.trial import Order, hparams, split_groups

log = logging.getLogger(__name__)


PART_ELEMENTS = {"cpu": 2**18}
"""By platform: elements of a hidden state that a trial computes at once. On a CPU 1 MiB of float32, which its caches
hold; what whole batches cost instead, `experiments/bench/train_speed.py --alternatives` measures."""


def part_tokens(config: BertConfig, platform: str) -> int | None:
    """Tokens that a trial of a model computes at once where memory is no matter; None: a whole batch."""
    elements = PART_ELEMENTS.get(platform)
    return None if elements is None else elements // config.hidden_size


def program_spec(
    trials: Sequence[TrialConfig], model: BertConfig, regression: bool, part_tokens: int | None = None
) -> ProgramSpec:
    """What the program of these trials is compiled for; see `ProgramSpec`."""
    first = trials[0]
    return ProgramSpec(model, tuple(split_groups(trials)), regression, first.train.dtype, first.prune.mask_every,
                       part_tokens)


class ChunkKey(NamedTuple):
    """What a compiled chunk serves."""

    kind: str
    """`train` or `eval`."""
    length: int
    """Tokens of a batch."""
    shapes: tuple[Any, ...]
    """Of the arguments: programs with as many trials, rows and steps share it."""


@dataclass
class CompiledChunks:
    """The compiled train and eval chunks of one or several programs; each is compiled at its first use."""

    spec: ProgramSpec
    mesh: Mesh
    seconds: float = 0.0
    """Spent compiling so far."""
    from_cache: int = 0
    """How many of the compiled chunks JAX found in its cache on disk."""
    compiled: dict[ChunkKey, Any] = field(default_factory=dict)

    @property
    def on_cpu(self) -> bool:
        """Whether the program runs on the host's own cores, in the host's memory."""
        return self.mesh.devices.flat[0].platform == "cpu"

    def __call__(self, kind: str, length: int, *arguments: Any) -> Any:
        """Runs the `train` or `eval` chunk for batches of `length` tokens."""
        return self.compile(kind, length, *arguments)(*arguments)

    def compile(self, kind: str, length: int, *arguments: Any) -> Any:
        """The chunk, ready to run."""
        key = ChunkKey(kind, length, tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments)))
        if key in self.compiled:
            return self.compiled[key]
        start = time.perf_counter()
        make = {"train": train_chunk, "eval": eval_chunk}[kind]
        with cache_hits() as hits:
            self.compiled[key] = make(self.spec, self.mesh, length).lower(*arguments).compile()
        self.from_cache += bool(hits)
        from_all(None)  # CPU collectives wait 30 s for the others at their first use, and compilers differ in speed
        self.seconds += time.perf_counter() - start
        log.info("compiled the %s chunk for %d tokens in %.1f s (%d compiled so far)",
                 kind, length, time.perf_counter() - start, len(self.compiled))
        return self.compiled[key]

    def compile_longest(self, length: int, *arguments: Any) -> None:
        """Compiles the `train` chunk of the longest batches before all others, and reserves the memory of a CPU for it.

        The buffers of all others fit into its own.
        """
        if self.compiled or not self.on_cpu:
            return
        analysis = self.compile("train", length, *arguments).memory_analysis()
        if analysis is not None:  # not every version of the compiler tells
            reserve(analysis.temp_size_in_bytes)


@contextmanager
def cache_hits() -> Iterator[list[str]]:
    """Lists an event for every program that JAX reads from its cache on disk instead of compiling it."""
    hits: list[str] = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)


def place(tree: Any, specs: Any, mesh: Mesh) -> Any:
    """`tree` on the mesh, where `specs` (a tree or a prefix of one) says.

    Of several processes, which have the same tree, each places the parts that its own devices hold.
    """
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, P))
    if not several():
        return jax.device_put(tree, shardings)
    return jax.tree.map(lambda sharding, part: jax.tree.map(partial(place_array, sharding), part), shardings, tree)


def place_array(sharding: Sharding, values: np.ndarray) -> jax.Array:
    """An array on the devices; of several processes each places its own parts."""
    if not several():
        return jax.device_put(values, sharding)
    values = np.asarray(values, jax.dtypes.canonicalize_dtype(values.dtype))
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


def everywhere(tree: Any) -> Any:
    """The arrays of a tree, whole in every process: one of several has only the parts on its own devices."""
    leaves = jax.tree.leaves(tree)
    if not several() or all(leaf.is_fully_replicated for leaf in leaves):
        return tree
    return jax.jit(_same, out_shardings=NamedSharding(leaves[0].sharding.mesh, P()))(tree)


def one_trial(tree: Any, index: int) -> Any:
    """One trial's arrays, on the host; of a tree whose leaves have trials on their first axis."""
    if not several():
        return jax.tree.map(lambda leaf: np.asarray(leaf[index]), tree)
    mesh = jax.tree.leaves(tree)[0].sharding.mesh
    taken = jax.jit(_take_trial, out_shardings=NamedSharding(mesh, P()))(tree, np.int32(index))
    return jax.tree.map(np.asarray, taken)


def _same(tree: Any) -> Any:
    return tree


def _take_trial(tree: Any, index: Int[Array, ""]) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def place_table(table: Table[np.ndarray], mesh: Mesh) -> Table[jax.Array]:
    """The table on every device."""
    return place(table, PLACES.table, mesh)


def place_schedule(row_index: np.ndarray, row_weight: np.ndarray, mesh: Mesh) -> Schedule[jax.Array]:
    """The schedule with its batch axis split over `data`, filled up with rows of weight 0 where it does not divide.

    Args:
        row_index: Rows of the table, [order, step, batch].
        row_weight: 1 for a row, 0 for the filler of a partial batch, [step, batch]. On the device each step adds to 1.
        mesh: Where the schedule goes.
    """
    fill = padded(row_weight.shape[-1], mesh.shape["data"]) - row_weight.shape[-1]
    schedule = Schedule(
        np.pad(row_index, ((0, 0), (0, 0), (0, fill))).astype(np.int32),
        np.pad(row_weight / row_weight.sum(1, keepdims=True), ((0, 0), (0, fill))).astype(np.float32),
    )
    return place(schedule, PLACES.schedule, mesh)


def place_group(
    trials: Sequence[TrialConfig], initial: Callable[[TrialConfig], Params], orders: Sequence[Order], total_steps: int,
    mesh: Mesh,
) -> tuple[TrainState, Hparams[jax.Array]]:
    """A group's state before its first step. Copies of the last trial fill up the mesh's trial axis.

    Args:
        trials: Trials of one static half.
        initial: A trial's parameters at the start (numpy); trials of equal seed may share the arrays.
        orders: Those of the schedule's rows.
        total_steps: Optimizer steps of the program.
        mesh: Where the group goes.
    """
    filled = [*trials, *[trials[-1]] * (padded(len(trials), mesh.shape["trial"]) - len(trials))]
    numbers = place(hparams(filled, orders, total_steps), PLACES.hparams, mesh)
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *[initial(trial) for trial in filled])
    params = place(params, P("trial"), mesh)

    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), PLACES.groups, is_leaf=lambda x: isinstance(x, P))
    return jax.jit(blank_state, out_shardings=shardings, donate_argnums=0)(params), numbers


def blank_state(params: Params) -> TrainState:
    """A group's state before its first step: stacked parameters, no moments yet, every weight kept."""
    tx = optimizer(Hparams(*[jnp.ones(())] * len(Hparams._fields)), jnp.int32(0))
    return TrainState(params, jax.vmap(tx.init)(params), jax.vmap(all_kept)(params), jnp.int32(0))
