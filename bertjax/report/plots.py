"""The plots as Altair charts: the same chart goes into the page (as wide as its box) and into a PNG (fixed width).

Colour, shape and filling tell the subsets apart, and each letter keeps its sign: the hue and the outline say Q and P
(none grey circle, Q blue square, P orange triangle, both green diamond), a dark filled mark says K. Violet is A.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from bertjax.artifact.size import BYTES_PER_MB
from bertjax.report.headline import finding, megabytes, signed, times
from bertjax.report.placing import LABEL_ALL, SIDES, place_names
from bertjax.report.tables import ORDER, has_score, mean_over_tasks


@dataclass(frozen=True)
class Mark:
    """How a subset is drawn."""

    colour: str
    """Contrast with white at least 3:1; pairs stay apart under the three common colour-vision deficiencies."""
    shape: str
    filled: bool


MARKS = {
    "none": Mark("#80868f", "circle", False), "Q": Mark("#3a8ee6", "square", False),
    "K": Mark("#23272e", "circle", True), "P": Mark("#dd7410", "triangle-up", False),
    "QK": Mark("#123f9c", "square", True), "QP": Mark("#169c78", "diamond", False),
    "KP": Mark("#94370a", "triangle-up", True), "QKP": Mark("#00573f", "diamond", True),
    "A": Mark("#c04f9f", "triangle-down", False), "QA": Mark("#6d2f8e", "triangle-down", True),
    "AP": Mark("#a0306f", "cross", False), "QAP": Mark("#4a1f6b", "cross", True),
}
"""One mark per subset of `ORDER`."""

INK, QUIET, GRID, FRONT, PAPER = "#24292f", "#59636e", "#e6e9ee", "#c3cede", "#ffffff"
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
RIM: dict[str, Any] = {"stroke": PAPER, "strokeWidth": 4, "strokeJoin": "round"}
"""Of a text, behind it, so that it stays readable on dots and lines."""
CROWDED = 24
"""With more marks than this, they are drawn smaller."""

Drawing = alt.LayerChart | alt.FacetChart
"""What `alt.layer` is declared to return; here always a LayerChart."""


@dataclass(frozen=True)
class Figure:
    """A chart with the words that stand above it."""

    panel: str
    """The task, or the mean over tasks."""
    title: str
    chart: Drawing


def scales(results: pd.DataFrame) -> tuple[alt.Scale, alt.Scale, alt.Scale]:
    """Colour, shape and fill of the subsets that occur, in the order of `ORDER`."""
    domain = [name for name in ORDER if name in set(results["methods"])]
    marks = [MARKS[name] for name in domain]
    return (alt.Scale(domain=domain, range=[mark.colour for mark in marks]),
            alt.Scale(domain=domain, range=[mark.shape for mark in marks]),
            alt.Scale(domain=domain, range=[mark.colour if mark.filled else PAPER for mark in marks]))


def focus() -> Any:
    """The subset that stands out; "" for all. The page's legend sets it."""
    return alt.param(name="focus", value="")


def opacity(shown: float) -> Any:
    """Of a mark: `shown` where its subset stands out, or none does."""
    return alt.condition("focus == '' || datum.methods == focus", alt.value(shown), alt.value(0.08 * shown))


def tradeoff_figures(
    results: pd.DataFrame, tables: Mapping[str, pd.DataFrame], references: Mapping[str, Mapping[str, float]],
    unlearned: Collection[str] = (),
) -> list[Figure]:
    """Score against size, one figure per panel that has a score.

    Args:
        results: Rows of `tables.clean`.
        tables: Of `headline.panels`.
        references: By name, such as teacher, a score per panel, points; drawn as rules.
        unlearned: The panels on which no uncompressed model has learned, and so nothing is found.
    """
    trials = pd.concat([results, mean_over_tasks(results)])
    trials = trials[has_score(trials)]
    figures = []
    for panel, table in tables.items():
        rows, dots = table[np.isfinite(table["score_mean"])], trials[trials["task"] == panel]
        if len(rows):
            rules = {name: scores[panel] for name, scores in references.items() if panel in scores}
            chart = tradeoff_chart(rows, dots, rules, results)
            title = "no uncompressed model has learned this task" if panel in unlearned else finding(table)
            figures.append(Figure(panel, title, chart))
    return figures


