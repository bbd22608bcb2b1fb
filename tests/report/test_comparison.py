"""A study of other models stands beside the published means, not beside the published cells."""

import math

import pytest

from bertjax.report.comparison import FACTOR, RATIO, compare, compare_means
from bertjax.report.comparison_sections import means_section
from bertjax.report.published import figure_one_results
from bertjax.report.tables import clean


@pytest.fixture(scope="module")
def others():
    """The published scores as if they were of two other models on MRPC."""
    theirs = figure_one_results()
    names = {"tiny": "L1H384", "base": "L6H384"}
    return theirs[theirs["size"].isin(names)].assign(task="mrpc", model="minilm", size=theirs["size"].map(names))


def test_means_over_sizes_of_the_published_tables(others) -> None:
    means = compare_means(others).set_index(["what", "item"])
    assert compare(others) is None
    # By hand from papers.md, A7 and A8.
    assert means.loc[(FACTOR, "Q"), ["published", "published_low", "published_high", "published_sizes"]].tolist() == [
        pytest.approx((3.6 + 2.6 + 2.9 + 3.6 + 3.7 + 3.4) / 6), 2.6, 3.7, 6]
    assert means.loc[(RATIO, "QP"), "published"] == pytest.approx(
        (0.64 + 0.70 + 1.15 + 1.09 + 0.84 + 0.92) / 6, abs=0.01)
    assert means.loc[(FACTOR, "Q"), ["ours", "ours_sizes"]].tolist() == [pytest.approx(2.5, abs=0.01), 2]  # 4 and 1
    assert {what for what, _ in means.index} == {FACTOR, RATIO, "score at equal size", "size at equal score"}
    assert means.loc[("score at equal size", "K"), "published"] == pytest.approx(2.22, abs=0.01)


def test_the_section_says_that_models_differ(others) -> None:
    section = means_section(compare_means(others))
    assert "nothing here is comparable cell by cell" in section.lead
    assert [len(table.rows) for table in section.tables] == [2, 2, 2]
    assert section.tables[0].rows[1][1].sub == ("2.6× to 3.7×", "6 sizes")


def test_one_architecture_has_plain_values_on_both_sides(grid) -> None:
    means = compare_means(clean(grid())).set_index(["what", "item"])  # mrpc alone is of the paper's tasks
    assert means.loc[("size", "Q"), ["ours", "published"]].tolist() == pytest.approx([4, 4], abs=0.01)
    assert math.isnan(means.loc[("score at equal size", "Q"), "ours"])


def test_other_tasks_have_nothing_to_stand_beside(grid) -> None:
    assert compare_means(clean(grid(tasks={"gloss-pair": 76.3}))) is None
    assert compare_means(figure_one_results().assign(task="mrpc")) is None
    results = clean(grid(tasks={"mrpc": 82.4}))
    assert compare_means(results[results["methods"] == "none"]) is None
    lost = compare_means(results, {"mrpc": 82.0})
    assert lost.loc[lost["what"].isin([FACTOR, RATIO]), "ours"].isna().all()
