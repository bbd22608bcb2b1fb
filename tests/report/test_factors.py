"""Table 1 by hand, and the published multiplicativity to the digit."""

import numpy as np
import pandas as pd
import pytest

from bertjax.report.factors import multiplicativity, table_one
from bertjax.report.published import published_table_one
from bertjax.report.tables import clean

FP32 = {"tiny": 17.5, "base": 438.0}


@pytest.fixture
def study(row):
    """Makes results from (task, size, methods, megabytes, score) or with further columns at the end."""
    def make(*points) -> pd.DataFrame:
        return clean(pd.DataFrame([
            row(methods, task, score=score, model=f"bert-{size}", size=size, num_hidden_layers=len(size),
                size_bytes_fp32=1e6 * FP32[size], size_bytes_paper=1e6 * size_mb, **(dict(*more) if more else {}))
            for task, size, methods, size_mb, score, *more in points]))
    return make


def factors(results: pd.DataFrame, **settings) -> dict[tuple[str, str], float]:
    table = table_one(results, **settings)
    return dict(zip(zip(table["name"], table["methods"], strict=True), table["factor"], strict=True))


def test_smaller_models_count_and_larger_ones_and_a_failing_task_counts_once(study) -> None:
    results = study(
        ("sst2", "base", "none", 438, 90), ("rte", "base", "none", 438, 70),
        ("sst2", "tiny", "none", 17.5, 80), ("rte", "tiny", "none", 17.5, 60),
        # K: on sst2 the tiny student is as good as the base model, on rte none is.
        ("sst2", "base", "K", 438, 91), ("rte", "base", "K", 438, 69),
        ("sst2", "tiny", "K", 17.5, 89.5), ("rte", "tiny", "K", 17.5, 64),
        # P: the tiny one fails on both, so the larger one stands in.
        ("sst2", "base", "P", 234, 89.4), ("rte", "base", "P", 234, 71),
        ("sst2", "tiny", "P", 16.6, 79), ("rte", "tiny", "P", 16.6, 59))
    found = factors(results)
    assert found["base", "K"] == pytest.approx((438 / 17.5 + 1) / 2)
    assert found["base", "P"] == pytest.approx((1 + 438 / 234) / 2)
    assert found["tiny", "P"] == pytest.approx(17.5 / 234)
    assert found["tiny", "K"] == pytest.approx(1)


def test_the_tolerance_is_kept_to_the_last_bit(study) -> None:
    results = study(("sst2", "tiny", "none", 17.5, 64.4), ("sst2", "tiny", "Q", 4.375, 63.9))
    assert 64.4 - 0.5 > 63.9 and factors(results) == {("tiny", "Q"): 4} == factors(results, tolerance=0.5)
    assert factors(results, tolerance=0.49) == {("tiny", "Q"): 1}


def test_seeds_are_averaged_first_and_the_best_uncompressed_rate_is_the_baseline(study) -> None:
    points = [("sst2", "tiny", "none", 17.5, score, {"seed": seed, "learning_rate": rate})
              for rate, scores in ((1e-4, (80, 82)), (1e-3, (70, 71))) for seed, score in enumerate(scores)]
    points += [("sst2", "tiny", "Q", 4.375, score, {"seed": seed}) for seed, score in enumerate((83, 78.2))]
    assert factors(study(*points))["tiny", "Q"] == 4  # 80.6 against 81
    assert factors(study(*points), tolerance=0.3)["tiny", "Q"] == 1


def test_the_other_score_column(study) -> None:
    results = study(("cola", "tiny", "none", 17.5, 40, {"score_movva": 80}),
                    ("cola", "tiny", "Q", 4.375, 30, {"score_movva": 80}))
    assert (factors(results)["tiny", "Q"], factors(results, column="score_movva")["tiny", "Q"]) == (1, 4)


def test_what_cannot_be_computed_says_why(study) -> None:
    table = table_one(study(
        ("sst2", "tiny", "none", 17.5, 80), ("sst2", "tiny", "Q", 4.375, 80), ("rte", "tiny", "Q", 4.375, 60),
        ("rte", "base", "none", 438, 70), ("sst2", "base", "P", 234, 90))).set_index(["name", "methods"])
    assert (table.loc[("tiny", "Q"), "factor"], table.loc[("tiny", "Q"), "tasks"]) == (4, 1)
    assert table.loc[("tiny", "Q"), "reason"] == "no uncompressed score on rte"
    assert np.isnan(table.loc[("base", "P"), "factor"])
    assert table.loc[("base", "P"), "reason"] == "no uncompressed score on sst2; no score of P on rte"


PUBLISHED_RATIOS = {
    "large": (1.03, 0.64, 1.00, 0.87), "base": (1.26, 0.70, 0.92, 1.40), "medium": (1.38, 1.15, 1.46, 2.03),
    "small": (1.09, 1.09, 1.25, 1.36), "mini": (1.06, 0.84, 1.36, 1.43), "tiny": (1.18, 0.92, 1.43, 1.64),
}
"""Observed over product from Table 1 of arXiv:2208.09684, for QK, QP, KP and QKP."""

PUBLISHED_PRODUCTS = {
    "large": ("12.6 12.2", "3.9 6.1", "5.8 5.8", "18.1 20.8"), "base": ("5.9 4.7", "3.1 4.4", "2.8 3.1", "11.1 8.0"),
    "medium": ("8.0 5.8", "4.0 3.5", "3.5 2.4", "14.1 7.0"), "small": ("9.4 8.6", "4.7 4.3", "3.6 2.9", "14.1 10.4"),
    "mini": ("4.7 4.4", "3.4 4.1", "1.8 1.3", "7.0 4.9"), "tiny": ("4.0 3.4", "2.2 2.4", "1.0 0.7", "3.9 2.4"),
}
"""Observed and product, likewise."""


def test_multiplicativity_of_the_published_table() -> None:
    table = multiplicativity(published_table_one())
    for name, part in table.groupby("name"):
        assert list(part["methods"]) == ["QK", "QP", "KP", "QKP"]
        assert tuple(f"{ratio:.2f}" for ratio in part["ratio"]) == tuple(f"{r:.2f}" for r in PUBLISHED_RATIOS[name])
        assert tuple(f"{row.observed:.1f} {row.product:.1f}" for row in part.itertuples()) == PUBLISHED_PRODUCTS[name]
    assert len(table) == 24


def test_a_product_needs_every_single_method() -> None:
    table = multiplicativity(pd.DataFrame({"name": "tiny", "methods": ["Q", "QK", "AQ"], "factor": [4.0, 6.0, 5.0]}))
    assert list(table["methods"]) == ["QK", "AQ"] and table["ratio"].isna().all()
