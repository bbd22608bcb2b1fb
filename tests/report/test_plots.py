"""Charts: signs that cannot be mistaken, front and teacher where they belong."""

import itertools

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.report.curves import MOST_EPOCHS, curve_figures, thinned
from bertjax.report.headline import panels
from bertjax.report.image import png
from bertjax.report.placing import LABEL_ALL, place_names
from bertjax.report.plots import MARKS, cost_domain, spec, ticks, tradeoff_figures
from bertjax.report.tables import MEAN_TASK, clean
from bertjax.study import AUGMENTED, METHODS


def luminance(colour: str) -> float:
    channels = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colour_alone_and_shape_alone_tell_the_subsets_apart() -> None:
    assert tuple(MARKS) == (*METHODS, *AUGMENTED)
    assert len({mark.colour for mark in MARKS.values()}) == len({(m.shape, m.filled) for m in MARKS.values()}) == 12
    for methods, mark in MARKS.items():
        if methods in METHODS:
            assert mark.filled == ("K" in methods)
            assert mark.shape == MARKS[methods.replace("K", "") or "none"].shape
        assert 1.05 / (luminance(mark.colour) + 0.05) >= 3, "contrast with white of graphics, WCAG 1.4.11"


@given(st.floats(0.01, 1e4), st.floats(1.08, 1e3))
def test_ticks_are_few_and_inside(low: float, factor: float) -> None:
    values = ticks(low, low * factor)
    assert 2 <= len(values) <= 8 and all(low <= value <= low * factor for value in values)
    assert values == sorted(set(values))


def test_marks_stay_inside_the_size_axis() -> None:
    low, high = cost_domain(pd.Series([4.4, 17.5]))
    assert low < 4.4 < 17.5 < high
    low, high = cost_domain(pd.Series([5.0]))
    assert low < 5 < high


def test_names_avoid_each_other() -> None:
    marks = pd.DataFrame({"cost": [10.0, 10.2, 40.0], "score": [80.0, 80.0, 70.0], "name": ["QP", "Q", "none"]})
    sides = place_names(marks)
    assert sides[0] != "right" and sides[1:] == ["right", "right"]


def test_a_name_without_room_is_left_out_of_a_crowded_plot() -> None:
    count = LABEL_ALL + 1
    crowd = pd.DataFrame({"cost": [10.0] * count, "score": [80.0] * count, "name": ["QKP"] * count})
    assert set(place_names(crowd)) <= {"right", "left", "above", "below", ""} and "" in place_names(crowd)
    assert "" not in place_names(crowd[1:])


def test_one_figure_per_panel_with_teacher_and_trials(grid) -> None:
    results = clean(grid())
    tables = panels(results)
    figures = tradeoff_figures(results, tables, {"teacher": {"mrpc": 84.5}})
    assert [figure.panel for figure in figures] == [MEAN_TASK, "mrpc", "gloss-pair"]
    texts = [str(spec(figure)) for figure in figures]
    assert ["teacher 84.5" in text for text in texts] == [False, True, False]
    for trial_id in results.loc[results["task"] == "mrpc", "trial_id"]:
        assert trial_id in texts[0] and trial_id in texts[1] and trial_id not in texts[2]
    assert all(spec(figure)["width"] == "container" for figure in figures)


def test_front_is_the_best_score_of_every_budget(grid) -> None:
    results = clean(grid(tasks={"mrpc": 82.4}))
    (table,) = panels(results).values()
    (figure,) = tradeoff_figures(results, {"mrpc": table}, {})
    stairs = figure.chart.layer[0].data
    for size, score in stairs[["cost", "score"]].to_numpy():
        assert score == pytest.approx(table.loc[table["size_bytes"] <= size * 1e6 + 1, "score_mean"].max())


def test_lines_join_the_sizes_of_a_subset(row) -> None:
    points = [("none", 20, 80, 1e-4), ("none", 40, 85, 1e-4), ("Q", 5, 79, 1e-4), ("Q", 10, 70, 1e-3),
              ("Q", 10, 84, 1e-4)]
    results = clean(pd.DataFrame([
        row(name, score=score, size=f"L{size}H8", size_bytes_paper=1e6 * size, learning_rate=rate)
        for name, size, score, rate in points]))
    (figure,) = tradeoff_figures(results, panels(results), {})
    lines = figure.chart.layer[1].data
    assert lines.to_numpy().tolist() == [["Q", 5, 79], ["Q", 10, 84], ["none", 20, 80], ["none", 40, 85]]
    one = results[results["size"] == "L10H8"]
    assert len(tradeoff_figures(one, panels(one), {})[0].chart.layer) < len(figure.chart.layer)


def test_curves_skip_what_is_not_there() -> None:
    results = pd.DataFrame({"methods": ["none", "Q"]})
    curves = pd.DataFrame([("mrpc", name, name, epoch, 3, 0.5 / epoch, float("nan"))
                           for name, epoch in itertools.product(("none", "Q"), (1.0, 2.0))],
                          columns=["task", "methods", "label", "epoch", "trials", "train_loss", "score"])
    assert [figure.title for figure in curve_figures(curves, results)] == ["training loss"]
    assert curve_figures(curves[:0], results) == []


@pytest.mark.parametrize("epochs", [1, 2, MOST_EPOCHS, MOST_EPOCHS + 1, 3000])
def test_long_curves_are_drawn_by_some_of_their_epochs(epochs: int) -> None:
    lines = curves_of({"none": epochs, "Q": 3})
    drawn = thinned(lines)
    none = drawn.loc[drawn["methods"] == "none", "epoch"]
    assert len(none) == min(epochs, MOST_EPOCHS) and {1.0, float(epochs)} <= set(none)
    assert none.diff().max() <= -(-epochs // (MOST_EPOCHS - 1)) or len(none) == 1
    assert drawn.loc[drawn["methods"] == "Q", "epoch"].tolist() == [1, 2, 3]


def test_thousands_of_epochs_and_of_trials_are_drawn(row) -> None:
    """Altair refuses charts of more than 5,000 rows unless told otherwise."""
    results = clean(pd.DataFrame([row("none", seed=seed, score=80 + seed / 1e4) for seed in range(5001)]))
    (curve,) = curve_figures(curves_of({"none": 3000, "Q": 3000}), pd.DataFrame({"methods": ["none", "Q"]}))
    (tradeoff,) = tradeoff_figures(results, panels(results), {})
    assert len(str(spec(curve))) < 200_000 and len(str(spec(tradeoff))) > 5001 * 20
    assert png([tradeoff, curve], "many", ["none", "Q"], scale=0.2).startswith(b"\x89PNG")


def curves_of(epochs: dict[str, int]) -> pd.DataFrame:
    """A loss for every epoch of each subset."""
    return pd.DataFrame([("mrpc", name, name, float(epoch), 3, 1 / epoch, float("nan"))
                         for name, count in epochs.items() for epoch in range(1, count + 1)],
                        columns=["task", "methods", "label", "epoch", "trials", "train_loss", "score"])
