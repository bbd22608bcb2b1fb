"""What a person sees while a study runs: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bertjax.artifact.size import BYTES_PER_MB
from bertjax.sweep.execute import Cost
from bertjax.sweep.lock import Sign
from bertjax.sweep.outcome import Outcome
from bertjax.train.running import Progress as StepProgress
from bertjax.words import number_of

log = logging.getLogger(__name__)

PLAIN_SECONDS = 15.0
"""Seconds between two plain lines of one program."""


class ProgramView(Protocol):
    """What is told of programs in training; each has its own title."""

    def started(self, title: str, work: float) -> None:
        """A program begins; its `work` is in the unit of `View.planned`."""

    def step(self, title: str, progress: StepProgress) -> None:
        """A chunk of it is done."""

    def finished(self, title: str, outcomes: Sequence[Outcome], cost: Cost) -> None:
        """It is done: its scores."""

    def failed(self, title: str) -> None:
        """It ended without any, for now at least."""


@dataclass
class _Program:
    """One in training."""

    bar: TaskID
    work: float
    last_line: float
    share: float = 0.0
    """Of it that is done."""
    share_before: float | None = None
    """Of it that was done before it started here, from whose checkpoint it goes on; None until its first step."""
    doing: dict[str, Any] = field(default_factory=dict)

    @property
    def work_before(self) -> float:
        """Done before it started here."""
        return (self.share_before or 0.0) * self.work

    @property
    def done_work(self) -> float:
        """Done here."""
        return self.share * self.work - self.work_before


class View:
    """Shows the programs of a study, one or several at a time; a context manager, since a live view must be taken down.

    Args:
        live: Whether it redraws itself; None: on a terminal.
        sign: Also tells there, for `bertjax status`: `programs`, of each its `title`, and its `step`, `total_steps` and
            `seconds_left` once they are known; and `seconds_left` of the study, once that is.
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
        self.programs: dict[str, _Program] = {}
        self.done_work = self.total_work = self.work_before = 0.0

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
        """See `ProgramView`."""
        bar = self.progress.add_task(title, total=None, detail="compiling")
        self.programs[title] = _Program(bar, work, time.monotonic(), doing={"title": title})
        self._tell_sign()
        self._say(f"{title}: started")

    def step(self, title: str, progress: StepProgress) -> None:
        """See `ProgramView`."""
        program = self.programs[title]
        rate = progress.trial_examples / max(progress.seconds, 1e-9)
        # With the trials that only fill the mesh up; the line at the end counts the study's own.
        detail = (f"step {progress.step}/{progress.total_steps} · {rate:,.0f} computed trial-examples/s · "
                  f"loss {progress.loss.mean():.3f}")
        program.share = progress.step / progress.total_steps
        if program.share_before is None:
            steps = len(progress.metrics[0].loss) if progress.metrics else progress.step
            program.share_before = (progress.step - steps) / progress.total_steps
            self.work_before += program.work_before
        self.progress.update(program.bar, completed=progress.step, total=progress.total_steps, detail=detail)
        left = progress.seconds * (1 / program.share - 1)
        program.doing |= {"step": progress.step, "total_steps": progress.total_steps, "seconds_left": left}
        self._tell_sign()
        if not self.live and time.monotonic() - program.last_line > PLAIN_SECONDS:
            program.last_line = time.monotonic()
            log.info("%s: %s · %.0f s left", title, detail, left)

    def finished(self, title: str, outcomes: Sequence[Outcome], cost: Cost) -> None:
        """See `ProgramView`."""
        program = self.programs[title]
        if program.share_before is None:  # its checkpoint was of its end
            self.work_before += program.work
        else:
            self.done_work += program.work - program.work_before
        self._leave(title)
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

    def failed(self, title: str) -> None:
        """See `ProgramView`."""
        self.work_before -= self.programs[title].work_before  # where it starts again it counts this anew
        self._leave(title)

    def _leave(self, title: str) -> None:
        self.progress.remove_task(self.programs.pop(title).bar)
        self._tell_sign()

    def _tell_sign(self) -> None:
        """Of this run: what was done before it is no work of it."""
        done = self.done_work + sum(program.done_work for program in self.programs.values())
        total = self.total_work - self.work_before
        self.progress.update(self.study, completed=done, total=total or None)
        doing: dict[str, Any] = {"programs": [dict(program.doing) for program in self.programs.values()]}
        if total > 0 and done:
            doing["seconds_left"] = (time.monotonic() - self.begun) * (total / done - 1)
        self.sign.tell(doing)  # all at once: another thread reads it

    def _say(self, text: str) -> None:
        if not self.live:
            log.info("%s", text)
