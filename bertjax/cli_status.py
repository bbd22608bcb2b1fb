"""What `bertjax status` prints."""

from __future__ import annotations

import sys

from bertjax.words import number_of


def show_status(place: str) -> None:
    """A table, or JSON where no one looks."""
    from bertjax.sweep.status import read_status
    status = read_status(place)
    if not sys.stdout.isatty():
        print(status.as_json())
        return
    from rich.console import Console
    from rich.table import Table
    table = Table("task", "student")
    counts = ("done", "diverged", "failed", "left")
    for name in counts:
        table.add_column(name, justify="right")
    for part in status.parts:
        table.add_row(part.task, part.student, *(str(getattr(part, name)) for name in counts))
    table.add_section()
    table.add_row("all", "", *(str(status.total(name)) for name in counts))
    console = Console()
    console.print(table)
    for line in running_in_words(status.running, status.total("left") + status.total("failed")):
        console.print(line, markup=False, highlight=False)


def running_in_words(running: dict | None, unfinished: int) -> list[str]:
    """Who works on the study, and on what."""
    if running is None:
        return [f"No process works on it. The command that began it goes on with {number_of('trial', unfinished)}."
                if unfinished else "The study is complete."]
    lines = [f"Process {running['pid']} on {running['host']} has worked on it for {duration(60 * running['minutes'])}, "
             f"last seen {running['silent']:.0f} s ago."]
    for program in running["doing"].get("programs", ()):
        step = f", step {program['step']:,} of {program['total_steps']:,}" if "step" in program else ""
        left = f"; about {duration(program['seconds_left'])} left" if "seconds_left" in program else ""
        lines.append(f"{program['title']}{step}{left}.")
    if "seconds_left" in running["doing"]:
        lines.append(f"About {duration(running['doing']['seconds_left'])} left for the study.")
    return lines


def duration(seconds: float) -> str:
    """`40 s`, `12 minutes`, `3.5 hours`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes" if seconds < 5400 else (
        f"{seconds / 3600:.1f} hours")
