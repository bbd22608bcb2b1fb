"""Random orders that stay the same in every version of NumPy."""

from __future__ import annotations

import numpy as np


def draw_order(count: int, *entropy: int) -> np.ndarray:
    """A random permutation of `range(count)`, int64, a function of `entropy` (integers in [0, 2^32)) alone.

    `SeedSequence` pads with zeros: (1, 2) and (1, 2, 0) draw the same, so kinds of draws differ in the first integer.
    It sorts raw 64-bit words of Philox by size: NumPy promises the same raw words in every version, but not the same
    results of `Generator.permutation`.
    """
    words = np.random.Philox(np.random.SeedSequence(entropy)).random_raw(count)
    return np.argsort(words, kind="stable")
