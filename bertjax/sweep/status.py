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

from bertjax.config import InputError, require
from bertjax.files import is_remote, write_text
from bertjax.sweep.lock import owner_of
from bertjax.sweep.plan import ProgramPlan
from bertjax.sweep.run_dir import lacks_package
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
        InputError: There is no study, or it cannot be read.
    """
    require(bool(place), "the run directory must be a folder or gs://bucket/name, got ''")
    try:
        root = epath.Path(place)
    except KeyError:  # of what stands before ://
        raise InputError(f"the run directory must be a folder or gs://bucket/name, got {place!r}") from None
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
        raise lacks_package(place, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place} must have a {PLAN_FILE} and a results.csv as a sweep writes them: {error}") from None
    except Exception as error:  # every store has errors of its own
        if not isinstance(error, OSError) and not is_remote(place):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{place} cannot be read ({reason})") from error
    owner, now = owner_of(root), time.time()
    return Status(tuple(parts), None if owner is None else {
        "host": owner["host"], "pid": owner["pid"], "minutes": (now - owner["started"]) / 60,
        "silent": now - owner["alive"], "doing": owner["doing"]})
