"""A packed model taken apart, for a reader: tables and bars on a terminal, and the bars as a PNG."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import altair as alt
import pandas as pd
import vl_convert
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from bertjax.artifact.inspection import Inspection, inspect_model
from bertjax.artifact.named_sizes import megabytes
from bertjax.config import InputError, require
from bertjax.files import write_bytes
from bertjax.report.plots import vega

KINDS = {"values": ("█", "blue", "#123f9c"), "places": ("▓", "dark_orange", "#dd7410"),
         "scales": ("▒", "green", "#169c78"), "header": ("░", "grey62", "#80868f")}
"""What the bytes of a part are: their sign and colour on a terminal, and their colour in a PNG."""

BAR_WIDTH = 60
"""Characters of the longest bar."""

PLAIN_WIDTH = 160
"""Columns where the output is no terminal, so that no cell is cut."""

PNG_WIDTH = 640
"""Pixels of the longest bar, before scaling."""


def show_model(source: str, png: Path | None = None) -> None:
    """Prints a model's layers, its parts with their bars and every convention's size to standard output.

    Args:
        source: What `inspect_model` takes.
        png: Also draws the bars there, at once or not at all.

    Raises:
        InputError: What `inspect_model` raises, or `png` cannot be written.
    """
    if png is not None:
        _check_file(png)
    inspection = inspect_model(source)
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(PLAIN_WIDTH, console.width))
    console.print(rendered(inspection))
    if png is not None:
        write_bytes(png, inspection_png(inspection))
        console.print(Text(f"drawn: {png}"))


def rendered(inspection: Inspection) -> Group:
    """What `show_model` prints."""
    return Group(Text(inspection.where), Text(_title(inspection)), _layers(inspection), _parts(inspection),
                 *_bars(inspection), Text(), _sizes(inspection))


def inspection_png(inspection: Inspection, scale: float = 2) -> bytes:
    """The bytes of each part as stacked bars, in decimal kilobytes or megabytes."""
    unit, size = ("MB", 1e6) if inspection.file_bytes >= 1e6 else ("kB", 1e3)
    table = pd.DataFrame([{"part": part, "kind": kind, "size": count / size, "order": list(KINDS).index(kind)}
                          for part, found in part_bytes(inspection).items() for kind, count in found.items()])
    drawn = alt.Chart(table).mark_bar(size=26).encode(
        x=alt.X("size:Q", title=unit, stack="zero"),
        y=alt.Y("part:N", sort=list(part_bytes(inspection)), title=None),
        color=alt.Color("kind:N", title=None, legend=alt.Legend(orient="top"),
                        scale=alt.Scale(domain=list(KINDS), range=[colour for _, _, colour in KINDS.values()])),
        order=alt.Order("order:Q"),
    ).properties(width=PNG_WIDTH, height=alt.Step(40), padding=20, title=_title(inspection))
    return vl_convert.vegalite_to_png(vega(drawn), scale=scale)


def part_bytes(inspection: Inspection) -> dict[str, dict[str, int]]:
    """Bytes by part, the header's last, and by kind; together they are the file's."""
    parts: dict[str, dict[str, int]] = {part: found._asdict() for part, found in inspection.parts.items()}
    return parts | {"header": {"header": inspection.header_bytes}}


def _check_file(file: Path) -> None:
    """Refuses a file that could not be written, before the seconds in which its content is made."""
    require(not file.is_dir(), f"--png must be a file, got the folder {file}")
    require(file.suffix == ".png", f"--png must end in .png, got {file}")
    try:
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise InputError(f"--png must lie in a folder that can be written, got {file}: {error.strerror}") from error


def _title(inspection: Inspection) -> str:
    config, origin = inspection.model.config, inspection.model.origin
    of = "".join(f", {origin[name]}" for name in ("task", "methods") if name in origin)
    return (f"{config.num_hidden_layers} layers, hidden size {config.hidden_size}{of}: "
            f"{megabytes(inspection.file_bytes)} on disk")


def _layers(inspection: Inspection) -> Table:
    table = _table("layer", "parameters", "scheme", numbers=(
        "count", "zeros %", "values", "places", "scales", "bytes", "bits each"))
    last = ""
    for row in inspection.rows:
        cells = [f"{row.count:,}", f"{100 * row.zeros / row.count:.1f}", *map(_count, row.bytes),
                 _count(row.bytes.total), f"{8 * row.bytes.total / row.count:.2f}"]
        table.add_row("" if row.layer == last else row.layer, row.name, row.scheme, *cells)
        last = row.layer
    return table


def _parts(inspection: Inspection) -> Table:
    table = _table("part", numbers=("values", "places", "scales", "bytes", "share %"))
    rows: list[tuple[str, Sequence[int], int]] = [
        (part, found, found.total) for part, found in inspection.parts.items()]
    rows += [("header", (0, 0, 0), inspection.header_bytes)]
    for part, split, total in rows:
        table.add_row(part, *map(_count, split), _count(total), f"{100 * total / inspection.file_bytes:.1f}")
    columns = zip(*(split for _, split, _ in rows), strict=True)
    table.add_section()
    table.add_row("total", *(_count(sum(column)) for column in columns), _count(inspection.file_bytes), "100.0")
    return table


def _bars(inspection: Inspection) -> list[Text]:
    parts = part_bytes(inspection)
    most = max(sum(found.values()) for found in parts.values())
    lines = [Text("  ").join(Text(f"{sign} {kind}", colour) for kind, (sign, colour, _) in KINDS.items())]
    for part, found in parts.items():
        line, at, total = Text(f"{part:<16}"), 0, 0
        for kind, count in found.items():
            total += count
            end = round(BAR_WIDTH * total / most)  # of the sum, so that rounding moves no end by more than half
            line.append(KINDS[kind][0] * (end - at), KINDS[kind][1])
            at = end
        lines.append(line.append(f" {total / inspection.file_bytes:.1%}"))
    return lines


def _sizes(inspection: Inspection) -> Table:
    table = Table("size", "", "what counts", box=box.SIMPLE_HEAD)
    for row in inspection.sizes:
        table.add_row(*map(Text, row))
    return table


def _table(*texts: str, numbers: Sequence[str]) -> Table:
    table = Table(*texts, box=box.SIMPLE_HEAD)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _count(number: int) -> str:
    return f"{number:,}" if number else ""
