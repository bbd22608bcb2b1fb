"""The folder of an export: readable like other files, with a card that says what is known, and never half of one."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.artifact.exports import parity, to_hf
from bertjax.artifact.exports.export import export
from bertjax.artifact.load import Model
from bertjax.artifact.packed_folder import pack_folder
from bertjax.config import FLOAT, InputError, QuantizeConfig
from bertjax.data.sources import Examples, TaskData
from bertjax.data.tasks import Task
from bertjax.model.hf_config import read_extras

FORMATS = ("hf", "onnx", "stablehlo")


@pytest.fixture(autouse=True)
def small_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results must not depend on whether PyTorch is installed; and each made-up length costs a compilation."""
    monkeypatch.setattr(to_hf, "has_torch", lambda: False)
    monkeypatch.setattr(parity, "LENGTHS", ())


def data_of(labels: tuple[str, ...]) -> TaskData:
    """Three rows."""
    rows = Examples(["red", "blue circle", "green"], None, np.array([0, 1, 2], np.int32))
    return TaskData(Task("t", ("text",), labels, ("validation",), ("accuracy",), ""), rows, {"validation": rows})


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("num_bytes", [100, 6000])
@pytest.mark.parametrize("format", [*FORMATS, "packed"])
def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(
    model: Model, folder: Path, format: str, num_bytes: int, tmp_path: Path
) -> None:
    with full_disk(num_bytes), pytest.raises(InputError) as raised:
        if format == "packed":
            pack_folder(folder, tmp_path / "out")
        else:
            export(model, format, tmp_path / "out")
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'out'}") and "cannot be written (" in said and "File too large" in said
    assert "\n" not in said and "/.out" not in said and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_files_have_the_mode_that_the_umask_leaves(
    model: Model, folder: Path, umask: int, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        for format in FORMATS:
            export(model, format, tmp_path / format)
        pack_folder(folder, tmp_path / "packed")
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_says_what_the_model_is_from(quantized: Model, format: str, tmp_path: Path) -> None:
    origin = {"task": "rte", "methods": "QK", "trial_id": "1", "base_model": "some/bert", "licence": "mit",
              "scores": "**81.00 points** on rows."}
    export(replace(quantized, origin=origin), format, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for line in ("- **Base model**: some/bert", "- **Task**: rte", "- **Methods**: QK",
                 "- **Licence**: mit, that of the base model", "As trained, measured by bertjax: **81.00 points** on"):
        assert line in card
    kept = read_extras(tmp_path / "out" / "config.json")["origin"]
    # Without quantized activations it is another model.
    assert kept == {name: text for name, text in origin.items() if format != "hf" or name != "scores"}
    if format == "hf":
        assert card.startswith('---\nlicense: "mit"\nbase_model: "some/bert"\n') and "scores:" not in card
        pack_folder(tmp_path / "out", tmp_path / "packed")
        packed = (tmp_path / "packed" / "README.md").read_text()
        assert "some/bert" in packed and "- **Task**: rte" in packed and "float activations" in packed
        assert "Not measured" in packed and "None" not in packed
        export(replace(quantized, quantize=FLOAT, origin=origin), "hf", tmp_path / "float")
        pack_folder(tmp_path / "float", tmp_path / "repacked")
        assert "**81.00 points** on rows." in (tmp_path / "repacked" / "README.md").read_text()


@pytest.mark.parametrize(("task", "texts"), [
    ("mrpc", {"hf": '[{"text": "a text", "text_pair": "its second text"}]', "onnx": '["a text"], ["its second text"]'}),
    ("sst2", {"hf": '(["a text", "another one"])', "onnx": '(["a text", "another one"],'}),
])
def test_a_model_of_pairs_is_shown_with_pairs(
    model: Model, tmp_path: Path, task: str, texts: dict[str, str]
) -> None:
    for format, text in texts.items():
        export(replace(model, origin={"task": task}), format, tmp_path / format)  # pyrefly: ignore[bad-argument-type]
        assert text in (tmp_path / format / "README.md").read_text()


def test_the_card_says_which_program_measured(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for quantize in (model.quantize, QuantizeConfig()):
        out = tmp_path / str(quantize.weight_bits)
        export(replace(model, quantize=quantize), "hf", out, data_of(("LABEL_0", "LABEL_1", "LABEL_2")))
        assert "measured by bertjax (PyTorch was not installed)." in (out / "README.md").read_text()
    monkeypatch.setattr(to_hf, "has_torch", lambda: True)
    assert to_hf.hf_program() == "transformers"
