"""Which method matters most: the Shapley values of the letters, at equal size and at equal score.

A method's Shapley value is what it adds to the score, averaged over every order of switching methods on.
The values of all methods sum to the difference between the full combination and the uncompressed model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from bertjax.report.bootstrap import Resampled, with_interval
from bertjax.report.cube import Cube, letter_order, letters_of, subset_name, subset_order
from bertjax.report.headline import megabytes

POINTS = 101
"""Equally spaced sizes or scores over which the values are averaged."""

COLUMNS = ["letters", "measure", "letter", "value", "at", "reason"]


@dataclass(frozen=True)
class Curve:
    """A subset's models by growing size, joined by straight lines over the logarithm of size."""

    rows: np.ndarray
    """Indices of the models; of those of one size only the best."""
    log_size: np.ndarray
    """Natural logarithm of their bytes, rising."""
    architecture: np.ndarray
    """The row of `Cube.architectures` of each."""


@dataclass(frozen=True)
class Values:
    """What every subset is worth, by one measure."""

    measure: str
    by_subset: Mapping[str, np.ndarray]
    """[draw] per subset, more is better: points, or minus the logarithm of bytes; NaN where it is not known."""
    of_size: bool
    at: str
    """The range of sizes or scores it is averaged over."""
    reason: str
    """Why it is not known; "" if it is."""


Measure = Callable[[Mapping[str, Curve], np.ndarray], Values]
"""(curves, scores [draw, model]) -> what every subset is worth."""


