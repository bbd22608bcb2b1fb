"""A submission to GLUE: names, words, order and numbers of every file, and nothing that no model has predicted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import bertjax.artifact.load
from bertjax import cli
from bertjax.artifact.load import Model
from bertjax.artifact.submission import predict_submission, submission_text, write_submission
from bertjax.config import InputError
from bertjax.data.examples import Examples, unlabelled
from bertjax.data.leaderboard import LEADERBOARD_ROWS, SubmissionRows
from bertjax.data.tasks import GLUE_TASKS, Task, find_task
from tests.glue_test_rows import FILES, INDEX, files_of, write_original

NLI = ("entailment", "neutral", "contradiction")
# The predictions of a model that takes the rows 0, 1, 2 for the classes 0, 1, 2 (modulo their number).
WORDS = {
    "CoLA.tsv": ("0", "1", "0"), "SST-2.tsv": ("0", "1", "0"), "MRPC.tsv": ("0", "1", "0"),
    "QQP.tsv": ("0", "1", "0"), "QNLI.tsv": ("entailment", "not_entailment", "entailment"),
    "RTE.tsv": ("entailment", "not_entailment", "entailment"), "MNLI-m.tsv": NLI, "MNLI-mm.tsv": NLI, "AX.tsv": NLI,
    "STS-B.tsv": ("0.000000", "2.500000", "5.000000"),
}


class StandIn:
    """Predicts the row number that ends each text: as its class, or as a score of -1, 2.5 and 6."""

    def columns_of(self, task: Task) -> list[int]:
        return list(range(task.num_labels))

    def task_logits(self, task: Task, examples: Examples) -> np.ndarray:
        rows = np.array([int(text.split()[-1]) for text in examples.second or examples.first])
        if task.regression:
            return 3.5 * rows[:, None].astype(np.float32) - 1
        return np.eye(task.num_labels, dtype=np.float32)[rows % task.num_labels]


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main([str(part) for part in argv])
    return int(raised.value.code or 0)


@pytest.mark.parametrize("task", GLUE_TASKS, ids=lambda task: task.name)
def test_a_submission_of_every_task(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bertjax.artifact.load, "load", lambda name: StandIn())
    write_original(tmp_path / "glue", list(FILES))
    to = tmp_path / "sub"
    assert run("predict", "m", "--glue-submission", to, "--task", task.folder, "--data-dir", tmp_path / "glue") == 0
    names = [file.name for file in files_of(task.name)]
    assert sorted(path.name for path in to.iterdir()) == sorted(names)
    for name in names:
        rows = "".join(f"{number}\t{word}\n" for number, word in zip(INDEX, WORDS[name], strict=True))
        assert (to / name).read_bytes().decode() == "index\tprediction\n" + rows
    *written, missing, wnli = capsys.readouterr().out.splitlines()
    assert written == [f"written: {to / name} (3 rows, but the leaderboard asks for {LEADERBOARD_ROWS[name]:,})"
                       for name in names]
    assert missing.removeprefix("a complete submission also needs: ").split(", ") == [
        name for name in LEADERBOARD_ROWS if name not in names]
    assert wnli == "WNLI is no task of bertjax: its file must come from elsewhere"


def test_the_folder_fills_up_task_by_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bertjax.artifact.load, "load", lambda name: StandIn())
    write_original(tmp_path / "glue", [file for file in FILES if file.name != "AX.tsv"])
    for task in GLUE_TASKS:
        run("predict", "m", "--glue-submission", tmp_path, "--task", task.name, "--data-dir", tmp_path / "glue")
    said = capsys.readouterr().out
    assert "left out: AX.tsv: the data folder" in said and not (tmp_path / "AX.tsv").exists()
    assert said.splitlines()[-2] == "a complete submission also needs: WNLI.tsv, AX.tsv"
    for name in ("WNLI.tsv", "AX.tsv"):
        (tmp_path / name).write_text("")
    monkeypatch.setitem(LEADERBOARD_ROWS, "RTE.tsv", 3)
    run("predict", "m", "--glue-submission", tmp_path, "--task", "rte", "--data-dir", tmp_path / "glue")
    assert capsys.readouterr().out.splitlines() == [f"written: {tmp_path / 'RTE.tsv'} (3 rows)",
                                                    "complete: the 11 files make the zip"]


def test_a_real_model_writes_what_it_predicts(folder: Path, model: Model, tmp_path: Path) -> None:
    write_original(tmp_path / "glue", files_of("mnli"))
    assert run("predict", folder, "--glue-submission", tmp_path / "sub", "--task", "mnli",
               "--data-dir", tmp_path / "glue") == 0
    for file in files_of("mnli"):
        numbers = [model.label_names.index(found["label"]) for found in model.predict([(a, b) for a, b in file.texts])]
        rows = [f"{index}\t{NLI[number]}" for index, number in zip(INDEX, numbers, strict=True)]
        assert (tmp_path / "sub" / file.name).read_text().splitlines() == ["index\tprediction", *rows]


def test_classes_are_matched_by_name(model: Model) -> None:
    task = find_task("mnli")
    pairs = [("red", "blue"), ("small line", "near"), ("far", "big square"), ("circle", "green far")]
    rows = [SubmissionRows("AX.tsv", tuple(range(4)), unlabelled(pairs))]
    turned = replace(model, label_names=("contradiction", "entailment", "neutral"))  # none stands where MNLI has it
    words = [found["label"] for found in turned.predict(pairs)]
    made = predict_submission(turned, task, rows)["AX.tsv"]
    assert made.splitlines()[1:] == [f"{number}\t{word}" for number, word in enumerate(words)]


@pytest.mark.parametrize(("task", "names", "said"), [
    ("rte", None, "the model must fit the task rte, which has 2 labels; the model gives 3 labels"),
    ("stsb", None, "the model must fit the task stsb, which has a score; the model gives 3 labels"),
    ("mnli", ("a", "b", "c"), "the model's labels must be those of mnli (entailment, neutral, contradiction)"),
])
def test_a_model_of_another_task_is_refused_before_anything_is_made(
    task: str, names: tuple[str, ...] | None, said: str, model: Model, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    other = replace(model, label_names=names) if names else model
    monkeypatch.setattr(bertjax.artifact.load, "load", lambda name: other)
    write_original(tmp_path / "glue", list(FILES))
    assert run("predict", "m", "--glue-submission", tmp_path / "sub", "--task", task,
               "--data-dir", tmp_path / "glue") == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert not (tmp_path / "sub").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverged_model_writes_nothing(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Diverged(StandIn):
        def task_logits(self, task: Task, examples: Examples) -> np.ndarray:
            logits = super().task_logits(task, examples)
            logits[1, -1] = value if "MNLI-mm" in examples.first[0] else logits[1, -1]
            return logits

    monkeypatch.setattr(bertjax.artifact.load, "load", lambda name: Diverged())
    write_original(tmp_path / "glue", files_of("mnli"))
    assert run("predict", "m", "--glue-submission", tmp_path / "sub", "--task", "mnli",
               "--data-dir", tmp_path / "glue") == 2
    assert "must be finite, got 1 of 3 rows of mnli" in capsys.readouterr().err
    assert list((tmp_path / "sub").iterdir()) == []


def test_scores_are_numbers_from_0_to_5() -> None:
    outputs = np.array([[-0.0], [-3.0], [1e-7], [4.99999], [5.5]], np.float32)
    text = submission_text(find_task("stsb"), range(5), outputs)
    assert [line.split("\t")[1] for line in text.splitlines()[1:]] == [
        "0.000000", "0.000000", "0.000000", "4.999990", "5.000000"]


def test_writing_replaces_only_its_own_files_and_leaves_none_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "CoLA.tsv").write_text("mine")
    (tmp_path / "RTE.tsv").write_text("old")
    whole = Path.write_text

    def full_disk(path: Path, text: str, **options: str) -> int:
        if path.name == "RTE.tsv":
            raise OSError(28, "No space left on device")
        return whole(path, text, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full_disk)
        with pytest.raises(InputError, match="cannot be written .No space left on device"):
            write_submission(tmp_path, {"QNLI.tsv": "new", "RTE.tsv": "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"CoLA.tsv": "mine", "RTE.tsv": "old"}
    write_submission(tmp_path, {"RTE.tsv": "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"CoLA.tsv": "mine", "RTE.tsv": "new"}


def test_a_folder_that_cannot_be_written_is_refused_before_predicting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Eager(StandIn):
        def task_logits(self, task: Task, examples: Examples) -> np.ndarray:
            raise AssertionError("predicted")

    monkeypatch.setattr(bertjax.artifact.load, "load", lambda name: Eager())
    write_original(tmp_path / "glue", files_of("rte"))
    (tmp_path / "file").write_text("")
    assert run("predict", "m", "--glue-submission", tmp_path / "file" / "sub", "--task", "rte",
               "--data-dir", tmp_path / "glue") == 2
    assert "--glue-submission must be a folder that can be written" in capsys.readouterr().err