def tradeoff_chart(
    table: pd.DataFrame, trials: pd.DataFrame, references: Mapping[str, float], results: pd.DataFrame
) -> Drawing:
    """One panel: the front as a staircase, every trial as a dot, every setting's mean as a mark with its name.

    With several model sizes a line joins the models of each subset (figure 1 of arXiv:2208.09684).
    """
    x, y, high = axes(table["size_bytes"] / BYTES_PER_MB, "size in MB (paper convention A, log scale)")
    colour = scales(results)[0]
    marks = _mark_rows(table)
    layers: list[Any] = [_front(marks, x, y, high), _dots(trials, x, y, colour)]
    if table["size"].nunique() > 1:
        layers.insert(1, _lines(marks, x, y, colour))
    layers[1:1] = [_rule(name, score, y) for name, score in references.items()]
    tooltip = ("setting", "mean score", "against none", "size", "seeds", "trials")
    return _panel([*layers, _points(marks, x, y, results, tooltip), *_names(marks, x, y, colour)])


def latency_chart(table: pd.DataFrame, results: pd.DataFrame) -> Drawing:
    """Score against milliseconds: every row as a mark with its name, the front as a staircase.

    Args:
        table: With `methods`, `name`, `p50_ms`, `score`, `on_front`, and `setting`, `time`, `points` for the tooltip.
        results: Rows of `tables.clean`, whose subsets have colours.
    """
    x, y, high = axes(table["p50_ms"], "milliseconds per batch (median, log scale)")
    marks = table.rename(columns={"p50_ms": "cost"}).reset_index(drop=True)
    if len(marks) > LABEL_ALL:
        marks["name"] = marks["name"].where(marks["on_front"], "")
    return _panel([_front(marks, x, y, high), _points(marks, x, y, results, ("setting", "time", "points")),
                   *_names(marks, x, y, scales(results)[0])])


def axes(costs: pd.Series, title: str) -> tuple[alt.X, alt.Y, float]:
    """The axes of scores against `costs` (above 0), and the upper end of that of costs."""
    low, high = cost_domain(costs)
    x = alt.X("cost:Q", title=title, scale=alt.Scale(type="log", domain=[low, high], nice=False),
              axis=alt.Axis(values=ticks(low, high), format="~g", grid=False))
    return x, alt.Y("score:Q", title="dev score (points)", scale=alt.Scale(zero=False, padding=16)), high


def _points(marks: pd.DataFrame, x: alt.X, y: alt.Y, results: pd.DataFrame, tooltip: tuple[str, ...]) -> alt.Chart:
    colour, shape, fill = scales(results)
    return alt.Chart(marks).mark_point(size=120 if len(marks) <= CROWDED else 55, strokeWidth=2.2, opacity=1).encode(
        x=x, y=y, shape=alt.Shape("methods:N", scale=shape, legend=None),
        stroke=alt.Stroke("methods:N", scale=colour, legend=None),
        fill=alt.Fill("methods:N", scale=fill, legend=None), opacity=opacity(1.0),
        tooltip=[alt.Tooltip(f"{name}:N", title=name) for name in tooltip])


def _panel(layers: list[Any]) -> Drawing:
    return alt.layer(*layers).add_params(focus()).properties(width="container", height=320)


def cost_domain(costs: pd.Series) -> tuple[float, float]:
    """Ends of the logarithmic axis: room for a mark on the left and for a mark and its name on the right."""
    low, high = float(costs.min()), float(costs.max())
    span = max(np.log(high / low), np.log(1.5))
    return low * float(np.exp(-0.07 * span)), high * float(np.exp(0.14 * span))


