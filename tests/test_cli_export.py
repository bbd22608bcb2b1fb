"""`bertjax export` as a user types it: what it prints and leaves, and what it refuses in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bertjax import cli
from bertjax.artifact.exports import export as exports
from bertjax.artifact.exports import parity, to_hf
from bertjax.config import InputError
from tests.small_model import make_model_dir


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_model_dir`."""
    return make_model_dir(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(autouse=True)
def small_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results must not depend on whether PyTorch is installed; and each made-up length costs a compilation."""
    monkeypatch.setattr(to_hf, "has_torch", lambda: False)
    monkeypatch.setattr(parity, "LENGTHS", ())


def exit_of(*argv: object) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main([str(argument) for argument in argv])
    return int(raised.value.code or 0)


def dev_file(folder: Path, labels: str = "abc") -> Path:
    """Three rows of as many classes."""
    file = folder / "dev.csv"
    file.write_text("text,label\n" + "".join(f"{word},{label}\n" for word, label in zip(
        ("red line", "blue", "far circle"), labels, strict=True)))
    return file


@pytest.mark.parametrize("format", ["hf", "onnx", "stablehlo"])
def test_export_says_where_how_large_and_how_far(
    folder: Path, format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert exit_of("export", folder, "--format", format, "--output", out, "--dev-file", dev_file(tmp_path)) == 0
    written, compared = capsys.readouterr().out.splitlines()
    num_bytes = sum(file.stat().st_size for file in out.iterdir())
    assert written == f"written: {out} (all its files: {num_bytes:,} bytes on disk)"
    assert compared.startswith("parity:  3 rows: logits differ by ") and "; score " in compared


def test_export_takes_static_activations_and_portable_weights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict] = []

    def export(model, format, output, data, static_activations, unsigned_weights):
        asked.append({"static": static_activations, "unsigned": unsigned_weights})
        raise InputError("seen")

    monkeypatch.setattr(exports, "export", export)
    file, argv = dev_file(tmp_path), (folder, "--format", "onnx", "--output", tmp_path / "out")
    assert "give --task, or --dev-file and --train-file" in refused(
        capsys, *argv, "--static-activations", "--dev-file", file)
    refused(capsys, *argv, "--static-activations", "--dev-file", file, "--train-file", file)
    refused(capsys, *argv, "--portable")
    refused(capsys, *argv)
    assert asked == [{"static": True, "unsigned": None}, {"static": False, "unsigned": True},
                     {"static": False, "unsigned": None}]


def test_export_compares_on_made_up_rows_without_a_task(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_of("export", folder, "--format", "onnx", "--output", tmp_path / "out") == 0
    assert "parity:  8 rows: " in (said := capsys.readouterr().out) and "score" not in said


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line that a command leaves with exit code 2."""
    assert exit_of("export", *argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("bertjax: ") and captured.err.count("\n") == 1
    return captured.err


def test_export_refuses_in_one_line_and_leaves_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = {status: tmp_path / status for status in ("diverged", "done")}
    for status, trial in trials.items():
        trial.mkdir()
        (trial / "result.json").write_text(json.dumps({"status": status}))
    held = tmp_path / "held"
    held.mkdir()
    (held / "mine").write_text("")
    onnx, new = ("--format", "onnx"), ("--output", tmp_path / "new")
    assert "this trial has none, as it diverged" in refused(capsys, trials["diverged"], *onnx, *new)
    assert "was not kept (sweep with --keep-models all)" in refused(capsys, trials["done"], *onnx, *new)
    assert "must be a new or empty folder" in refused(capsys, folder, *onnx, "--output", held)
    assert "nowhere" in refused(capsys, tmp_path / "nowhere", *onnx, *new)
    assert "unknown task" in refused(capsys, folder, *onnx, *new, "--task", "mrpcc")
    assert "which has 10 labels" in refused(capsys, folder, *onnx, *new, "--task", "gloss-class")
    assert "got both" in refused(capsys, folder, *onnx, *new, "--task", "rte", "--dev-file", "f.csv")
    assert "give --task or --dev-file too" in refused(capsys, folder, *onnx, *new, "--data-dir", tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "ONNX needs onnxruntime, which is not installed: pip install 'bertjax[onnx]'" in refused(
        capsys, folder, *onnx, *new)
    broken = tmp_path / "onnxruntime.py"
    broken.write_text("raise ImportError('a library is missing')\n")
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    assert "which cannot be loaded (a library is missing)" in refused(capsys, folder, *onnx, *new)
    assert not (tmp_path / "new").exists() and [path.name for path in held.iterdir()] == ["mine"]


def test_export_refuses_a_place_that_cannot_be_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "out"
    assert "cannot be written" in refused(capsys, folder, "--format", "hf", "--output", below)
