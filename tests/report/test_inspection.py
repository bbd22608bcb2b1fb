"""An inspected model for a reader: every part has its bar, and the image is written at once or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bertjax.artifact.inspection import Inspection, inspect_model
from bertjax.config import InputError
from bertjax.report import inspection as inspection_module
from bertjax.report.inspection import BAR_WIDTH, inspection_png, part_bytes, rendered, show_model
from tests.small_model import make_model_dir


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    """A small float model."""
    return inspect_model(make_model_dir(tmp_path_factory.mktemp("models") / "small"))


def text_of(inspection: Inspection) -> str:
    """What a reader sees on a wide terminal."""
    console = Console(width=200)
    with console.capture() as captured:
        console.print(rendered(inspection))
    return captured.get()


def test_the_parts_make_up_the_file(inspection: Inspection) -> None:
    assert sum(sum(found.values()) for found in part_bytes(inspection).values()) == inspection.file_bytes


def test_layers_parts_and_conventions_are_shown(inspection: Inspection) -> None:
    text = text_of(inspection)
    for part in ("embeddings", "layer 0", "layer 1", "pooler", "task head", "word table", "float32", "header",
                 f"{inspection.file_bytes:,}", "file on disk", "entropy", "paper (A", "XTC (B", "encoder ratio (C",
                 "BERT-base (D"):
        assert part in text, part


def test_bars_are_as_long_as_their_part(inspection: Inspection) -> None:
    totals = {part: sum(found.values()) for part, found in part_bytes(inspection).items()}
    lines = [line for line in text_of(inspection).splitlines() if line.endswith("%") and line.split("%")[0] != line]
    bars = {part: sum(map(line.count, "█▓▒░")) for part in totals for line in lines
            if line.startswith(f"{part} ") and "." in line.split()[-1]}
    assert bars == {part: round(BAR_WIDTH * total / max(totals.values())) for part, total in totals.items()}


def test_the_image_is_written(inspection: Inspection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = inspection_png(inspection)
    assert content.startswith(b"\x89PNG") and np.frombuffer(content[16:24], ">u4").min() > 200
    show_model(str(Path(inspection.where.split(",")[0])), tmp_path / "parts.png")
    assert (tmp_path / "parts.png").read_bytes() == content
    assert f"drawn: {tmp_path / 'parts.png'}" in capsys.readouterr().out.replace("\n", "")
    assert list(tmp_path.iterdir()) == [tmp_path / "parts.png"]


@pytest.mark.parametrize(("name", "said"), [("no/parts.png", "No such file"), ("", "must be a file, got the folder"),
                                           ("parts.svg", "--png must end in .png")])
def test_an_image_that_cannot_be_written_is_refused_first(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection_module, "inspect_model", None)  # nothing is read before
    with pytest.raises(InputError, match=said):
        show_model("anything", tmp_path / name)
