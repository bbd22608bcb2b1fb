"""`bertjax bench inference` as a user types it."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bertjax import cli, cli_bench, cli_study
from bertjax.artifact.inference import bench, candidates
from bertjax.cli_args import BenchInference
from bertjax.config import DataConfig
from tests.run_dir import make_run_dir
from tests.small_model import make_model_dir

FAST = ("--rounds", "1", "--batches", "1", "--batch-sizes", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `make_model_dir`; and a dev file of its three classes."""
    model = make_model_dir(tmp_path_factory.mktemp("models") / "small")
    (model.parent / "dev.csv").write_text("text,label\nred,a\nblue,b\nfar,c\n")
    return model


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results must not depend on whether PyTorch is installed; and this process keeps its CPUs."""
    monkeypatch.setattr(candidates, "has_torch", lambda: False)
    monkeypatch.setattr(cli_bench, "limit_cpus", lambda count: count)


def exit_of(*argv: object) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main(["bench", "inference", *map(str, argv)])
    return int(raised.value.code or 0)


def test_bench_help_is_fast_and_imports_nothing_heavy() -> None:
    program = ("import sys, bertjax.cli\ntry:\n    bertjax.cli.main(['bench', *sys.argv[1:]])\nfinally:\n"
               "    print(sorted({'jax', 'numpy', 'transformers', 'rich', 'onnxruntime'} & set(sys.modules)),"
               " file=sys.stderr)")
    for argv, said in ((["--help"], "inference"), ([], "train"), (["inference", "--help"], "--batch-sizes"),
                       (["train", "--help"], "--profile")):
        done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True)
        assert done.stderr == "[]\n" and "usage: bertjax bench" in done.stdout and said in done.stdout


def test_flags_reach_the_command() -> None:
    command = cli.parse(["bench", "inference", "a", "b", "--task", "rte", "--threads", "2", "--rounds", "3", "--ptq",
                         "--batch-sizes", "1", "4", "--batches", "7", "--output", "f.json", "--data-dir", "d"])
    assert isinstance(command, BenchInference) and cli_study.data_values(command.data) == {"data_dir": "d"}
    assert command.models == ("a", "b") and command.ptq and command.output == Path("f.json")
    assert (command.threads, command.rounds, command.batch_sizes, command.batches) == (2, 3, (1, 4), 7)


def test_a_run_directory_gets_a_row_for_each_trial_runtime_and_batch(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = DataConfig(train_file=str(folder.parent / "dev.csv"), dev_file=str(folder.parent / "dev.csv"))
    run = make_run_dir(tmp_path / "run", {"1a": ("own-dev", "none")}, folder, data)
    assert exit_of(run, *FAST, "--output", tmp_path / "new" / "out.json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((tmp_path / "new" / "out.json").read_text())
    with (run / "latency.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["trial_id"], row["methods"], row["task"], row["runtime"], row["batch_size"]) for row in rows] == [
        ("1a", "none", "own-dev", runtime, "2") for runtime in ("jax", "onnxruntime", "onnxruntime int8_dynamic")]
    assert [float(row["p50_ms"]) for row in rows] == [row["p50_ms"] for row in result["rows"]]
    assert all(row["cpu"] == result["cpu"] and row["threads"] == "1" for row in rows)
    (trial,) = results_of(run)
    assert (trial["trial_id"], trial["p50_ms"]) == ("1a", "")  # results.csv has batch 1
    assert exit_of(run, *FAST[:-1], "1") == 0
    (trial,) = results_of(run)
    with (run / "latency.csv").open(newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if (row["runtime"], row["batch_size"]) == ("onnxruntime", "1"))
    for name in ("p50_ms", "p95_ms", "rows_per_second"):
        assert float(trial[name]) == float(row[name]) > 0


def results_of(run: Path) -> list[dict[str, str]]:
    with (run / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_people_get_a_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, ...]] = []

    def measure(models: Any, data: Any, settings: Any) -> dict[str, Any]:
        asked.append((list(models), data.task.name, settings))
        row = {"artifact": "small", "runtime": "jax", "batch_size": 1, "p50_ms": 1.5, "p95_ms": 2.5,
               "rows_per_second": 3.0, "speedup": 1.0, "score": 50.0, "num_bytes": 1}
        return {"rows": [row], "task": "t", "cpu": "c", "threads": 1, "jax_cpus": 1, "jax_device": "cpu",
                "load_before": 0.0, "rounds": 1, "batches": 1, "left_out": []}

    monkeypatch.setattr(bench, "bench_inference", measure)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert exit_of(folder, "--dev-file", folder.parent / "dev.csv", "--rounds", 9) == 0
    assert asked == [(["small"], "own-dev", bench.BenchSettings(rounds=9, static=False))]
    assert "1.50" in capsys.readouterr().out


def test_a_dev_file_need_not_hold_every_class_of_a_model_whose_classes_have_names(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "named"
    shutil.copytree(folder, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b", "2": "c"}}))
    (tmp_path / "dev.csv").write_text("text,label\nred,a\nblue,b\n")
    assert exit_of(model, "--dev-file", tmp_path / "dev.csv", *FAST) == 0


@pytest.mark.parametrize(("argv", "said"), [
    ([], "needs run directories or models"),
    (["MODEL"], "needs either --task or --dev-file"),
    (["MODEL", "--task", "rte", "--dev-file", "DEV"], "got both"),
    (["MODEL", "--task", "mrpcc"], "unknown task 'mrpcc'"),
    (["MODEL", "--task", "gloss-class"], "which has 10 labels"),
    (["MODEL", "MODEL", "--dev-file", "DEV"], "is given twice"),
    (["MODEL", "--dev-file", "DEV", "--ptq"], "give --train-file too"),
    (["MODEL", "--dev-file", "DEV", "--threads", "0"], "--threads must be 1 to "),
    (["MODEL", "--dev-file", "DEV", "--threads", "9999"], "got 9999"),
    (["MODEL", "--dev-file", "DEV", "--rounds", "0"], "rounds must be at least 1, got 0"),
    (["MODEL", "--dev-file", "DEV", "--batch-sizes", "0"], "batch_sizes must be different numbers of at least 1"),
    (["MODEL", "--dev-file", "DEV", "--output", "MODEL"], "must be a file, and is a folder"),
    (["MODEL", "--dev-file", "DEV", "--output", "DEV/below.json"], "cannot be written"),
    (["MODEL", "--dev-file", "DEV", "--seeds", "0"], "choose among a run directory's models, got none"),
    (["nowhere", "--dev-file", "DEV"], "nowhere"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_one_line_and_exit_code_2(
    argv: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"MODEL": str(folder), "DEV": str(folder.parent / "dev.csv")}
    filled = [argument.replace("DEV", places["DEV"]).replace("MODEL", places["MODEL"]) for argument in argv]
    assert exit_of(*filled) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("bertjax: ") and captured.err.count("\n") == 1
    assert said in captured.err


def test_a_missing_package_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert exit_of(folder, "--dev-file", folder.parent / "dev.csv") == 2
    assert "pip install 'bertjax[onnx]'" in capsys.readouterr().err


def test_cpus_are_limited_before_anything_starts_jax(folder: Path) -> None:
    """Also where a run directory is read first."""
    program = ("import sys\nfrom bertjax import cli, cli_bench\n"
               "cli_bench.limit_cpus = lambda count: sys.exit(40 + ('jax' in sys.modules))\n"
               f"cli.main(['bench', 'inference', {str(folder)!r}, '--task', 'rte', '--threads', '1'])")
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 40
