"""`bertjax pick` as a user types it: the model, why not the next one, and what is refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from bertjax import cli, cli_study
from bertjax.cli_args import Export
from bertjax.cli_pick import export_command
from bertjax.config import DataConfig
from bertjax.sweep.latency_file import LATENCY_COLUMNS, write_latency
from bertjax.sweep.ledger import Ledger
from bertjax.sweep.run_dir import RunDir
from tests.run_dir import make_run_dir

TRIALS = {"1": ("none", 80.0, 69.6), "2": ("Q", 79.6, 18.1), "3": ("QP", 79.0, 15.6), "4": ("P", 78.0, 57.5)}
"""Methods, score and megabytes by trial."""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Four trials of one task; only the model of QP was kept."""
    made = make_run_dir(tmp_path / "a run", {key: ("rte", value[0]) for key, value in TRIALS.items()}, None,
                        DataConfig())
    for key, (_, score, mb) in TRIALS.items():
        change(made, key, score=score, score_movva=score, size_bytes_disk=mb * 1e6, size_bytes_fp32=1e8,
               size_bytes_paper=mb * 1e6)
        if key != "3":
            Ledger(RunDir(made)).drop_model(key)
    return made


def change(run_dir: Path, trial_id: str, **values: Any) -> None:
    """Other values in the row of a trial, and the tables written again."""
    path = run_dir / "trials" / trial_id / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    Ledger(RunDir(run_dir)).write_tables()


def exit_of(*argv: object) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main([str(argument) for argument in argv])
    return int(raised.value.code or 0)


