"""`bertjax bench train` as a user types it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bertjax import cli, cli_study
from bertjax.cli_args import BenchTrain
from bertjax.cli_bench import bench_study
from bertjax.config import DataConfig, QuantizeConfig, TrainConfig
from bertjax.study import METHODS, StudyConfig
from bertjax.sweep import throughput
from tests.report.test_throughput_table import RESULT


def exit_of(*argv: object) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main(["bench", "train", *map(str, argv)])
    return int(raised.value.code or 0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the command line asks to be measured; nothing is."""
    made: list[tuple[Any, ...]] = []

    def measure(*args: Any) -> dict[str, Any]:
        made.append(args)
        return RESULT

    monkeypatch.setattr(throughput, "bench_training", measure)
    return made


def study_of(*argv: str) -> StudyConfig:
    command = cli.parse(["bench", "train", *argv])
    assert isinstance(command, BenchTrain)
    return bench_study(command, cli_study.data_values(command.data))


def test_flags_reach_the_study() -> None:
    assert study_of("--model", "m") == StudyConfig("bench", model="m", tasks=("gloss-class",), methods=METHODS)
    assert study_of(*shlex.split(
        "--model m --task MRPC --layers 3 --methods none QKP --seeds 1 2 --batch-size 16 --dtype bfloat16 --epochs 9 "
        "--data-dir d --max-train-examples 99 --max-length 64 --weight-bits 4")) == StudyConfig(
        "bench", model="m", layers=(3,), tasks=("MRPC",), methods=("none", "QKP"), seeds=(1, 2),
        data=DataConfig(data_dir="d", max_train_examples=99, max_length=64),
        train=TrainConfig(batch_size=16, dtype="bfloat16", epochs=9), quantize=QuantizeConfig(weight_bits=4))
    assert study_of("--model", "m", "--train-file", "a/t.csv", "--dev-file", "d.csv").tasks == ("own-t",)


def test_json_for_programs_and_into_a_file(
    asked: list[tuple[Any, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, profile = tmp_path / "new" / "out.json", tmp_path / "trace"
    assert exit_of("--model", "m", "--task", "SST-2", "--rounds", 2, "--mesh", "data=2", "--profile", profile,
                   "--output", out) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text()) == RESULT
    ((study, *options),) = asked
    assert study.tasks == ("sst2",) and options == [2, "data=2", profile]
    assert [path.name for path in out.parent.iterdir()] == ["out.json"]


def test_people_get_a_table(
    asked: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert exit_of("--model", "m", "--output", tmp_path / "o.json") == 0
    assert asked[0][1:] == (3, None, None)
    said = capsys.readouterr().out
    assert "trial-examples/s" in said and f"written: {tmp_path / 'o.json'}" in said.replace("\n", "")


@pytest.mark.parametrize(("argv", "said"), [
    (["--task", "mrpcc"], "unknown task 'mrpcc'"),
    (["--rounds", "0"], "--rounds must be at least 1, got 0"),
    (["--methods", "KQ"], "unknown methods 'KQ'"),
    (["--methods", "none", "QA"], "reads no augmented copies, so no methods with A; got none, QA"),
    (["--layers", "0"], "layers must be at least 1, got 0"),
    (["--batch-size", "0"], "batch_size must be at least 1, got 0"),
    (["--weight-bits", "1"], "weight_bits must be 2 to 8, or none for float; got 1"),
    (["--train-file", "a.csv"], "own data needs both a train file and a dev file"),
    (["--output", "FOLDER"], "must be a file, and is a folder"),
    (["--profile", "FILE"], "--profile must be a folder that can be written"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_one_line_and_exit_code_2(
    argv: list[str], said: str, tmp_path: Path, asked: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    places = {"FOLDER": str(tmp_path), "FILE": str(tmp_path / "file")}
    assert exit_of("--model", "m", *[places.get(word, word) for word in argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("bertjax: ") and captured.err.count("\n") == 1
    assert said in captured.err and not asked


def test_bad_input_is_said_before_jax_is_imported(tmp_path: Path) -> None:
    program = ("import sys, bertjax.cli\ntry:\n    bertjax.cli.main(['bench', 'train', *sys.argv[1:]])\nfinally:\n"
               "    assert 'jax' not in sys.modules and 'transformers' not in sys.modules")
    for flags in (["--task", "x"], ["--rounds", "0"], ["--profile", f"{__file__}/below"]):
        done = subprocess.run([sys.executable, "-c", program, "--model", "m", *flags], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("--model", tmp_path / "nothing", "--methods", "none") == 2
    assert str(tmp_path / "nothing") in capsys.readouterr().err
