"""The plots of a report as one PNG, with a legend and titles of its own."""

from __future__ import annotations

from collections.abc import Collection

import altair as alt
import pandas as pd
import vl_convert

from bertjax.report.plots import INK, Drawing, Figure, scales, vega
from bertjax.report.tables import ORDER
from bertjax.study import METHODS

PNG_WIDTH = 860
"""Pixels of the widest chart in a PNG, before scaling."""


def png(figures: list[Figure], title: str, methods: Collection[str], scale: float = 2) -> bytes:
    """All figures on one image with the marks of `methods` on top; the first is wide when their number is odd."""
    present = [name for name in ORDER if name in methods]
    wide = len(figures) % 2
    half = (PNG_WIDTH - 60) // 2
    sized = [figure.chart.properties(width=PNG_WIDTH if i < wide else half, title=_wrapped(figure, i < wide))
             for i, figure in enumerate(figures)]
    rows = [*sized[:wide], *(alt.hconcat(*sized[i:i + 2], spacing=40) for i in range(wide, len(sized), 2))]
    chart = alt.vconcat(_key(present), *rows, spacing=30).properties(
        title=alt.Title(title, fontSize=19), padding=24)
    return vl_convert.vegalite_to_png(vega(chart), scale=scale)


def _wrapped(figure: Figure, wide: bool) -> list[str]:
    """The title in lines that fit above the chart."""
    limit = 100 if wide else 50
    lines = [""]
    for word in f"{figure.panel}: {figure.title}".split():
        if len(lines[-1]) + len(word) > limit:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _key(methods: list[str]) -> Drawing:
    """The legend of a PNG: a row of marks with their names."""
    data = pd.DataFrame({"methods": methods, "at": range(len(methods))})
    colour, shape, fill = scales(data)
    places = alt.Scale(domain=[0, max(len(METHODS), len(methods))])
    base = alt.Chart(data).encode(x=alt.X("at:Q", axis=None, scale=places))
    points = base.mark_point(size=110, strokeWidth=2.2, opacity=1).encode(
        shape=alt.Shape("methods:N", scale=shape, legend=None), fill=alt.Fill("methods:N", scale=fill, legend=None),
        stroke=alt.Stroke("methods:N", scale=colour, legend=None))
    text = base.mark_text(align="left", dx=12, fontSize=13, color=INK).encode(text="methods:N")
    return alt.layer(points, text).properties(width=PNG_WIDTH - 200, height=20)
