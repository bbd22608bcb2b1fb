"""The axes of the device mesh and how `--mesh` names them; without JAX, so that a wrong flag is known at once."""

from __future__ import annotations

from bertjax.config import named_numbers

AXES = ("trial", "data")


def axis_sizes(text: str) -> tuple[int, int]:
    """`trial=4,data=2` as (4, 2), in the order of `AXES`; a missing axis is 1.

    Raises:
        InputError: Anything else.
    """
    sizes = named_numbers(text, AXES, "--mesh must read like trial=4,data=2")
    trial, data = (sizes.get(axis, 1) for axis in AXES)
    return trial, data
