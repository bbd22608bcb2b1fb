"""The axes of the device mesh and how `--mesh` names them; without JAX, so that a wrong flag is known at once."""

from __future__ import annotations

import re

from bertjax.config import InputError

AXES = ("trial", "data")


def axis_sizes(text: str) -> tuple[int, int]:
    """`trial=4,data=2` as (4, 2), in the order of `AXES`; a missing axis is 1.

    Raises:
        InputError: Anything else.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        found = re.fullmatch(r"(trial|data)=([1-9]\d*)", part.strip())
        if found is None or found[1] in sizes:
            raise InputError(f"--mesh must read like trial=4,data=2, got {text!r}")
        sizes[found[1]] = int(found[2])
    trial, data = (sizes.get(axis, 1) for axis in AXES)
    return trial, data
