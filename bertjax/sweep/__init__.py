"""A study over many trials: planning, running, resuming. The package itself is callable: `bertjax.sweep(study)`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    from bertjax.study import StudyConfig


class _CallablePackage(ModuleType):
    """Importing `bertjax.sweep.run` puts this package at `bertjax.sweep`, where the public function is wanted too."""

    def __call__(self, study: StudyConfig, run_dir: str | Path | None = None, **options: Any) -> pandas.DataFrame:
        """Runs a study and returns its results, a row per trial; `bertjax.sweep.run.run_study` says more.

        Args:
          study: what to run.
          run_dir: where trials and results are kept; None takes `runs/<name of the study>`.
          **options: those of `run_study`.
        """
        from bertjax.sweep.run import run_study
        return run_study(study, run_dir or f"runs/{study.name}", **options)


sys.modules[__name__].__class__ = _CallablePackage
