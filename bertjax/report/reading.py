"""Reads the files of a run directory that a report is about, and says what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from bertjax.config import InputError
from bertjax.report.tables import clean


def read_results(path: Path) -> pd.DataFrame:
    """The rows of a `results.csv` or `teachers.csv`, checked and typed by `tables.clean`.

    Raises:
        InputError: With the file's name.
    """
    try:
        # All as text first: a trial_id like 12e456789012 is not a number, and `none` is not a blank.
        return clean(pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""]))
    except FileNotFoundError:
        raise InputError(f"{path} must exist: run `bertjax sweep` into this folder first") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} must be a table of trials, got: {str(error).strip()}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def read_json(path: Path) -> Any:
    """Parsed JSON, or `InputError` with the file and line."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: must be JSON, got: {error.msg}; run the sweep again") from None


def read_study(run_dir: Path) -> dict[str, Any]:
    """The study that a run directory is of; empty where it is not at hand."""
    path = run_dir / "study.json"
    return read_json(path) if path.exists() else {}
