"""Parts of a state: whoever reads them gets every trial, however they were cut."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from bertjax.train.mesh import make_mesh
from bertjax.train.parts import own_pieces, part_name, read_parts, write_part
from bertjax.train.program import place

TRIALS = np.arange(18, dtype=np.float32).reshape(6, 3)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Of three processes, of which the last one holds copies only."""
    paths = [tmp_path / part_name(process) for process in range(3)]
    write_part(paths[0], {"00000.0": TRIALS[:2], "00000.4": TRIALS[4:], "00001.0": np.array(7)})
    write_part(paths[1], {"00000.2": TRIALS[2:4]})
    write_part(paths[2], {})
    return paths


def target(trials: int, trial_axis: int) -> dict[str, jax.Array]:
    """A state of so many trials on so many devices."""
    tree = {"00000": np.zeros((trials, 3), np.float32), "00001": np.array(0, np.int32)}
    return place(tree, {"00000": P("trial"), "00001": P()}, make_mesh((trial_axis, 1)))


@pytest.mark.parametrize(("trials", "trial_axis"), [(6, 1), (6, 3), (8, 4), (4, 2), (1, 1)])
def test_every_device_gets_its_trials(parts: list[Path], trials: int, trial_axis: int) -> None:
    """Also where the last trial is to fill more places, or copies of it fill fewer."""
    found = read_parts(parts, aimed := target(trials, trial_axis))
    np.testing.assert_array_equal(found["00000"], TRIALS[np.minimum(np.arange(trials), 5)])
    assert int(found["00001"]) == 7 and found["00000"].sharding == aimed["00000"].sharding


def test_what_was_not_stored_is_not_made_up(parts: list[Path]) -> None:
    with pytest.raises(KeyError, match="00002"):
        read_parts(parts, {"00002": target(1, 1)["00000"]})


def test_of_copies_on_several_devices_one_is_stored_and_it_is_no_view() -> None:
    leaf = place({"a": TRIALS[:4]}, {"a": P("trial")}, make_mesh((2, 2)))["a"]
    pieces = own_pieces({"a": leaf})
    assert sorted(pieces) == ["a.0", "a.2"] and all(piece.flags.owndata for piece in pieces.values())
    np.testing.assert_array_equal(np.concatenate([pieces["a.0"], pieces["a.2"]]), TRIALS[:4])
