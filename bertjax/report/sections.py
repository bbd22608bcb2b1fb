"""The statistics of a study as sections of the page: only those that have something to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bertjax.report.analysis import Analysis
from bertjax.report.cube import letters_of, subset_order
from bertjax.report.factors import TOLERANCE
from bertjax.report.headline import signed, times
from bertjax.report.plots import Figure
from bertjax.report.published import PAPER


@dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    sub: tuple[str, ...] = ()
    """Smaller lines below."""
    tone: str = ""
    """`up` or `down` where the interval leaves no doubt about the direction."""


EMPTY = Cell("–")


@dataclass(frozen=True)
class PageTable:
    """A table of the page; the first column names the row."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    title: str
    lead: str
    tables: tuple[PageTable, ...] = ()
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    file: str = ""
    """Name of the PNG of its figures."""


def sections_of(analysis: Analysis) -> list[Section]:
    """What a study says about its compressions."""
    made = (factor_section(analysis), shapley_section(analysis), paired_section(analysis), rate_section(analysis))
    return [section for section in made if section is not None]


def factor_section(analysis: Analysis) -> Section | None:
    """Table 1, whether its factors multiply, and what of it cannot be computed; None without compressed models."""
    factors, products = analysis.factors, analysis.products
    if factors.empty:
        return None
    known = np.isfinite(factors["factor"]).any()
    tables = [grid(factors, "name", "methods", _factor_cell, "model")] if known else []
    if np.isfinite(products["ratio"]).any():
        tables.append(grid(products, "name", "methods", _product_cell, "model", caption=(
            "What a combination reaches, against the product of what its methods reach alone. "
            "Above 1, together they save more than their product; coloured where the interval leaves out 1.")))
    reasons = [f"{'Not computed' if part['factor'].isna().all() else 'Not of every task'} for {name}, "
               f"{', '.join(part['methods'])}: {reason}." for (name, reason), part in
               factors[factors["reason"] != ""].groupby(["name", "reason"], sort=False)]
    short = reasons if len(reasons) <= 6 else [*reasons[:6], f"And {len(reasons) - 6} more in report/table1.csv."]
    limits = tuple(note for note in (analysis.note, analysis.unknown) if note)
    notes = (*limits, *short) if known else tuple(short)
    return Section(
        f"How many times smaller, within {TOLERANCE:g} points",
        f"Uncompressed bytes over those of the subset's smallest model that scores at most {TOLERANCE:g} points below "
        "the uncompressed one; models of any size and sparsity count. Mean over tasks; a task where none does counts "
        f"1× ({PAPER}, Table 1).", tuple(tables), notes)


def shapley_section(analysis: Analysis) -> Section | None:
    """What each letter contributes; None when fewer than two letters were combined."""
    table = analysis.shapley[analysis.shapley["letters"].str.len() > 1]
    missing = ("Shapley values of all letters need every subset. Without a model that has a score on every task: "
               f"{', '.join(analysis.missing)}.")
    notes = (*((missing,) if analysis.missing else ()), *analysis.shapley_notes)
    letters = frozenset().union(*(letters_of(name) for name in analysis.factors["methods"]))
    if table.empty:
        return None if len(letters) < 2 else Section("Which method matters most", "", notes=notes)
    rows = table.assign(row=[_measure_text(row) for row in table.to_dict("records")])
    tables = tuple(grid(part, "row", "letter", _shapley_cell, "")
                   for _, part in rows[rows["reason"] == ""].groupby("letters", sort=False))
    reasons = tuple(f"{measure[0].upper()}{measure[1:]} cannot be given: {reason}." for measure, reason in
                    dict(zip(table["measure"], table["reason"], strict=True)).items() if reason)
    return Section(
        "Which method matters most",
        "Shapley values: what a method adds, averaged over every order of switching the methods on. Points add up, and "
        "factors of size multiply, to the difference between all methods and none. Curves join a subset's models over "
        "the logarithm of size; they are compared at the sizes, or at the scores, that all of them reach. "
        "Coloured where the interval leaves out no effect.",
        tables, (*reasons, *notes))


def paired_section(analysis: Analysis) -> Section | None:
    """Differences between subsets; None when no two subsets share two seeds or tasks."""
    table = analysis.differences
    if table.empty or table["pairs"].max() < 2:
        return None
    low, high = table["pairs"].min(), table["pairs"].max()
    pairs = f"{low}" if low == high else f"{low} to {high}"
    return Section(
        "Differences between subsets",
        "Points by which the subset of the row scores above that of the column, with the 95 % interval, over trials of "
        "the same task, seed, model and settings; coloured where the interval leaves out 0.",
        (grid(table, "methods", "against", _difference_cell, ""),),
        (f"Student's t over {pairs} paired differences, one for each task and seed that both subsets have. Many are "
         "looked at here: about one in twenty intervals misses its true value by chance.",))


