"""A program's state in a folder: written by Orbax where one process has all of it, else in a part of each process.

Orbax would let several processes write one folder, but only straight to where it stays, without a copy on a disk whose
hashes are known; and where one of them fails, it lets the others wait for twenty minutes.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from bertjax.train.manifest import files_below
from bertjax.train.parts import own_pieces, part_name, read_parts, write_part
from bertjax.train.processes import several
from bertjax.train.program import place_array

STATE = "state"


def begin_writing(folder: epath.Path, state: Any) -> Callable[[], list[str]]:
    """Begins to write a state; the arrays may be donated as soon as this returns.

    Args:
        folder: On a disk of this machine, or one that it shares.
        state: A tree of arrays; each has trials on its first axis, or no axis.

    Returns:
        What writes the rest, and tells the files that this process has written, by their path in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if several():
        pieces, name = own_pieces(_numbered(state)), part_name(jax.process_index())

        def write() -> list[str]:
            write_part(Path(folder / name), pieces)
            return [name]

        return write
    _hush_failed_saves()
    # On a CPU the host's arrays are the device's own buffers, which the next step overwrites.
    copied = _numbered(jax.tree.map(_copied, state))
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(folder / STATE, copied)

    def complete() -> list[str]:
        checkpointer.wait_until_finished()
        checkpointer.close()
        return [f"{STATE}/{name}" for name in files_below(folder / STATE)]

    return complete


@cache
def _hush_failed_saves() -> None:
    """A save that fails raises, and its threads and tasks print hundreds of tracebacks of the same besides."""
    logging.getLogger("absl").addFilter(
        lambda record: record.levelno < logging.ERROR or "orbax" not in Path(record.pathname).parts)
    logging.getLogger("asyncio").addFilter(lambda record: "exception was never retrieved" not in record.getMessage())
    orbax = r"coroutine '(async_serialize_from_host|BasePyTreeCheckpointHandler\.).*was never awaited"
    warnings.filterwarnings("ignore", orbax, RuntimeWarning)
    former = sys.unraisablehook

    def hook(raised: Any) -> None:
        if str(raised.exc_value) != "Event loop is closed":  # TensorStore's threads report to one that has failed
            former(raised)

    sys.unraisablehook = hook


def read_state(folder: epath.Path, state: Any) -> Any:
    """The stored arrays on the devices of `state`, with as many trials as it has: the first ones, or all and copies of
    the last."""
    targets = _numbered(state)
    parts = sorted(folder.glob(part_name("*")))
    leaves = read_parts([Path(part) for part in parts], targets) if parts else _read_alone(folder / STATE, targets)
    return jax.tree.unflatten(jax.tree.structure(state), [leaves[name] for name in targets])


def _read_alone(path: epath.Path, targets: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """What one process has written, read by one or several."""
    each = ocp.options.MultiprocessingOptions(primary_host=None, active_processes={jax.process_index()})
    with ocp.StandardCheckpointer(multiprocessing_options=each) as checkpointer:
        stored = checkpointer.metadata(path).item_metadata.tree
        shapes = {name: tuple(stored[name].shape) for name in targets}
        if not several() and shapes == {name: target.shape for name, target in targets.items()}:
            return checkpointer.restore(path, jax.tree.map(ocp.utils.to_shape_dtype_struct, targets))
        host = {name: np.empty(shapes[name], target.dtype) for name, target in targets.items()}
        return {name: place_array(targets[name].sharding, _fitting(leaf, targets[name].shape))
                for name, leaf in checkpointer.restore(path, host).items()}


def _copied(leaf: jax.Array) -> jax.Array:
    return jnp.copy(leaf) if next(iter(leaf.devices())).platform == "cpu" else leaf


def _numbered(state: Any) -> dict[str, Any]:
    """The leaves of a tree by their number: what is stored knows nothing of the tree."""
    return {f"{number:05d}": leaf for number, leaf in enumerate(jax.tree.leaves(state))}


def _fitting(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return filled(values, 0, shape[0]) if values.shape != shape else values


def filled(values: np.ndarray, axis: int, count: int) -> np.ndarray:
    """`values` with `count` entries on an axis: the first ones, or all and copies of the last."""
    return np.take(values, np.minimum(np.arange(count), values.shape[axis] - 1), axis)
