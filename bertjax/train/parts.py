"""The state of a program as several processes store it: each writes the trials that its own devices hold.

A part is a safetensors file. Its tensors are pieces of the state's arrays, named by the number of the leaf and the
first trial of the piece. Whoever reads the state, on however many devices, takes the trials that it needs from all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding
from safetensors import safe_open
from safetensors.numpy import save_file


def part_name(process: int | str) -> str:
    """The file of a process's part; a pattern for a pattern."""
    return f"state.{process}.safetensors"


def own_pieces(leaves: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """What this process is to store of some arrays, which have trials on their first axis or no axis: of copies on
    several devices only the first one is stored. Copies of the host's own, so that the arrays may be donated.
    """
    shards = {}
    for name, leaf in leaves.items():
        for shard in leaf.addressable_shards:
            if shard.replica_id == 0:
                shards[f"{name}.{shard.index[0].start or 0 if leaf.ndim else 0}"] = shard.data
                shard.data.copy_to_host_async()
    return {name: np.array(data) for name, data in shards.items()}


def write_part(path: Path, pieces: Mapping[str, np.ndarray]) -> None:
    """Writes a part; also one without any pieces, so that there is one of each process."""
    save_file(dict(pieces), path)


def read_parts(paths: Sequence[Path], targets: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The stored arrays, on the devices of `targets` and in their shapes, of which this process reads what it needs.

    Args:
        paths: Every part.
        targets: By the number of the leaf. Where the first axis is longer than what is stored, the last trial is
            repeated; where it is shorter, the last ones are left out.

    Raises:
        KeyError: A leaf was not stored.
    """
    pieces: dict[str, dict[int, Any]] = {}
    files = [safe_open(path, framework="numpy") for path in paths]
    for file in files:
        for key in file.keys():  # noqa: SIM118 - the handle is no mapping
            name, _, first = key.partition(".")
            pieces.setdefault(name, {})[int(first)] = (file, key)
    return {name: _read(pieces[name], target.shape, target.sharding) for name, target in targets.items()}


def _read(pieces: Mapping[int, tuple[Any, str]], shape: tuple[int, ...], sharding: Sharding) -> jax.Array:
    """An array from its pieces, by the first trial of each."""
    if not shape:
        (file, key), = pieces.values()
        value = file.get_tensor(key)
        return jax.make_array_from_callback(shape, sharding, lambda _: value)
    opened = [(first, file.get_slice(key)) for first, (file, key) in sorted(pieces.items())]
    held = [(first, first + piece.get_shape()[0], piece) for first, piece in opened]
    count = held[-1][1]

    def of_device(index: tuple[slice, ...] | None) -> np.ndarray:
        wanted = np.minimum(np.arange(shape[0])[index[0] if index else slice(None)], count - 1)
        low, high = int(wanted.min()), int(wanted.max()) + 1
        found = [piece[max(low, first) - first : min(high, end) - first] for first, end, piece in held
                 if first < high and low < end]
        return np.concatenate(found)[wanted - low]

    return jax.make_array_from_callback(shape, sharding, of_device)
