"""K with augmented text, without it, and both ways."""

import math

import pandas as pd
import pytest

from bertjax.report.analysis import analyse
from bertjax.report.letters import letter_note, split_letters
from bertjax.report.sections import sections_of
from bertjax.report.tables import clean

PARTS = {"Q": -1.0, "K": 2.0, "A": 0.5, "P": -3.0}
"""Points that each letter adds."""


@pytest.fixture
def arms(row):
    """Makes results of subsets with numbers of copies; text with copies counts as A."""
    def make(*trained: tuple[str, int]) -> pd.DataFrame:
        rows = []
        for methods, copies in trained:
            letters = {*methods} & {*PARTS} | ({"A"} if copies else set())
            rows.append(row(methods, score=80 + sum(PARTS[letter] for letter in letters), copies=copies))
        return clean(pd.DataFrame(rows))
    return make


PLAIN, AUGMENTED = ("none", "Q", "P", "QP"), ("A", "QA", "AP", "QAP")
DISTILLED = ("K", "QK", "KP", "QKP")


def test_a_has_a_value_where_k_was_trained_both_ways(arms) -> None:
    results = arms(*((name, 0) for name in (*PLAIN, *DISTILLED)), *((name, 2) for name in (*AUGMENTED, *DISTILLED)))
    kept, split = split_letters(results)
    assert split and len(kept) == 16 and set(kept["methods"]) >= {"K", "KA", "QKAP"}
    analysis = analyse(results, resamples=2)
    points = analysis.shapley[analysis.shapley["measure"] == "score"]
    assert dict(zip(points["letter"], points["value"], strict=True)) == pytest.approx(PARTS)
    assert set(points["letters"]) == {"QKAP"} and analysis.missing == ()
    assert "K and A together, K without copies as K alone" in sections_of(analysis)[1].notes[0]
    # Factors are of the paper's K all the same.
    assert set(analysis.factors["methods"]) == {*PLAIN[1:], *DISTILLED, *AUGMENTED}


def test_what_a_lacks_is_named(arms) -> None:
    results = arms(*((name, 0) for name in ("none", "K")), ("K", 2), ("A", 1), ("Q", 0))
    analysis = analyse(results, resamples=2)
    assert set(analysis.shapley["letters"]) == {"KA", "Q"} and {"QK", "QA", "QKA"} == set(analysis.missing)


def test_else_k_is_the_papers_and_a_stands_in_its_place(arms) -> None:
    both = arms(("none", 0), ("K", 0), ("K", 1), ("K", 2))
    kept, split = split_letters(both)
    assert not split and kept["copies"].tolist() == [0, 2]
    assert letter_note(both, split) == (
        "K is distillation on augmented text (2 copies of each row), both at once; K with 0 or 1 copies is left out "
        "here, and stands among the differences between subsets.")
    beside = arms(("none", 0), ("K", 1), ("A", 1))
    assert not split_letters(beside)[1] and letter_note(beside, False).endswith(
        "A is augmented text (1 copy) with its hard labels, in K's place.")
    values = analyse(beside, resamples=2).shapley.query("measure == 'score'").set_index("letter")["value"]
    assert values.to_dict() == {"K": 2.5, "A": 0.5} and not math.isnan(values["A"])
    assert letter_note(arms(("none", 0), ("K", 0)), False) == "K is distillation without augmented text."
    assert letter_note(arms(("none", 0), ("Q", 0)), False) == ""
