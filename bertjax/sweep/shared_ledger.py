"""The ledger of a study that several processes run: the first one reads and writes, the others are told."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from etils import epath

import bertjax
from bertjax.config import require
from bertjax.study import StudyConfig, TrialConfig
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.lock import written_by
from bertjax.sweep.plan import programs
from bertjax.sweep.results import Row
from bertjax.train.processes import from_all, from_first, require_same, several

SEEN_SECONDS = 10.0
"""How long a file that one process wrote may take to be seen by another: network file systems keep what they know."""


@dataclass(frozen=True)
class SharedLedger(Ledger):
    """Every process must call the same methods in the same order. What fails in the first one fails in all."""

    own: Ledger
    """What the first process asks; a ledger's methods call each other, and only the outermost may ask the others."""

    def missing(self, trials: Iterable[TrialConfig]) -> list[TrialConfig]:
        trials = list(trials)
        ids = set(from_first(lambda: [trial.trial_id for trial in self.own.missing(trials)]))
        return [trial for trial in trials if trial.trial_id in ids]

    def left(self, planned: Sequence[TrialConfig], known: Container[str]) -> tuple[TrialConfig, ...]:
        ids = set(from_first(lambda: [trial.trial_id for trial in self.own.left(planned, known)]))
        return tuple(trial for trial in planned if trial.trial_id in ids)

    def begun(self, planned: Sequence[TrialConfig]) -> list[tuple[TrialConfig, ...]]:
        found = from_first(lambda: [[trial.trial_id for trial in made] for made in self.own.begun(planned)])
        return [tuple(trial for trial in planned if trial.trial_id in ids) for ids in found]

    def row(self, trial: TrialConfig) -> Row | None:
        return from_first(partial(self.own.row, trial))

    def has_teacher(self, teacher: TrialConfig) -> bool:
        return from_first(partial(self.own.has_teacher, teacher))

    def check_rows(self, hashes: Mapping[str, str]) -> None:
        from_first(partial(self.own.check_rows, hashes))

    def keep_study(self, study: StudyConfig) -> None:
        from_first(partial(self.own.keep_study, study))

    def keep_rows(self, hashes: Mapping[str, str]) -> None:
        from_first(partial(self.own.keep_rows, hashes))

    def record(
        self, trial: TrialConfig, row: Row, metrics: Sequence[Row], predictions: Mapping[str, np.ndarray] | None = None
    ) -> None:
        from_first(partial(self.own.record, trial, row, metrics, predictions))

    def adopt(self, trials: Iterable[TrialConfig], rows: Mapping[str, Row]) -> int:
        return from_first(partial(self.own.adopt, trials, rows))

    def write_tables(self) -> None:
        from_first(self.own.write_tables)

    def push(self) -> None:
        from_first(self.own.push)

    def drop_finished_checkpoints(self) -> None:
        from_first(self.own.drop_finished_checkpoints)


def shared(ledger: Ledger) -> Ledger:
    """The ledger for this process: of several all get one, and must get it together."""
    return SharedLedger(ledger.place, ledger) if several() else ledger


def require_one_study(study: StudyConfig, mesh: str | None) -> None:
    """Raises `InputError` unless all processes have the same trials to train, on the same mesh."""
    if several():
        ids = " ".join(trial.trial_id for program in programs(study) for trial in program.trials)
        require_same("the experiment, its flags and the version of bertjax",
                     [hashlib.sha256(ids.encode()).hexdigest(), mesh, bertjax.__version__])


def require_seen(root: epath.Path) -> None:
    """Checks, once the first process has the lock of a run directory, that the others see that directory.

    Raises:
        InputError: They see another one, or none.
    """
    if not several():
        return
    owner, until = from_first(partial(written_by, root)), time.monotonic() + SEEN_SECONDS
    while not (seen := written_by(root) == owner) and time.monotonic() < until:
        time.sleep(0.5)
    blind = [str(index) for index, sees in enumerate(from_all(seen)) if not sees]
    require(not blind, "all processes must see the same run directory, on a file system that they share or in an "
                       f"object store; process {', '.join(blind)} does not see in {root} what process 0 wrote there")
