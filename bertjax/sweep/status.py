"""How far a study is, read from its run directory, also from another machine and while it runs."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from etils import epath

from bertjax.config import InputError
from bertjax.files import write_text
from bertjax.sweep.lock import owner_of
from bertjax.sweep.plan import ProgramPlan
from bertjax.words import number_of

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class PartStatus:
    """Trials of one task and student, by what became of them."""

    task: str
    student: str
    done: int
    diverged: int
    failed: int
    left: int


@dataclass(frozen=True)
class Status:
    """A study's."""

    parts: tuple[PartStatus, ...]
    running: dict[str, Any] | None
    """`host` and `pid` of the process that works on it, the `minutes` that it has, the seconds it was `silent`, and
    what it is `doing`, see `bertjax.sweep.view.View`; None if none does."""

    def total(self, name: str) -> int:
        """Over all parts."""
        return sum(getattr(part, name) for part in self.parts)

    def as_json(self) -> str:
        """On one line."""
        return json.dumps({"parts": [asdict(part) for part in self.parts], "running": self.running})


def keep_plan(run_dir: Path, programs: Iterable[ProgramPlan]) -> None:
    """Notes which trials the study has, for `read_status`."""
    parts: dict[tuple[str, str], list[str]] = {}
    for program in programs:
        first = program.whole[0]
        layers = "" if first.num_hidden_layers is None else f", {number_of('layer', first.num_hidden_layers)}"
        parts.setdefault((program.task, Path(first.model).name + layers), []).extend(
            trial.trial_id for trial in program.whole)
    lines = [{"task": task, "student": student, "trials": ids} for (task, student), ids in parts.items()]
    write_text(run_dir / PLAN_FILE, json.dumps(lines, indent=1) + "\n")


def read_status(place: str) -> Status:
    """The status of the study in a run directory, a folder or a place in an object store.

    Raises:
        InputError: There is no study.
    """
    root = epath.Path(place)
    try:
        plan = json.loads((root / PLAN_FILE).read_text())
        results = root / "results.csv"
        rows = list(csv.DictReader(io.StringIO(results.read_text()))) if results.exists() else []
        known = {row["trial_id"]: row["status"] for row in rows}
        parts = []
        for part in plan:
            found = Counter(known.get(name, "left") for name in part["trials"])
            parts.append(PartStatus(part["task"], part["student"], found["done"], found["diverged"], found["failed"],
                                    found["left"]))
    except FileNotFoundError:
        raise InputError(f"{place} must be the run directory of a sweep, and has no {PLAN_FILE}") from None
    except ImportError as error:
        raise InputError(f"{place} needs a package that is not installed ({error}): pip install 'bertjax[gcs]'"
                         ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place} must have a {PLAN_FILE} and a results.csv as a sweep writes them: {error}") from None
    owner, now = owner_of(root), time.time()
    return Status(tuple(parts), None if owner is None else {
        "host": owner["host"], "pid": owner["pid"], "minutes": (now - owner["started"]) / 60,
        "silent": now - owner["alive"], "doing": owner["doing"]})