def shapley_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The Shapley value of each letter.

    Args:
        values: The value of every subset of the letters by its name (`none`, `Q`, ..., `QKP`), whatever the letters:
            numbers, or arrays of one shape, which are then those of the results.

    Raises:
        ValueError: A subset is missing; the message names all that are.
    """
    given = {letters_of(methods): value for methods, value in values.items()}
    letters = frozenset().union(*given)
    missing = missing_subsets(values)
    if missing:
        raise ValueError(f"Shapley values of {subset_name(letters)} need every subset; missing: {', '.join(missing)}")
    count = len(letters)
    result = {}
    for letter in sorted(letters, key=letter_order):
        others = letters - {letter}
        # The share of all orders in which exactly these letters stand before this one.
        result[letter] = sum(
            (given[frozenset(before) | {letter}] - given[frozenset(before)]) / (count * math.comb(count - 1, k))
            for k in range(count) for before in combinations(others, k))
    return result


def missing_subsets(methods: Iterable[str], wanted: Iterable[str] = ()) -> list[str]:
    """The subsets of all letters of `methods` and `wanted` which are not among `methods`."""
    present = {letters_of(name) for name in methods}
    letters = sorted(frozenset().union(*present, *map(letters_of, wanted)), key=letter_order)
    every = [frozenset(chosen) for k in range(len(letters) + 1) for chosen in combinations(letters, k)]
    return [subset_name(chosen) for chosen in every if chosen not in present]


def complete_letters(methods: Iterable[str]) -> list[str]:
    """The largest sets of letters all whose subsets are among `methods`: QKP and QAP, when no subset has both K and A.

    Sets that lie in another one are left out; none is given when `none` is missing.
    """
    present = {letters_of(name) for name in methods}
    complete = [chosen for chosen in present if chosen and all(
        frozenset(part) in present for k in range(len(chosen)) for part in combinations(chosen, k))]
    largest = [chosen for chosen in complete if not any(chosen < other for other in complete)]
    return sorted((subset_name(chosen) for chosen in largest), key=lambda name: (-len(name), subset_order(name)))


def shapley_table(cube: Cube, resampled: Resampled | None = None, plain: bool = False) -> pd.DataFrame:
    """The Shapley values of a study's letters; see `equal_size` and `equal_score`.

    Scores are means over seeds, then over tasks; models without a score on every task are left out. With one
    architecture there are no curves, and where curves have no range in common they cannot be compared; then the plain
    mean `score` and `size` of each subset's models are measured too, over the architectures that all subsets have.

    Args:
        cube: The models.
        resampled: Adds 95 % intervals, `low` and `high`.
        plain: Measures the plain means in any case.

    Returns:
        A row per complete set of `letters`, `measure` and `letter`, with `value`: points for a score; for a size the
        factor by which the letter makes the model smaller (the exponential of its value on log size), so that factors
        multiply to that of all letters. `at` says where, `reason` why a value is NaN.
    """
    curves = subset_curves(cube)
    draws = None if resampled is None else means_of_draws(resampled)
    rows, drawn = [], []
    for letters in complete_letters(curves):
        chosen = {name: curve for name, curve in curves.items() if letters_of(name) <= set(letters)}
        for measure in _measures(cube, chosen, plain):
            values = measure(chosen, cube.task_means[None])
            per_letter = _letter_values(values)
            rows += [{"letters": letters, "measure": values.measure, "letter": letter, "value": value.item(),
                      "at": values.at, "reason": values.reason} for letter, value in per_letter.items()]
            if draws is not None:
                drawn += _letter_values(measure(chosen, draws)).values()
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})
    return table if resampled is None else with_interval(table, drawn, resampled)


def _measures(cube: Cube, curves: Mapping[str, Curve], plain: bool) -> list[Measure]:
    """What can be asked: the plain measures with one architecture, and where curves have nothing in common."""
    of_curves: list[Measure] = [equal_size, equal_score] if len(cube.architectures) > 1 else []
    told = [measure(curves, cube.task_means[None]).reason == "" for measure in of_curves]
    return of_curves if told and all(told) and not plain else [*of_curves, plain_score, plain_size]


def _letter_values(values: Values) -> dict[str, np.ndarray]:
    """[draw] per letter: points, or factors of size."""
    scale = np.exp if values.of_size else np.asarray
    return {letter: scale(value) for letter, value in shapley_values(values.by_subset).items()}


def subset_curves(cube: Cube) -> dict[str, Curve]:
    """The curve of every subset that has a model with a score on every task."""
    curves = {}
    for methods in cube.subsets:
        models = cube.models.iloc[cube.rows(methods)].assign(score=cube.task_means[cube.rows(methods)])
        models = models[np.isfinite(models["score"])].sort_values("score", ascending=False, kind="stable")
        models = models.drop_duplicates("size_bytes").sort_values("size_bytes")
        if len(models):
            curves[methods] = Curve(models.index.to_numpy(), np.log(models["size_bytes"].to_numpy(float)),
                                    models["architecture"].to_numpy())
    return curves


def means_of_draws(resampled: Resampled) -> np.ndarray:
    """[resample, model]: the mean over the drawn tasks; NaN where one of them has no score."""
    counts = resampled.task_counts[:, :, None]
    return np.where(counts > 0, resampled.scores * counts, 0.0).sum(axis=1) / counts.sum(axis=1)


def equal_size(curves: Mapping[str, Curve], scores: np.ndarray) -> Values:
    """The score that each subset's curve has at a size, averaged over the sizes (equally in log size) all curves reach.

    Args:
        curves: Per subset.
        scores: [draw, model] points.
    """
    low = max(curve.log_size[0] for curve in curves.values())
    high = min(curve.log_size[-1] for curve in curves.values())
    if low >= high:
        return _unknown("score at equal size", curves, scores, False, "the subsets have no range of sizes in common")
    sizes = np.linspace(low, high, POINTS)
    # Interpolation is linear in the scores: one weight per model of the curve serves all draws.
    weights = {name: np.mean([np.interp(sizes, curve.log_size, unit) for unit in np.eye(len(curve.rows))], axis=1)
               for name, curve in curves.items()}
    by_subset = {name: scores[:, curve.rows] @ weights[name] for name, curve in curves.items()}
    at = f"{megabytes(math.exp(low))} to {megabytes(math.exp(high))}"
    return Values("score at equal size", by_subset, False, at, "")


def equal_score(curves: Mapping[str, Curve], scores: np.ndarray) -> Values:
    """The log size at which each subset's curve first reaches a score, averaged over the scores all curves can tell.

    Those are the scores from the highest that a subset's smallest model has to the lowest that a subset's best has.

    Args:
        curves: Per subset.
        scores: [draw, model] points.
    """
    made = {name: np.full(len(scores), np.nan) for name in curves}
    ends = []
    for i, draw in enumerate(scores):
        low = max(draw[curve.rows[0]] for curve in curves.values())
        high = min(draw[curve.rows].max() for curve in curves.values())
        ends.append((low, high))
        if low < high:
            for name, curve in curves.items():
                sizes = first_reach(curve.log_size, draw[curve.rows], np.linspace(low, high, POINTS))
                made[name][i] = -sizes.mean()
    if len(scores) == 1 and not ends[0][0] < ends[0][1]:
        return _unknown("size at equal score", curves, scores, True, "the subsets have no range of scores in common")
    return Values("size at equal score", made, True, f"{ends[0][0]:.1f} to {ends[0][1]:.1f} points", "")


def first_reach(log_size: np.ndarray, scores: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The smallest log size at which the straight lines between the models reach each wanted score.

    Args:
        log_size: [model], rising.
        scores: [model]; they may fall in between.
        wanted: Between the first score and the highest.
    """
    at = np.minimum(np.searchsorted(np.maximum.accumulate(scores), wanted - 1e-12), len(scores) - 1)
    before = np.maximum(at - 1, 0)
    rise = np.where(at > before, scores[at] - scores[before], 1.0)
    share = np.clip((wanted - scores[before]) / rise, 0, 1)
    return log_size[before] + share * (log_size[at] - log_size[before])


def plain_score(curves: Mapping[str, Curve], scores: np.ndarray) -> Values:
    """The mean score of each subset's models, at whatever size."""
    return _plain("score", curves, {name: scores[:, curve.rows] for name, curve in curves.items()}, False)


def plain_size(curves: Mapping[str, Curve], scores: np.ndarray) -> Values:
    """The mean log size of each subset's models, whatever they score."""
    sizes = {name: np.tile(-curve.log_size, (len(scores), 1)) for name, curve in curves.items()}
    return _plain("size", curves, sizes, True)


def _plain(measure: str, curves: Mapping[str, Curve], values: Mapping[str, np.ndarray], of_size: bool) -> Values:
    """The mean of values, [draw, model of the curve], over the models of each architecture that all subsets have."""
    shared = sorted(set.intersection(*(set(curve.architecture) for curve in curves.values())))
    if not shared:
        return _unknown(measure, curves, next(iter(values.values())), of_size, "no model size has every subset")
    by_subset = {name: np.mean([values[name][:, curve.architecture == a].mean(axis=1) for a in shared], axis=0)
                 for name, curve in curves.items()}
    return Values(measure, by_subset, of_size, "", "")


def _unknown(measure: str, curves: Mapping[str, Curve], scores: np.ndarray, of_size: bool, reason: str) -> Values:
    return Values(measure, {name: np.full(len(scores), np.nan) for name in curves}, of_size, "", reason)
