"""The learning curves as Altair charts, two per task: training loss and dev score against epochs."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from bertjax.report.plots import Drawing, Figure, focus, opacity, scales

MOST_EPOCHS = 200
"""A line of more is drawn by so many of them: no more can be told apart, and the page holds every one that is drawn."""


def curve_figures(curves: pd.DataFrame, results: pd.DataFrame) -> list[Figure]:
    """Training loss and dev score per epoch, two figures per task that has any (rows of `tables.curve_table`)."""
    figures = []
    for task, rows in curves.groupby("task", sort=False):
        for column, words in (("train_loss", "training loss"), ("score", "dev score (points)")):
            known = rows[np.isfinite(rows[column])]
            if len(known):
                title = words if column == "train_loss" else _last_epoch(known)
                figures.append(Figure(str(task), title, curve_chart(known, column, words, results)))
    return figures


def _last_epoch(rows: pd.DataFrame) -> str:
    last = rows[rows["epoch"] == rows["epoch"].max()].sort_values("score", ascending=False, kind="stable")
    text = f"{last.iloc[0]['methods']} ends highest with {last.iloc[0]['score']:.1f} points"
    return text if len(last) == 1 else f"{text}, {last.iloc[-1]['methods']} lowest with {last.iloc[-1]['score']:.1f}"


def curve_chart(curves: pd.DataFrame, column: str, title: str, results: pd.DataFrame) -> Drawing:
    """Lines with the subset's mark at every epoch that is drawn."""
    colour, shape, fill = scales(results)
    data = thinned(curves).assign(value=lambda rows: rows[column].round(5), setting=lambda rows: rows["label"])
    last = int(data["epoch"].max())
    base = alt.Chart(data).encode(
        x=alt.X("epoch:Q", title="epoch", scale=alt.Scale(nice=False, padding=14),
                axis=alt.Axis(values=list(range(1, last + 1, max(1, -(-last // 8)))), format="d", grid=False)),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, padding=10)), opacity=opacity(1.0))
    line = base.mark_line(strokeWidth=1.8).encode(color=alt.Color("methods:N", scale=colour, legend=None))
    points = base.mark_point(size=60, strokeWidth=1.8).encode(
        shape=alt.Shape("methods:N", scale=shape, legend=None), fill=alt.Fill("methods:N", scale=fill, legend=None),
        stroke=alt.Stroke("methods:N", scale=colour, legend=None),
        tooltip=["setting:N", "epoch:Q", alt.Tooltip("value:Q", title=title, format=".3f"),
                 alt.Tooltip("trials:Q", title="seeds")])
    return alt.layer(line, points).add_params(focus()).properties(width="container", height=240)


def thinned(curves: pd.DataFrame) -> pd.DataFrame:
    """Of each subset at most `MOST_EPOCHS` rows, evenly spaced, the first and the last among them."""
    lines = curves.groupby("methods", sort=False)["epoch"]
    at, gaps = lines.cumcount(), (lines.transform("size") - 1).clip(lower=1)
    steps = MOST_EPOCHS - 1
    return curves[at * steps // gaps != (at - 1) * steps // gaps]  # the first row past each of so many equal steps