def _mark_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What a mark shows, its tooltip included."""
    spread = [f" ± {std:.2f}" if np.isfinite(std) else "" for std in table["score_std"]]
    named = len(table) <= LABEL_ALL
    return pd.DataFrame({
        "methods": table["methods"], "score": table["score_mean"], "cost": table["size_bytes"] / BYTES_PER_MB,
        "name": [methods if named or front else "" for methods, front in
                 zip(table["methods"], table["on_front"], strict=True)],
        "on_front": table["on_front"], "setting": table["label"],
        "mean score": [f"{mean:.2f}{text} points" for mean, text in zip(table["score_mean"], spread, strict=True)],
        "against none": [f"{signed(delta)} points" if np.isfinite(delta) else "unknown" for delta in table["delta"]],
        "size": [f"{megabytes(size)}, {times(ratio)} smaller than fp32" for size, ratio in
                 zip(table["size_bytes"], table["size_ratio"], strict=True)],
        "seeds": table["trials"].astype(str), "trials": table["trial_ids"],
    }).reset_index(drop=True)


def _front(marks: pd.DataFrame, x: alt.X, y: alt.Y, high: float) -> alt.Chart:
    """The best score that each budget of bytes buys: flat until the next model on the front fits."""
    front = marks[marks["on_front"]].sort_values(["cost", "score"])[["cost", "score"]]
    end = pd.DataFrame({"cost": [high], "score": [front["score"].max()]})
    return alt.Chart(pd.concat([front, end])).mark_line(
        interpolate="step-after", strokeWidth=7, color=FRONT, strokeCap="round", strokeJoin="round", opacity=0.75
    ).encode(x=x, y=y)


def _lines(marks: pd.DataFrame, x: alt.X, y: alt.Y, colour: alt.Scale) -> alt.Chart:
    """A line per subset through its models, of those of one size through the best."""
    best = marks.sort_values("score", ascending=False, kind="stable").drop_duplicates(["methods", "cost"])
    return alt.Chart(best[["methods", "cost", "score"]].sort_values(["methods", "cost"])).mark_line(
        strokeWidth=1.6).encode(x=x, y=y, color=alt.Color("methods:N", scale=colour, legend=None),
                                opacity=opacity(0.6))


def _rule(name: str, score: float, y: alt.Y) -> Drawing:
    data = pd.DataFrame({"score": [score], "text": [f"{name} {score:.1f}"]})
    rule = alt.Chart(data).mark_rule(strokeDash=[5, 4], color=QUIET, strokeWidth=1.2).encode(y=y)
    base = alt.Chart(data).encode(x=alt.value(0), y=y, text="text:N")
    text: dict[str, Any] = {"align": "left", "dx": 6, "dy": -8, "fontSize": 12}
    return alt.layer(base.mark_text(**text, **RIM), rule, base.mark_text(**text, color=QUIET))


def _dots(trials: pd.DataFrame, x: alt.X, y: alt.Y, colour: alt.Scale) -> alt.Chart:
    """Every trial (in the mean over tasks: every seed), faint."""
    data = pd.DataFrame({
        "methods": trials["methods"], "score": trials["score"], "cost": trials["size_bytes_paper"] / BYTES_PER_MB,
        "trial": trials["trial_id"], "seed": [f"{seed:.0f}" for seed in trials["seed"]],
        "points": [f"{score:.2f}" for score in trials["score"]]})
    return alt.Chart(data).mark_circle(size=26).encode(
        x=x, y=y, color=alt.Color("methods:N", scale=colour, legend=None), opacity=opacity(0.4),
        tooltip=[alt.Tooltip(f"{name}:N", title=name) for name in ("methods", "points", "seed", "trial")])


def _names(marks: pd.DataFrame, x: alt.X, y: alt.Y, colour: alt.Scale) -> list[alt.Chart]:
    """Names beside the marks."""
    sides = place_names(marks)
    charts = []
    for side, (align, dx, dy) in SIDES.items():
        rows = marks[[name != "" and at == side for name, at in zip(marks["name"], sides, strict=True)]]
        if len(rows):
            base = alt.Chart(rows).encode(x=x, y=y, text="name:N", opacity=opacity(1.0))
            text: dict[str, Any] = {"align": align, "dx": dx, "dy": dy, "fontSize": 13, "fontWeight": 600}
            charts += [base.mark_text(**text, **RIM),
                       base.mark_text(**text).encode(color=alt.Color("methods:N", scale=colour, legend=None))]
    return charts


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between `low` and `high` for a logarithmic axis: 2 to 8 of them, if possible at least 4."""
    chosen: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(range(1, 10)), tuple(np.arange(10, 100) / 10),
                   tuple(np.arange(100, 1000) / 100)):
        values = [float(f"{digit * 10.0**power:.3g}") for power in range(-3, 7) for digit in digits]
        inside = [value for value in values if low <= value <= high]
        if len(inside) > 8:
            return chosen if len(chosen) > 1 else inside[::-(-len(inside) // 8)]
        chosen = inside
        if len(chosen) >= 4:
            return chosen
    return chosen


def style() -> dict[str, object]:
    """The look of every chart: quiet axes, one family of letters, white ground."""
    return {
        "background": PAPER, "font": FONT, "view": {"stroke": None}, "padding": 6,
        "axis": {"labelColor": QUIET, "titleColor": QUIET, "labelFontSize": 12, "titleFontSize": 12,
                 "titleFontWeight": "normal", "gridColor": GRID, "domainColor": "#b6bec9", "tickColor": "#b6bec9",
                 "titlePadding": 8},
        "axisY": {"domain": False, "ticks": False, "tickCount": 5},
        "title": {"color": INK, "fontSize": 15, "fontWeight": 600, "anchor": "start", "offset": 12},
    }


def spec(figure: Figure) -> dict[str, object]:
    """The chart as Vega-Lite for the page, without its title (the page sets it, where it can wrap)."""
    return vega(figure.chart)


def vega(chart: Any) -> dict[str, object]:
    """A chart as Vega-Lite with our look, however many rows it has: of more than 5,000 Altair would make none."""
    with alt.data_transformers.disable_max_rows():  # pyrefly: ignore[bad-context-manager]
        return {**chart.to_dict(validate=False), "config": style()}
