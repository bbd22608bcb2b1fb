"""The command line: fast help, flags that reach the config, and one clear line with exit code 2 for bad input."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas
import pytest

import bertjax
from bertjax import cli, cli_options, cli_study
from bertjax.cli_args import COMMANDS, Plan, Predict, Sweep, Train
from bertjax.cli_end import say_why
from bertjax.cli_predict import texts_of
from bertjax.config import (
    AugmentConfig,
    DataConfig,
    InputError,
    InUseError,
    PruneConfig,
    QuantizeConfig,
    TeacherConfig,
    TrainConfig,
)
from bertjax.study import METHODS, StudyConfig
from bertjax.sweep.view import View
from tests.small_model import make_model_dir

SWEEP = ["sweep", "demo", "--run-dir", "unused"]


def exit_of(*argv: str) -> int:
    with pytest.raises(SystemExit) as raised:
        cli.main(argv)
    return int(raised.value.code or 0)


@pytest.mark.parametrize("argv", [["--help"], ["sweep", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    """What makes help slow is what it imports: typeguard alone, a fallback of tyro, is a quarter of the 0.25 s."""
    heavy = ["jax", "numpy", "transformers", "pandas", "datasets", "rich", "typeguard"]
    program = ("import sys, bertjax.cli\ntry:\n    bertjax.cli.main(sys.argv[1:])\nfinally:\n"
               f"    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n" and "usage: bertjax" in done.stdout


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of() == 0
    out = capsys.readouterr().out
    assert all(f"• {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_flag_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(name, "--help") == 0
    lines = [line.strip("│| ") for line in capsys.readouterr().out.splitlines()]
    for line, below in zip(lines, lines[1:], strict=False):
        if re.match("--[a-z]", line) and "  " not in line:  # no help beside the flag: it stands below
            assert re.match("[A-Za-z(]", below), f"{line} has no help"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of("--version") == 0
    assert capsys.readouterr().out == f"bertjax {bertjax.__version__}\n"


@pytest.mark.parametrize(("options", "config"), [
    (cli_options.DataOptions, DataConfig), (cli_options.TrainOptions, TrainConfig),
    (cli_options.QuantizeOptions, QuantizeConfig), (cli_options.PruneOptions, PruneConfig),
    (cli_options.AugmentOptions, AugmentConfig),
    (cli_options.TeacherOptions, TeacherConfig), (cli_options.GridOptions, StudyConfig)])
def test_every_setting_has_a_flag(options: type, config: type) -> None:
    here, there = ({field.name for field in dataclasses.fields(kind)} for kind in (options, config))
    beside = {field.name for field in dataclasses.fields(cli_options.StudyOptions)} | {"name", "max_trials_per_program"}
    assert here == there - (beside if config is StudyConfig else set())
    assert beside < {field.name for field in dataclasses.fields(StudyConfig)}


def test_sweep_flags_reach_the_study() -> None:
    command = cli.parse([*SWEEP, *shlex.split(
        "--model m --tasks MRPC SST-2 --layers 2 4 --methods none QKP --sparsities 0.4 0.6 --seeds 1 2 --epochs 5 "
        "--learning-rates 1e-5 3e-5 --batch-size 16 --max-train-examples 99 --data-dir d --weight-bits 4 "
        "--activation-bits 8 --embedding-bits none --reinit-pooler False --dtype bfloat16 --prune-schedule cubic "
        "--prune-begin 0.2 --prune-end 0.5 --mask-every 3 --initial-sparsity 0.1 --distill-weights 0.7 "
        "--temperatures 3 --teacher-model t --teacher-layers 6 --teacher-learning-rate 2e-5 --teacher-epochs 4 "
        "--teacher-seed 8 --max-length 64 --max-buckets 2 --warmup-fraction 0.2 --weight-decay 0.1 --max-grad-norm 2 "
        "--copies 0 2 --augment-rate 0.2 --augment-multiword True --augment-seed 5 --budget augmented_epochs "
        "--select-on dev --select-epoch True --keep-models all --mesh trial=4,data=2 "
        "--known k.csv")])
    assert isinstance(command, Sweep) and command.known == Path("k.csv") and not command.smoke
    assert (command.run_dir, command.keep_models, command.mesh) == ("unused", "all", "trial=4,data=2")
    assert cli_study.study_of(command) == StudyConfig(
        "demo", model="m", layers=(2, 4), tasks=("mrpc", "sst2"), methods=("none", "QKP"), sparsities=(0.4, 0.6),
        learning_rates=(1e-5, 3e-5), distill_weights=(0.7,), temperatures=(3.0,), seeds=(1, 2),
        data=DataConfig(data_dir="d", max_length=64, max_train_examples=99, max_buckets=2),
        train=TrainConfig(epochs=5, batch_size=16, warmup_fraction=0.2, weight_decay=0.1, max_grad_norm=2.0,
                          dtype="bfloat16"),
        quantize=QuantizeConfig(4, 8, None), prune=PruneConfig("cubic", 0.1, 0.2, 0.5, 3),
        teacher=TeacherConfig("t", 6, 2e-5, 4, 8),
        copies=(0, 2), augment=AugmentConfig(0.2, True, 5), budget="augmented_epochs", select_on="dev",
        select_epoch=True)


def test_own_data_and_sizes_reach_the_study() -> None:
    command = cli.parse(["plan", "subsets", *shlex.split(
        "--sizes tiny mini --train-file a/t.csv --dev-file d.csv --text-columns q1 q2 --label-column y "
        "--regression")])
    assert isinstance(command, Plan)
    study = cli_study.study_of(command)
    assert (study.model, study.sizes, study.tasks, study.methods) == (None, ("tiny", "mini"), ("own-t",), METHODS)
    assert study.data == DataConfig(None, "a/t.csv", "d.csv", ("q1", "q2"), "y", True)


def test_train_is_a_study_of_one_trial() -> None:
    command = cli.parse(["train", *shlex.split(
        "--model m --run-dir r --task rte --methods KP --layers 2 --sparsity 0.5 --learning-rate 2e-5 "
        "--distill-weight 0.9 --temperature 4 --seed 7 --epochs 1")])
    assert isinstance(command, Train)
    assert cli_study.train_study(command) == StudyConfig(
        "train", model="m", layers=(2,), tasks=("rte",), methods=("KP",), sparsities=(0.5,), learning_rates=(2e-5,),
        distill_weights=(0.9,), temperatures=(4.0,), seeds=(7,), train=TrainConfig(epochs=1))


@pytest.mark.parametrize(("argv", "said"), [
    (["sweep", "nosuch", "--run-dir", "x"], "unknown experiment 'nosuch'; there are demo, "),
    ([*SWEEP, "--model", "m", "--tasks", "mrpcc"], "unknown task 'mrpcc'"),
    ([*SWEEP, "--sizes", "huge"], "unknown size 'huge'; the sizes are tiny, mini, small, medium, base, large"),
    ([*SWEEP, "--methods", "KQ"], "unknown methods 'KQ'; they are none, Q, K"),
    ([*SWEEP, "--sparsities", "1.0"], "sparsities must be in [0, 1), got 1.0"),
    ([*SWEEP, "--sparsities", "-0.1"], "sparsities must be in [0, 1), got -0.1"),
    ([*SWEEP, "--weight-bits", "0"], "weight_bits must be 2 to 8, or none for float; got 0"),
    ([*SWEEP, "--activation-bits", "33"], "activation_bits must be 2 to 8, or none for float; got 33"),
    ([*SWEEP, "--weight-bits", "none"], "weight_bits and activation_bits must both be set or both be none"),
    ([*SWEEP, "--temperatures", "0"], "temperatures must be positive, got 0.0"),
    ([*SWEEP, "--learning-rates", "1e-4", "inf"], "learning_rates must be a finite number of at most 3.4e+38, got inf"),
    ([*SWEEP, "--temperatures", "nan"], "temperatures must be a finite number of at most 3.4e+38, got nan"),
    ([*SWEEP, "--weight-decay", "inf"], "weight_decay must be a finite number of at most 3.4e+38, got inf"),
    ([*SWEEP, "--teacher-learning-rate", "inf"], "learning_rate must be a finite number of at most 3.4e+38, got inf"),
    ([*SWEEP, "--prune-end", "1"], "prune end must be below 1, got 1.0 (lower --prune-end)"),
    ([*SWEEP, "--warmup-fraction", "0.2"], "(raise --prune-begin or lower --warmup-fraction)"),
    ([*SWEEP, "--epochs", "0"], "epochs must be at least 1, got 0"),
    ([*SWEEP, "--train-file", "a.csv"], "own data needs both a train file and a dev file"),
    ([*SWEEP, "--model", "m", "--train-file", "a.csv", "--dev-file", "b.csv", "--tasks", "a", "b"],
     "own data is one task, got a, b"),
    (["train", "--model", "m", "--run-dir", "x", "--methods", "P", "--sparsity", "1"],
     "sparsities must be in [0, 1), got 1.0"),
    (["plan", "movva2022", "--sizes", "tiny", "--tasks", "rte", "--device", "cpu:8", "--compile"],
     "--compile needs a TPU slice or GPUs, such as --device v5e:2x4 or h200, got 'cpu:8': a sweep compiles for the"),
    ([*SWEEP, "--model", "m", "--mesh", "foo"], "--mesh must read like trial=4,data=2, got 'foo'"),
    (["train", "--model", "m", "--run-dir", "unused", "--mesh", "data=0"], "--mesh must read like trial=4,data=2"),
    ([*SWEEP, "--model", "m", "--checkpoint-minutes", "-1"], "--checkpoint-minutes must be at least 0, got -1"),
    ([*SWEEP, "--model", "m", "--ray-address", "auto"], "--ray-address is for --executor ray"),
    ([*SWEEP, "--model", "m", "--ray-wait", "0"], "--ray-wait is for --executor ray"),
    ([*SWEEP, "--model", "m", "--executor", "ray", "--resources-per-task", "TPU"],
     "--resources-per-task must read like TPU=4 or GPU=1,CPU=8, got 'TPU'"),
    ([*SWEEP, "--model", "m", "--executor", "ray", "--ray-wait", "-1"], "--ray-wait must be at least 0, got -1"),
    ([*SWEEP, "--model", "m", "--executor", "ray", "--process-id", "0"], "are for --executor local"),
    (["sweep", "movva2022", "--run-dir", "gs://b/r", "--smoke", "--executor", "ray"],
     "must be a folder that all nodes share; got gs://b/r"),
    (["evaluate", "m"], "evaluate needs either --task or --dev-file"),
    (["predict", "m", "a", "--second", "b", "c"], "--second must hold one text for each of the 1 first ones, got 2"),
    (["predict", "m", "a", "--file", "f"], "predict takes texts or --file, got both"),
    (["predict", "m", "--file", "no/such.txt"], "no/such.txt does not exist"),
    (["predict", "m", "a", "--text-columns", "x"], "--text-columns are those of a --file, and texts were given"),
    (["predict", "m", "--file", "f.txt", "--text-columns", "x"], "--text-columns are those of a --file of .csv, .tsv"),
    (["export", "m", "--format", "hf", "--output", "o", "--portable"],
     "--static-activations and --portable are for --format onnx, got hf"),
    (["predict", "m", "a", "--task", "rte"], "predict takes --task and --data-dir only with --glue-submission"),
    (["predict", "m", "--data-dir", "d"], "predict takes --task and --data-dir only with --glue-submission"),
    (["predict", "m", "--glue-submission", "d"], "--glue-submission needs --task"),
    (["predict", "m", "a", "--glue-submission", "d", "--task", "rte"], "leave out texts, --second, --file"),
    (["predict", "m", "--file", "f", "--glue-submission", "d", "--task", "rte"], "leave out texts, --second, --file"),
    (["predict", "m", "--text-columns", "a", "--glue-submission", "d", "--task", "rte"], "--text-columns"),
    (["predict", "m", "--glue-submission", "d", "--task", "wnli"], "unknown task 'wnli'"),
    (["predict", "m", "--glue-submission", "d", "--task", "gloss-class"], "gloss-class is not on GLUE's leaderboard"),
    (["predict", "m", "--glue-submission", "d", "--task", "rte", "--data-dir", "no/such"], "must hold RTE/test.tsv"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_one_line_and_exit_code_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_of(*argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("bertjax: ") and said in captured.err
    assert captured.err.count("\n") == 1 and captured.out == ""


def test_bad_input_is_said_before_jax_is_imported() -> None:
    program = ("import sys, bertjax.cli\ntry:\n    bertjax.cli.main(sys.argv[1:])\nfinally:\n"
               "    assert 'jax' not in sys.modules and 'transformers' not in sys.modules")
    for flags in (["--tasks", "x"], ["--sparsities", "2"], ["--run-dir", f"{__file__}/below"],
                  ["--executor", "ray", "--resources-per-task", "x"], ["--mesh", "foo"],
                  ["--checkpoint-minutes", "-1"]):
        done = subprocess.run([sys.executable, "-c", program, *SWEEP, "--model", "m", *flags], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("argv", [["swep"], [*SWEEP, "--no-such-flag", "1"], [*SWEEP, "--epochs", "many"], ["sweep"],
                                  [*SWEEP, "--keep-models", "some"]], ids=" ".join)
def test_wrong_arguments_exit_with_2(argv: list[str]) -> None:
    assert exit_of(*argv) == 2


def test_a_run_folder_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert exit_of("sweep", "demo", "--model", "m", "--run-dir", str(tmp_path / "file" / "run")) == 2
    assert "--run-dir must be a folder that can be written" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--sparsity", "--distill-weight", "--temperature", "--copies"])
def test_train_refuses_a_flag_that_its_methods_do_not_use(flag: str, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "--model", "m", "--run-dir", str(tmp_path / "new"), "--methods", "Q", flag, "1"]
    assert exit_of(*argv) == 2
    assert f"{flag} is for methods with " in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("old", [True, False])
def test_input_that_cannot_work_leaves_no_run_folder_behind(old: bool, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise InputError("no")

    backend(monkeypatch, "bertjax.report.page", write_report=None)
    backend(monkeypatch, "bertjax.sweep.run", run_study=refuse)
    folder = tmp_path / "run"
    if old:
        folder.mkdir()
    assert exit_of("sweep", "demo", "--model", "m", "--run-dir", str(folder)) == 2
    assert folder.exists() == old


def test_a_run_folder_in_use_has_an_exit_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise InUseError("in use")

    backend(monkeypatch, "bertjax.report.page", write_report=None)
    backend(monkeypatch, "bertjax.sweep.run", run_study=refuse)
    assert exit_of("sweep", "demo", "--model", "m", "--run-dir", str(tmp_path)) == 75
    assert capsys.readouterr().err == "bertjax: in use\n"


def backend(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Any) -> None:
    """Puts a module in the place of a stage, so that a test sees what the command line asks of it."""
    module = ModuleType(name)
    vars(module).update(functions)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize(("status", "code"), [("done", 0), ("diverged", 0), ("failed", 1)])
def test_sweep_runs_the_study_and_writes_the_report(status: str, code: int, monkeypatch: pytest.MonkeyPatch,
                                                    tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def run_study(*args: Any, **options: Any) -> pandas.DataFrame:
        calls.append((args, options))
        return pandas.DataFrame({"status": ["done", status]})

    backend(monkeypatch, "bertjax.sweep.run", run_study=run_study)
    backend(monkeypatch, "bertjax.report.page", write_report=lambda folder: folder / "report.html")
    assert exit_of("sweep", "demo", "--model", "m", "--run-dir", str(tmp_path / "new")) == code
    (study, folder), options = calls[0]
    assert study.model == "m" and folder.local == tmp_path / "new" and options == {
        "keep_models": "best", "mesh": None, "known": None, "checkpoint_minutes": 10.0, "tensorboard": False,
        "executor": None}
    said = capsys.readouterr()
    assert f"report:  {tmp_path / 'new' / 'report.html'}" in said.out
    assert ("1 of 2 trials failed" in said.err) == (code == 1)


@pytest.mark.parametrize("resumes", [True, False])
def test_a_model_without_room_says_what_to_do(resumes: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert say_why(InputError("model: cannot be written (No space left on device)"), resumes) == 2
    assert capsys.readouterr().err.endswith("make room, and run the same command\n") == resumes


def test_without_ray_one_line_says_how_to_get_it_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", "")  # these are set, and are to be as they were
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("bertjax.sweep.ray", "bertjax.sweep.ray_driver", "bertjax.sweep.ray_task"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert exit_of(*SWEEP, "--model", "m", "--executor", "ray") == 2
    assert capsys.readouterr().err == "bertjax: --executor ray needs Ray: pip install 'bertjax[ray]'\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "said"), [
    (errno.ENOSPC, "bertjax: results.csv cannot be written (No space left on device); what was written before stays: "
                   "make room, and run the same command\n"),
    (errno.ECONNRESET, None),
])
def test_a_full_disk_is_one_line_and_other_errors_are_not_hidden(
    number: int, said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_study(*_args: Any, **_options: Any) -> None:
        raise OSError(number, os.strerror(number), "results.csv")

    backend(monkeypatch, "bertjax.sweep.run", run_study=run_study)
    backend(monkeypatch, "bertjax.report.page", write_report=None)
    argv = ["sweep", "demo", "--model", "m", "--run-dir", str(tmp_path)]
    if said is None:
        with pytest.raises(OSError, match="reset"):
            cli.main(argv)
    else:
        assert exit_of(*argv) == 2 and capsys.readouterr().err == said


@pytest.mark.parametrize(("argv", "module", "function", "resumes"), [
    (["sweep", "demo", "--model", "m", "--run-dir"], "bertjax.sweep.run", "run_study", True),
    (["report"], "bertjax.report.page", "write_report", False)])
def test_ctrl_c_exits_with_130(argv: list[str], module: str, function: str, resumes: bool, tmp_path: Path,
                               monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    backend(monkeypatch, "bertjax.report.page", write_report=None)
    backend(monkeypatch, module, **{function: interrupt})
    assert exit_of(*argv, str(tmp_path)) == 130
    said = capsys.readouterr().err
    assert said.startswith("bertjax: interrupted") and said.count("\n") == 1
    assert ("finished trials stay, and the same command resumes" in said) == resumes


@pytest.mark.parametrize(("argv", "stdin", "expected"), [
    (["a b", "c"], "", ["a b", "c"]),
    (["a", "--second", "b"], "", [("a", "b")]),
    (["a", "b", "--second", "c", "d"], "", [("a", "c"), ("b", "d")]),
    ([], "one\ntwo, \u2028three\n", ["one", "two, \u2028three"]),
    (["--file", "-"], "a\tb\nc\td", [("a", "b"), ("c", "d")]),
])
def test_predict_reads_texts_and_pairs(argv: list[str], stdin: str, expected: list[Any],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    command = cli.parse(["predict", "m", *argv])
    assert isinstance(command, Predict) and texts_of(command) == expected


def test_predict_reads_files(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    (tmp_path / "table.csv").write_text("q,r\nx,y\n")
    for argv, expected in [(["lines.txt"], ["one", "two"]), (["table.csv", "--text-columns", "q"], ["x"]),
                           (["table.csv", "--text-columns", "q", "r"], [("x", "y")])]:
        command = cli.parse(["predict", "m", "--file", str(tmp_path / argv[0]), *argv[1:]])
        assert isinstance(command, Predict) and texts_of(command) == expected


@pytest.mark.parametrize("terminal", [False, True])
def test_predict_writes_a_table_for_people_and_json_for_programs(
        terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = SimpleNamespace(predict=lambda texts: [{"label": "food", "probabilities": {"act": 0.25, "food": 0.75}}])
    backend(monkeypatch, "bertjax.artifact.load", load=lambda name: model)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert exit_of("predict", "m", "a [bold]pear") == 0
    out = capsys.readouterr().out
    if terminal:
        assert "a [bold]pear" in out and "food 0.750  act 0.250" in out
    else:
        assert json.loads(out) == {"text": "a [bold]pear", **model.predict([])[0]}


def test_pack_and_inspect_a_model_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model_dir(tmp_path / "model")
    assert exit_of("pack", str(model), "--output", str(tmp_path / "small"), "--float-type", "float16") == 0
    num_bytes = (tmp_path / "small" / "model.bertjax").stat().st_size
    assert capsys.readouterr().out == f"written: {tmp_path / 'small'} (model.bertjax: {num_bytes:,} bytes on disk)\n"
    assert exit_of("inspect", str(tmp_path / "small"), "--png", str(tmp_path / "parts.png")) == 0
    out = capsys.readouterr().out
    assert f"{num_bytes:,}" in out and "float16" in out and "paper (A" in out
    assert (tmp_path / "parts.png").read_bytes().startswith(b"\x89PNG")
    assert exit_of("predict", str(tmp_path / "small"), "red circle") == 0
    assert "label" in json.loads(capsys.readouterr().out)
    damaged = bytearray((tmp_path / "small" / "model.bertjax").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "small" / "model.bertjax").write_bytes(damaged)
    for argv, said in ((["predict", "small", "a"], "damaged"), (["inspect", "small"], "damaged"),
                       (["inspect", "nothing"], "no such folder"), (["pack", "nothing", "--output", "new"], "folder"),
                       (["pack", "model", "--output", "small"], "must be a new or empty folder"),
                       (["inspect", "model", "--png", "no/parts.png"], "--png must lie in a folder")):
        paths = [str(tmp_path / word) if word in ("small", "nothing", "new", "model") else word for word in argv]
        assert exit_of(*paths) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("bertjax: ") and said in captured.err and captured.err.count("\n") == 1
        assert captured.out == "" and not (tmp_path / "new").exists()


def test_a_dev_file_may_lack_a_class_of_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_model_dir(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = {"0": "c", "1": "A", "2": "b"}
    (model / "config.json").write_text(json.dumps(config))
    (tmp_path / "dev.csv").write_text("text,label\n" + "red circle,a\nblue line,b\n" * 2)
    assert exit_of("predict", str(model), "red circle", "blue line") == 0
    labels = [json.loads(line)["label"].lower() for line in capsys.readouterr().out.splitlines()]
    assert exit_of("evaluate", str(model), "--dev-file", str(tmp_path / "dev.csv")) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 50 * ((labels[0] == "a") + (labels[1] == "b"))
    (tmp_path / "dev.csv").write_text("text,label\nred circle,d\n")
    assert exit_of("evaluate", str(model), "--dev-file", str(tmp_path / "dev.csv")) == 2
    assert "dev.csv line 2: label must be one of c, A, b; got 'd'" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--entropy"], ["--entropy", "--float-type", "bfloat16"], ["--quantize"]])
def test_pack_flags_reach_the_packing(flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def pack_folder(*args: Any, **options: Any) -> int:
        calls.append((args, options))
        return 12345

    backend(monkeypatch, "bertjax.artifact.packed_folder", pack_folder=pack_folder)
    assert exit_of("pack", "m", "--output", "o", *flags) == 0
    assert calls == [(("m", Path("o")), {"quantize": "--quantize" in flags, "entropy": "--entropy" in flags,
                                         "float_type": "bfloat16" if "bfloat16" in flags else "float32"})]


def test_a_reader_that_leaves_is_no_error() -> None:
    program = ("import bertjax.cli as cli\ncli.run = lambda command: [print('x' * 1000) for _ in range(1000)]\n"
               "cli.main(['report', 'r'])")
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", {"BERTJAX_CACHE": str(tmp_path), "TRANSFORMERS_VERBOSITY": "info"})
    cli.prepare_process()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "xla")
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "info"


def test_deterministic_is_a_flag_that_xla_knows_beside_the_users_own() -> None:
    program = ("import os, sys, bertjax.cli as cli\n"
               "cli.run = lambda command: print(len(__import__('jax').devices()), os.environ['XLA_FLAGS'])\n"
               "cli.main(sys.argv[1:])")
    mine = "--xla_force_host_platform_device_count=3"
    done = subprocess.run([sys.executable, "-c", program, *SWEEP, "--deterministic"], capture_output=True, text=True,
                          check=False, env={**os.environ, "XLA_FLAGS": mine, "JAX_PLATFORMS": "cpu"})
    assert done.stdout == f"3 {mine} --xla_gpu_deterministic_ops=true\n", done.stderr


def test_lines_go_to_standard_error_as_it_is_at_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cli.prepare_process()
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    logging.getLogger("bertjax.test").info("one")
    first.close()
    monkeypatch.setattr(sys, "stderr", second)
    logging.getLogger("bertjax.test").info("two")
    assert second.getvalue() == "two\n"
    with View(live=False) as view:
        view.started("three", 1.0)
    assert second.getvalue() == "two\nthree: started\n"


def test_public_names_are_lazy_and_complete() -> None:
    program = ("import sys, bertjax\nassert not {'jax', 'numpy', 'bertjax.config'} & set(sys.modules)\n"
               "assert bertjax.StudyConfig and bertjax.InputError and bertjax.__version__\n"
               "import bertjax.sweep.experiments\nassert callable(bertjax.sweep)\n"
               "assert callable(bertjax.sweep.experiments.load_study)\n"
               "assert set(dir(bertjax)) >= {'load', 'sweep', 'StudyConfig'}\n"
               "try:\n    bertjax.nothing\nexcept AttributeError:\n    print('ok')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "ok\n", done.stderr


def test_sweep_from_python_runs_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    backend(monkeypatch, "bertjax.sweep.run", run_study=lambda *args, **options: calls.append((args, options)))
    study = StudyConfig("s", model="m")
    bertjax.sweep(study)
    bertjax.sweep(study, "here", keep_models="none")
    assert calls == [((study, "runs/s"), {}), ((study, "here"), {"keep_models": "none"})]
