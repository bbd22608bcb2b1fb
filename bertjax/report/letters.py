"""What the letters of a study's subsets stand for, as K may come with augmented text, without it, or both ways."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bertjax.report.cube import letters_of, most_copies, subset_name
from bertjax.report.tables import has_score


def split_letters(results: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The results by letters for Shapley values, and whether K and A are letters of their own.

    They are where K was trained with copies and without, and A too: then K with copies is {K, A} (`KA`, `QKAP`), K
    without is {K}, and A has a value. Else of each subset the most copies stay, and A stands in K's place.
    """
    if not _both_ways(results):
        return most_copies(results), False
    augmented = results["copies"] > 0
    names = [subset_name(letters_of(methods) | {"A"}) if more and "K" in methods else methods
             for methods, more in zip(results["methods"], augmented, strict=True)]
    return most_copies(results.assign(methods=names)), True


def letter_note(results: pd.DataFrame, split: bool) -> str:
    """What K and A stand for in Shapley values, "" without either; `split` as `split_letters` has it."""
    counts = {letter: sorted(results.loc[has_score(results) & results["methods"].str.contains(letter), "copies"])
              for letter in "KA"}
    if split:
        return (f"K is distillation, A augmented text ({_copies(counts['A'][-1])} of each row): K with copies counts "
                "as K and A together, K without copies as K alone.")
    parts = []
    if counts["K"] and counts["K"][-1]:
        parts.append(f"K is distillation on augmented text ({_copies(counts['K'][-1])} of each row), both at once")
        fewer = [f"{copies:.0f}" for copies in np.unique(counts["K"]) if copies < counts["K"][-1]]
        if fewer:
            parts.append(f"K with {' or '.join(fewer)} copies is left out here, and stands among the differences "
                         "between subsets")
    elif counts["K"]:
        parts.append("K is distillation without augmented text")
    if counts["A"]:
        parts.append(f"A is augmented text ({_copies(counts['A'][-1])}) with its hard labels"
                     + (", in K's place" if counts["K"] else ""))
    return f"{'; '.join(parts)}." if parts else ""


def _both_ways(results: pd.DataFrame) -> bool:
    scored = results[has_score(results)]
    distilled = scored[scored["methods"].str.contains("K")]
    return bool((distilled["copies"] == 0).any() and (distilled["copies"] > 0).any()
                and scored["methods"].str.contains("A").any())


def _copies(count: float) -> str:
    return f"{count:.0f} {'copy' if count == 1 else 'copies'}"