def picked(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    assert exit_of("pick", *argv) == 0
    return json.loads(capsys.readouterr().out)


def test_pick_answers_in_json_where_no_one_looks(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = picked(capsys, run_dir, "--max-mb", 16)
    assert (found["methods"], found["score"], found["mb"], found["ms"]) == ("QP", 79.0, 15.6, None)
    assert found["drop"] == pytest.approx(1.0) and found["trial_ids"] == ["3"]
    assert found["folder"] == str(run_dir / "trials" / "3") and found["folder_score"] == 79.0
    assert found["export"] == f"bertjax export '{run_dir}/trials/3' --format onnx --output 3-onnx --task rte"
    assert found["next"]["methods"] == "Q" and found["why_not_next"] == "18.1 MB packed, above 16"
    assert found["next"]["folder"] is found["next"]["export"] is None


@pytest.mark.parametrize(("data", "flags"), [
    (DataConfig(data_dir="my glue"), ["--task", "rte", "--data-dir", "my glue"]),
    (DataConfig(train_file="t.csv", dev_file="d.csv", text_columns=("a", "b"), label_column="y"),
     ["--train-file", "t.csv", "--dev-file", "d.csv", "--text-columns", "a", "b", "--label-column", "y"]),
    (DataConfig(train_file="t.csv", dev_file="d.csv", regression=True),
     ["--train-file", "t.csv", "--dev-file", "d.csv", "--text-columns", "text", "--label-column", "label",
      "--regression"]),
])
def test_the_export_command_reads_the_rows_of_the_trial(data: DataConfig, flags: list[str], tmp_path: Path) -> None:
    run = make_run_dir(tmp_path, {"3": ("rte", "none")}, None, data)
    command = shlex.split(export_command(run / "trials" / "3", "rte"))
    assert command[-len(flags):] == flags
    parsed = cli.parse(command[1:])
    assert isinstance(parsed, Export) and parsed.task == (None if data.dev_file else "rte")
    assert DataConfig(**cli_study.data_values(parsed.data)) == data


def test_pick_in_words_on_a_terminal(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert exit_of("pick", run_dir, "--max-drop", 0.5) == 0
    out = capsys.readouterr().out
    assert "take     Q" in out and "score    79.60 (mean of 1 run" in out and "file     18.10 MB packed" in out
    assert "model    not kept: sweep again with --keep-models all" in out and "export" not in out
    assert "Why not QP" in out and "1 points lost, above 0.5." in out


def test_the_folder_says_what_it_scores_itself(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(run_dir, "2", methods="QP", seed=1, score=77.0, score_movva=77.0, size_bytes_disk=15.6e6, bits=8,
           sparsity=0.6)
    change(run_dir, "3", bits=8, sparsity=0.6, seed=0)
    found = picked(capsys, run_dir, "--max-mb", 16)
    assert (found["score"], found["trial_ids"], found["folder_score"]) == (78.0, ["3", "2"], 79.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert exit_of("pick", run_dir, "--max-mb", 16) == 0
    assert "trials/3 (one of these runs, which scores 79.00)" in capsys.readouterr().out


def test_milliseconds_are_those_of_the_bench(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("pick", run_dir, "--max-ms", 5) == 2
    assert "--max-ms needs the milliseconds of batches of 1 in onnxruntime: run `bertjax bench inference '" in (
        capsys.readouterr().err)
    rows = [dict.fromkeys(LATENCY_COLUMNS, "") | {"trial_id": key, "runtime": runtime, "batch_size": 1, "p50_ms": ms,
                                               "p95_ms": ms, "rows_per_second": 1e3 / ms}
            for key, runtime, ms in (("1", "onnxruntime", 9.0), ("1", "onnxruntime int8_dynamic", 1.0),
                                     ("2", "onnxruntime", 4.5), ("3", "onnxruntime", 4.0), ("3", "jax", 7.0))]
    path = write_latency(run_dir, rows)
    found = picked(capsys, run_dir, "--max-ms", 5)
    assert (found["methods"], found["ms"]) == ("Q", 4.5) and found["why_not_next"] == "9 ms, above 5"
    assert picked(capsys, run_dir, "--max-ms", 8, "--runtime", "jax")["methods"] == "QP"
    assert exit_of("pick", run_dir, "--max-ms", 5, "--batch-size", 7) == 2
    assert f"run `bertjax bench inference '{run_dir}' --task rte --batch-sizes 7` first" in capsys.readouterr().err
    assert exit_of("pick", run_dir, "--max-ms", 5, "--batch-size", 0) == 2
    assert "--batch-size must be at least 1, got 0" in capsys.readouterr().err
    path.write_text(path.read_text().replace("4.5", "soon"))
    capsys.readouterr()
    assert exit_of("pick", run_dir, "--max-ms", 5) == 2
    error = capsys.readouterr().err
    assert "latency.csv must have numbers in p50_ms, p95_ms, rows_per_second (could not convert string to float: " \
           "'soon')" in error


def test_nothing_within_the_limit_names_what_is_closest(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("pick", run_dir, "--max-mb", 5) == 2
    error = capsys.readouterr().err
    assert error.startswith("bertjax: no model of rte is within the limits; the closest is QP")
    assert error.endswith("15.6 MB packed, above 5\n")


def test_pick_needs_a_limit_results_and_one_task(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*argv: object) -> str:
        assert exit_of("pick", *argv) == 2
        return capsys.readouterr().err

    assert "a pick needs a limit; give --max-mb, --max-ms or --max-drop" in refused(run_dir)
    assert "results.csv must exist" in refused(tmp_path, "--max-mb", 5)
    assert "none of cola" in refused(run_dir, "--max-mb", 50, "--task", "cola")
    for key in TRIALS:
        change(run_dir, key, size_bytes_disk=None)
    assert "has none in its results.csv, which is of a former version" in refused(run_dir, "--max-drop", 1)
    change(run_dir, "4", task="cola", size_bytes_disk=1e6)
    assert "has results of cola, rte: choose one by --task" in refused(run_dir, "--max-mb", 50)
    assert picked(capsys, run_dir, "--max-mb", 60, "--task", "cola")["methods"] == "P"