def rate_section(analysis: Analysis) -> Section | None:
    """How much the learning rate matters; None with a single one."""
    if analysis.rates.empty:
        return None
    rows = tuple((Cell(row["methods"]), Cell(f"{row['mean_range']:.2f}"), Cell(f"{row['largest_range']:.2f}"),
                  Cell(f"{row['best_rate']:g}" if np.isfinite(row["best_rate"]) else "–"), Cell(f"{row['rates']}"),
                  Cell(f"{row['groups']}"), Cell(f"{row['seeds']}")) for row in analysis.rates.to_dict("records"))
    columns = ("", "mean range", "largest range", "best rate", "rates", "groups", "seeds")
    return Section(
        "Sensitivity to the learning rate",
        "Highest minus lowest score over the learning rates, in points, for a subset on one task with all else equal "
        "(a group). Chance alone makes a range positive, the more so with one seed.", (PageTable(columns, rows),))


def grid(
    table: pd.DataFrame, row: str, column: str, cell: Callable[[dict[Any, Any]], Cell], corner: str, caption: str = ""
) -> PageTable:
    """A long table as rows and columns of cells, both in order of appearance; subsets as columns in their own order."""
    names, heads = list(dict.fromkeys(table[row])), list(dict.fromkeys(table[column]))
    if column in ("methods", "against"):
        heads.sort(key=subset_order)
    if row == "methods":
        names.sort(key=subset_order)
    cells = {(record[row], record[column]): cell(record) for record in table.to_dict("records")}
    rows = tuple((Cell(*_lines(name)), *(cells.get((name, head), EMPTY) for head in heads)) for name in names)
    return PageTable((corner, *heads), rows, caption)


def _lines(text: str) -> tuple[str, tuple[str, ...]]:
    first, *rest = text.split("\n")
    return first, tuple(rest)


def _factor_cell(row: dict[Any, Any]) -> Cell:
    if not np.isfinite(row["factor"]):
        return Cell("unknown")
    tasks = (f"{row['tasks']} task{'' if row['tasks'] == 1 else 's'} only",) if row["reason"] else ()
    return Cell(times(row["factor"]), (*_interval(row, "{:.1f}".format), *tasks))


def _product_cell(row: dict[Any, Any]) -> Cell:
    if not np.isfinite(row["ratio"]):
        known = np.isfinite(row["observed"])
        return Cell("unknown", (f"{row['observed']:.1f} against unknown",) if known else ())
    subs = [f"{row['observed']:.1f} against {row['product']:.1f}", *_interval(row, "{:.2f}".format)]
    if np.isfinite(row["low"]):
        subs.append(f"above 1 in {100 * row['share_above']:.0f} %")
    return Cell(f"{row['ratio']:.2f}", tuple(subs), _tone(row, 1.0))


def _measure_text(row: dict[Any, Any]) -> str:
    unit = "factor" if row["measure"].startswith("size") else "points"
    return "\n".join([f"{row['measure']}, {unit}", *([f"at {row['at']}"] if row["at"] else [])])


def shapley_text(measure: str, value: float) -> str:
    """A Shapley value in its measure's unit."""
    if not np.isfinite(value):
        return "unknown"
    return f"{value:.2f}×" if measure.startswith("size") else signed(value)


def _shapley_cell(row: dict[Any, Any]) -> Cell:
    of_size = row["measure"].startswith("size")
    return Cell(shapley_text(row["measure"], row["value"]), _interval(row, "{:.2f}".format if of_size else signed),
                _tone(row, 1.0 if of_size else 0.0))


def _difference_cell(row: dict[Any, Any]) -> Cell:
    return Cell(signed(row["difference"]), _interval(row, signed), _tone(row, 0.0))


def _interval(row: dict[Any, Any], form: Callable[[float], str]) -> tuple[str, ...]:
    return (f"{form(row['low'])} to {form(row['high'])}",) if np.isfinite(row["low"]) else ()


def _tone(row: dict[Any, Any], middle: float) -> str:
    if not np.isfinite(row["low"]):
        return ""
    return "up" if row["low"] > middle else "down" if row["high"] < middle else ""
