"""Where the names of marks stand in a plot, so that they cover neither marks nor each other."""

from __future__ import annotations

import numpy as np
import pandas as pd

SIDES = {"right": ("left", 11, 0), "left": ("right", -11, 0), "above": ("center", 0, -18), "below": ("center", 0, 18)}
"""Where a name may stand beside its mark: alignment and offsets in pixels, the preferred side first."""
LABEL_ALL = 10
"""Up to so many rows each gets its name in the plot; beyond, only rows on the front, where there is room."""


def place_names(marks: pd.DataFrame) -> list[str]:
    """The side of `SIDES` for each name: the first where it meets no mark, no name placed before and no axis.

    A name that finds no room stands at the first side, or nowhere ("") when there are more than `LABEL_ALL` marks.
    """
    # In pixels of the narrowest chart that has room for it, 400 by 250 inside the axes.
    logs = np.log(marks["cost"].to_numpy(float))
    scores = marks["score"].to_numpy(float)
    xs = 400 * (logs - logs.min()) / max(logs.max() - logs.min(), 1e-9)
    ys = 250 * (scores.max() - scores) / max(scores.max() - scores.min(), 1e-9)
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in zip(xs, ys, strict=True)]
    sides = []
    for i, name in enumerate(marks["name"]):
        width, others = 8 * len(name), taken[:i] + taken[i + 1:]
        boxes = {"right": (xs[i] + 10, ys[i] - 8, xs[i] + 10 + width, ys[i] + 8),
                 "left": (xs[i] - 10 - width, ys[i] - 8, xs[i] - 10, ys[i] + 8),
                 "above": (xs[i] - width / 2, ys[i] - 26, xs[i] + width / 2, ys[i] - 10),
                 "below": (xs[i] - width / 2, ys[i] + 10, xs[i] + width / 2, ys[i] + 26)}
        side = next((side for side, box in boxes.items()
                     if box[0] > -25 and box[2] < 455 and not any(_overlap(box, other) for other in others)),
                    "right" if len(marks) <= LABEL_ALL else "")
        sides.append(side)
        if name and side:
            taken.append(boxes[side])
    return sides


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
