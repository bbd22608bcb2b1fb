"""One direction of imports: a stage imports only itself and what stands before it, also inside functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bertjax

STAGES = ("heap", "words", "files", "interrupts", "config", "study", "params", "data", "model", "compress", "metrics",
          "train", "artifact", "sweep", "report", "cli_options", "cli_args", "cli_end", "cli_outputs", "cli_executor",
          "cli_study", "cli_predict", "cli_bench", "cli_pick", "cli_status", "cli")
ROOT = Path(bertjax.__file__).parent
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if "_experiments" not in path.parts)


def stages_imported(tree: ast.AST) -> set[str]:
    """First name below `bertjax` of every import in a module; dunder names such as `__version__` belong to all."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if name.startswith("bertjax.")]
    return {part[1] for part in parts if not part[1].startswith("__")}


@pytest.mark.parametrize("path", [path for path in MODULES if not path.parts[0].startswith("__")], ids=str)
def test_a_stage_imports_only_what_stands_before_it(path: Path) -> None:
    own = STAGES.index(path.parts[0].removesuffix(".py"))
    wrong = stages_imported(ast.parse((ROOT / path).read_text("utf-8"))) - set(STAGES[:own + 1])
    assert not wrong, f"bertjax/{path} imports {sorted(wrong)}; the order is {' -> '.join(STAGES)}"
