"""Every subset of quantization, distillation and pruning of a BERT, trained as one compiled JAX program.

The public names are imported when they are first used (PEP 562), so that `import bertjax` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertjax.artifact.exports.export import export as export
    from bertjax.artifact.load import load as load
    from bertjax.config import InputError as InputError
    from bertjax.study import StudyConfig as StudyConfig
    from bertjax.sweep.run import run_study as sweep

__version__ = "0.1.0"
__all__ = ["InputError", "StudyConfig", "__version__", "export", "load", "sweep"]

_HOME = {"InputError": "bertjax.config", "StudyConfig": "bertjax.study", "load": "bertjax.artifact.load",
         "export": "bertjax.artifact.exports.export"}


def __getattr__(name: str) -> Any:
    if name == "sweep":  # the package itself is callable, see there
        return importlib.import_module("bertjax.sweep")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'bertjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
