"""Programs compiled ahead of time, from shapes alone: no parameters, no data, and no device that has to be here.

A topology stands for a TPU slice or for GPUs of one host. Their compilers run on any machine: `libtpu` for TPUs, JAX's
plugin for CUDA for NVIDIA's GPUs. What they say of memory and cost holds for one device.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bertjax.config import InputError, require
from bertjax.model.bert import init_params
from bertjax.study import StudyConfig
from bertjax.train.cards import CARDS, Card
from bertjax.train.mesh import make_mesh, padded
from bertjax.train.program import blank_state
from bertjax.train.state import Hparams, Schedule, Table, TrainState
from bertjax.train.step import PLACES, ProgramSpec, train_chunk
from bertjax.train.trial import hparams, orders_of, teacher_trial

AHEAD_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",  # asks no cloud metadata server, which would wait minutes for an answer
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no TPU to keep other processes from
}
CUDA_PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")

ATOMIC_SCATTERS = re.compile(r"^(?!.*unique_indices=true).* scatter\(.*$", re.MULTILINE)
"""In the HLO for a GPU: sums in the order in which threads happen to come, of which `--deterministic` leaves none."""


def topology_devices(name: str) -> Sequence[jax.Device]:
    """The devices of a TPU slice such as `v5e:2x4` (also v4, v5p, v6e), or GPUs such as `h200` and `h100:8`.

    They are there to compile for, not to run on. Sets what `libtpu` needs to start without a TPU in this process's
    environment, unless it is set already; for GPUs that are not here JAX must have started with `JAX_PLATFORMS=cpu`.

    Raises:
        InputError: The compiler is not installed, or knows no such devices.
    """
    kind, _, number = name.partition(":")
    if kind in CARDS and re.fullmatch(r"[1-9]\d*", number or "1"):
        return _gpus(CARDS[kind], int(number or "1"), name)
    require(re.fullmatch(r"\w+:\d+(x\d+)+", name) is not None, f"a TPU slice must read like v5e:2x4, got {name!r}")
    for key, value in AHEAD_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    installed = importlib.util.find_spec("libtpu") is not None
    require(installed, f"to compile for {name}, libtpu must be installed: pip install 'bertjax[tpu]'")
    try:
        return topologies.get_topology_desc(name, platform="tpu").devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{name} must be a TPU slice that libtpu knows, such as v5e:2x4 ({reason})") from None


def _gpus(card: Card, count: int, name: str) -> Sequence[jax.Device]:
    """GPUs of one host."""
    require(any(map(_installed, CUDA_PLUGINS)), f"to compile for {name}, JAX's plugin for CUDA must be installed, of "
                                                f"JAX's own version: pip install jax-cuda13-plugin=={jax.__version__}")
    try:
        return topologies.get_topology_desc(name, platform="cuda", target_config=card.target(),
                                            topology=f"1x1x{count}").devices
    except NotImplementedError:  # so JAX says that it has started without the plugin
        raise InputError(f"to compile for {name}, JAX's plugin for CUDA must be of JAX's version, {jax.__version__}, "
                         "and JAX must start with JAX_PLATFORMS=cpu if there is no GPU") from None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is its package
        return False


def topology_mesh(name: str, shape: tuple[int, int]) -> Mesh:
    """A mesh of `trial` × `data` devices that need not be here. Raises `InputError` as `topology_devices` does."""
    return make_mesh(shape, topology_devices(name))


@dataclass(frozen=True)
class DataShape:
    """Sizes of the data that a program reads."""

    rows: int
    """Rows of the table, training and dev together."""
    longest: int
    """Tokens of the longest row."""
    batch_size: int
    """Rows per step and trial, over all devices."""
    steps: int
    """Optimizer steps of the program."""
    orders: int = 1
    """Distinct seeds."""
    teachers: int = 1


def lower_train_chunk(spec: ProgramSpec, mesh: Mesh, group_sizes: Sequence[int], data: DataShape, length: int) -> Any:
    """The train chunk for batches of `length` tokens, lowered for the mesh's devices; `.compile()` compiles it."""
    return train_chunk(spec, mesh, length).lower(*train_arguments(spec, mesh, group_sizes, data))


