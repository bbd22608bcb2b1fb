"""What a person sees while a study runs: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bertjax.artifact.size import BYTES_PER_MB
from bertjax.sweep.execute import Cost
from bertjax.sweep.lock import Sign
from bertjax.sweep.outcome import Outcome
from bertjax.train.running import Progress as StepProgress
from bertjax.words import number_of

log = logging.getLogger(__name__)

PLAIN_SECONDS = 15.0
"""Seconds between two plain lines of one program."""


class View:
    """Shows the programs of a study; a context manager, since a live view must be taken down.

    Args:
        live: Whether it redraws itself; None: on a terminal.
        sign: Also tells there, for `bertjax status`: the `title` of the program, its `step` and `total_steps`, and
            `program_seconds_left` and `study_seconds_left`, those that are known yet.
    """

    def __init__(self, live: bool | None = None, sign: Sign | None = None) -> None:
        self.sign = sign or Sign()
        self.begun = time.monotonic()
        self.live = sys.stderr.isatty() if live is None else live
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.fields[detail]}"), TimeElapsedColumn(),
            TimeRemainingColumn(), console=Console(stderr=True), disable=not self.live,
        )
        self.study = self.progress.add_task("study", detail="", total=None)
        self.program = self.progress.add_task("program", detail="", total=None, visible=False)
        self.done_work = self.total_work = 0.0
        self.program_work = 0.0
        self.last_line = 0.0

    def __enter__(self) -> View:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def planned(self, programs: int, trials: int, work: float) -> None:
        """Tells what is to be done; `work` in any unit, the same as `started`'s."""
        self.total_work = work
        in_programs = f"in {number_of('program', programs)}"
        self.progress.update(self.study, total=work, description=f"{number_of('trial', trials)} {in_programs}")
        self._say(f"{number_of('trial', trials)} to train, {in_programs}")

    def started(self, title: str, work: float) -> None:
        """A program begins."""
        self.program_work, self.last_line = work, time.monotonic()
        self.progress.update(self.program, description=title, completed=0, total=None, visible=True, detail="compiling")
        self.sign.doing = {"title": title}
        self._say(f"{title}: started")

    def step(self, title: str, progress: StepProgress) -> None:
        """A chunk of the program is done."""
        rate = progress.trial_examples / max(progress.seconds, 1e-9)
        # With the trials that only fill the mesh up; the line at the end counts the study's own.
        detail = (f"step {progress.step}/{progress.total_steps} · {rate:,.0f} computed trial-examples/s · "
                  f"loss {progress.loss.mean():.3f}")
        share = progress.step / progress.total_steps
        self.progress.update(self.program, completed=progress.step, total=progress.total_steps, detail=detail)
        done = self.done_work + share * self.program_work
        self.progress.update(self.study, completed=done)
        self.sign.doing |= {"step": progress.step, "total_steps": progress.total_steps,
                            "program_seconds_left": progress.seconds * (1 / share - 1)}
        if self.total_work and done:
            # Of this run: what was done before it is no work of it.
            self.sign.doing["study_seconds_left"] = (time.monotonic() - self.begun) * (self.total_work / done - 1)
        if not self.live and time.monotonic() - self.last_line > PLAIN_SECONDS:
            self.last_line = time.monotonic()
            log.info("%s: %s · %.0f s left", title, detail, self.sign.doing["program_seconds_left"])

    def finished(self, title: str, outcomes: Sequence[Outcome], cost: Cost) -> None:
        """A program is done: its scores."""
        self.done_work += self.program_work
        self.progress.update(self.study, completed=self.done_work)
        self.progress.update(self.program, visible=False)
        log.info("%s: %.1f s training and evaluating (%.0f trial-examples/s), compiled %s in %.1f s", title,
                 cost.seconds, cost.trial_examples / max(cost.seconds, 1e-9),
                 number_of("time", cost.compilations), cost.compile_seconds)
        for made in outcomes:
            row = made.row
            score = f"{row['score']:6.2f}" if row["score"] is not None else row["status"]
            extra = "" if row["learning_rate"] is None else f"lr {row['learning_rate']:g}"
            extra += f"  copies {row['copies']}" if row["copies"] else ""
            sizes = f"{row['size_bytes_paper'] / BYTES_PER_MB:.1f} MB by the paper"
            if packed := row["size_bytes_disk"]:
                sizes += f", {packed / BYTES_PER_MB:.1f} MB packed"
            log.info("  %-4s %s  seed %d  %s  %s", row["methods"], score, row["seed"], extra, sizes)

    def note(self, text: str) -> None:
        """Something a user should know."""
        log.info("%s", text)

    def _say(self, text: str) -> None:
        if not self.live:
            log.info("%s", text)