def train_arguments(
    spec: ProgramSpec, mesh: Mesh, group_sizes: Sequence[int], data: DataShape
) -> tuple[tuple[TrainState, ...], tuple[Hparams, ...], Table, Schedule, jax.ShapeDtypeStruct]:
    """Shape, dtype and place of every argument of a program's train chunk.

    Args:
        spec: What the program is compiled for.
        mesh: Of devices or of a topology.
        group_sizes: Trials of each of the spec's groups; filled up to the mesh's trial axis.
        data: Sizes of the data.
    """
    sizes = [padded(size, mesh.shape["trial"]) for size in group_sizes]
    batch = padded(data.batch_size, mesh.shape["data"])
    states = tuple(_placed(_state(spec, trials), PLACES.groups, mesh) for trials in sizes)
    numbers = tuple(_placed(_numbers(trials), PLACES.hparams, mesh) for trials in sizes)
    token_dtype = jnp.uint16 if spec.model.vocab_size <= 2**16 else jnp.int32  # as in `TaskRows.table`
    table = Table(
        input_ids=jax.ShapeDtypeStruct((data.rows, data.longest), token_dtype),
        second_start=jax.ShapeDtypeStruct((data.rows,), jnp.int32),
        length=jax.ShapeDtypeStruct((data.rows,), jnp.int32),
        labels=jax.ShapeDtypeStruct((data.rows,), jnp.float32 if spec.regression else jnp.int32),
        teacher_logits=jax.ShapeDtypeStruct((data.teachers, data.rows, spec.model.num_labels), jnp.float32),
    )
    schedule = Schedule(
        row_index=jax.ShapeDtypeStruct((data.orders, data.steps, batch), jnp.int32),
        row_weight=jax.ShapeDtypeStruct((data.steps, batch), jnp.float32),
    )
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return states, numbers, _placed(table, PLACES.table, mesh), _placed(schedule, PLACES.schedule, mesh), count


def _state(spec: ProgramSpec, trials: int) -> TrainState:
    """Shapes of a group before its first step."""
    params = jax.eval_shape(lambda: init_params(spec.model))
    stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((trials, *leaf.shape), leaf.dtype), params)
    return jax.eval_shape(blank_state, stacked)


def _numbers(trials: int) -> Hparams[np.ndarray]:
    """Arrays of a group's numbers; their values are those of any trial."""
    trial = teacher_trial(StudyConfig(name="any", model="any"), "any")
    return hparams([trial] * trials, orders_of([trial]), 1)


def _placed(tree: Any, specs: Any, mesh: Mesh) -> Any:
    """Shapes of a tree's leaves with the places that `specs` (a tree or a prefix of one) says."""

    def leaves(spec: P, part: Any) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), part)

    return jax.tree.map(leaves, specs, tree, is_leaf=lambda x: isinstance(x, P))


@dataclass(frozen=True)
class DeviceCost:
    """What a compiled train chunk takes on each device, as its compiler counts it."""

    argument_bytes: int
    """Parameters, optimizer state, masks, data."""
    peak_bytes: int
    """Most of the device's memory in use at once: arguments, results, gradients, activations."""
    code_bytes: int
    step_flops: float | None
    """Operations of one step: the loop over steps is counted once, because their number is traced. None for GPUs."""
    step_bytes: float | None
    """Bytes that one step reads and writes. None for GPUs."""


def device_cost(compiled: Any) -> DeviceCost:
    """Reads the memory and cost analysis of a compiled train chunk."""
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis() or {}
    return DeviceCost(
        argument_bytes=memory.argument_size_in_bytes,
        peak_bytes=memory.peak_memory_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
        step_flops=cost.get("flops"),
        step_bytes=cost.get("bytes accessed"),
    )
