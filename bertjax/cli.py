"""The command line: the one file that knows every stage. Stages are imported when a command needs them.

Exit codes: 0, 1 if trials failed, 2 for input that cannot work (one line says why), 75 if another process of the same
mesh is gone, 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import json
import logging
import operator
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import tyro

import bertjax
from bertjax.cli_args import (
    BENCH,
    COMMANDS,
    BenchInference,
    BenchTrain,
    Convert,
    Evaluate,
    Export,
    Inspect,
    Pack,
    Pick,
    Plan,
    Predict,
    Report,
    Status,
    Sweep,
    Train,
)
from bertjax.cli_end import one_of_several, say_why
from bertjax.cli_executor import executor_of, prepare_executor
from bertjax.cli_outputs import check_writable
from bertjax.config import InputError, require
from bertjax.files import is_remote
from bertjax.heap import restart_with_tuned_heap
from bertjax.study import StudyConfig
from bertjax.sweep.experiments import load_study, override

if TYPE_CHECKING:
    from bertjax.cli_options import DataOptions, GridOptions, StudyOptions

ABOUT = f"bertjax {bertjax.__version__}: every subset of quantization (Q), distillation (K) and pruning (P) of a BERT."

Command = (Sweep | Plan | Train | Evaluate | Predict | Report | Pick | Pack | Inspect | Export | BenchInference |
           BenchTrain | Convert)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command and leaves the process with its exit code."""
    own_process = argv is None
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv == ["--version"]:
        print(f"bertjax {bertjax.__version__}")
        sys.exit(0)
    command: Command | None = None
    try:
        command = parse(argv)
        if own_process and isinstance(command, Sweep | Train | Evaluate | Predict | BenchInference | BenchTrain):
            restart_with_tuned_heap()
        prepare_process(getattr(command, "deterministic", False))
        run(command)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, KeyboardInterrupt, OSError) as error:
        if (code := say_why(error, isinstance(command, Sweep | Train))) is None:
            raise
        sys.exit(code)
    sys.exit(0)


def parse(argv: Sequence[str]) -> Command:
    """The command that `argv` spells; leaves the process after help (0) and after arguments that are wrong (2)."""
    config = (tyro.conf.PositionalMetavarFromFieldName,)
    if argv and argv[0] == "bench":
        kinds: Any = reduce(operator.or_, [Annotated[form, tyro.conf.subcommand(name)] for name, form in BENCH.items()])
        return tyro.cli(kinds, prog="bertjax bench", description=COMMANDS["bench"].__doc__,
                        args=argv[1:] or ["--help"], config=config)
    if argv and argv[0] in COMMANDS:  # building one parser instead of seven saves 0.05 s
        return tyro.cli(COMMANDS[argv[0]], prog=f"bertjax {argv[0]}", args=argv[1:], config=config)
    forms = [Annotated[form, tyro.conf.subcommand(name)] for name, form in COMMANDS.items()]
    commands: Any = reduce(operator.or_, forms)
    return tyro.cli(commands, prog="bertjax", description=ABOUT, args=argv or ["--help"], config=config)


class StderrHandler(logging.StreamHandler):
    """Writes to what standard error is at the time of a line: a live view replaces it, so that lines stand above it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # pyrefly: ignore[bad-override]
        """Standard error now."""
        return sys.stderr


def prepare_process(deterministic: bool = False) -> None:
    """Settings that must stand before JAX and transformers are imported; what the user has set stays.

    Args:
        deterministic: XLA for GPUs sums in one order, and does not choose kernels by how fast they are just now.
    """
    if deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".lstrip()
    cache = Path(os.environ.get("BERTJAX_CACHE", "~/.cache/bertjax")).expanduser()
    # Compiled programs stay on disk, so that a second run of a study starts training at once.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "xla"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)
    logger = logging.getLogger("bertjax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        handler = StderrHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)


def run(command: Command) -> None:
    """Runs a parsed command."""
    match command:
        case Sweep():
            prepare_executor(command)
            with one_of_several(command.processes, partial(checked_study, command)) as (study, new), \
                 taken_away(command.run_dir, new), executor_of(command) as executor:
                run_sweep(rehearsed(command, study), command.run_dir, keep_models=command.keep_models,
                          mesh=command.mesh, known=command.known, checkpoint_minutes=command.checkpoint_minutes,
                          tensorboard=command.tensorboard, executor=executor)
        case Train():
            with one_of_several(command.processes, partial(checked_study, command)) as (study, new), \
                 taken_away(command.run_dir, new):
                run_sweep(study, command.run_dir, keep_models="all", mesh=command.mesh,
                          checkpoint_minutes=command.checkpoint_minutes, tensorboard=command.tensorboard)
        case Plan():
            from bertjax.sweep.compiled_plan import compile_largest
            from bertjax.sweep.forecast import describe_plan
            compiler = compile_largest if command.compile else None
            print(describe_plan(study_of(command), command.mesh, command.device, compiler))
        case Status():
            from bertjax.cli_status import show_status
            show_status(command.run_dir)
        case Evaluate():
            evaluate(command)
        case Predict():
            from bertjax.cli_predict import predict
            predict(command)
        case Report():
            from bertjax.report.page import write_report
            print(f"report: {write_report(command.run_dir)}")
        case Pick():
            from bertjax.cli_pick import pick_model
            pick_model(command)
        case Export():
            export(command)
        case BenchInference():
            from bertjax.cli_bench import bench_inference
            bench_inference(command, data_values(command.data))
        case BenchTrain():
            from bertjax.cli_bench import bench_study, bench_train
            bench_train(command, settled(bench_study(command, data_values(command.data))))
        case Convert():
            from bertjax.model.torch_convert import convert_bin
            convert_bin(command.src, command.dst)
            print(f"written: {command.dst}")
        case Pack():
            from bertjax.artifact.packed_folder import pack_folder
            num_bytes = pack_folder(command.model, command.output, float_type=command.float_type,
                                    entropy=command.entropy)
            print(f"written: {command.output} (model.bertjax: {num_bytes:,} bytes on disk)")
        case Inspect():
            from bertjax.report.inspection import show_model
            show_model(command.artifact, command.png)


def study_of(command: Sweep | Plan) -> StudyConfig:
    """The experiment's study with the command's overrides."""
    return settled(override(load_study(command.experiment), **overrides(command.grid, command)))


def checked_study(command: Sweep | Train) -> tuple[StudyConfig, bool]:
    """The study to run, and whether its run directory is new, which is made. Bad flags are known without JAX, which
    takes long to import."""
    study = study_of(command) if isinstance(command, Sweep) else train_study(command)
    if is_remote(command.run_dir):
        return study, False
    new = not os.path.exists(command.run_dir)
    check_writable(Path(command.run_dir))
    return study, new


def rehearsed(command: Sweep, study: StudyConfig) -> StudyConfig:
    """The study, or with `--smoke` its rehearsal, whose largest programs are lowered here."""
    if not command.smoke:
        return study
    from bertjax.sweep.inputs import cache_dir
    from bertjax.sweep.smoke import lower_largest, smoke_study
    folder = cache_dir() if is_remote(command.run_dir) else Path(command.run_dir)
    check_writable(folder)
    from bertjax.train.processes import in_turns
    with in_turns():  # into one folder, or into one of each machine
        made = smoke_study(study, folder / "smoke")
    lower_largest(study, command.mesh if command.executor == "local" else None)  # tasks have other devices
    return made


TRAIN_NEEDS = {"sparsity": "P", "distill_weight": "K", "temperature": "K", "copies": "KA"}
"""Flags of `train` that mean nothing without one of these compressions."""


def train_study(command: Train) -> StudyConfig:
    """A study of one trial."""
    for name, letters in TRAIN_NEEDS.items():
        require(getattr(command, name) is None or not set(letters).isdisjoint(command.methods),
                f"--{name.replace('_', '-')} is for methods with {' or '.join(letters)}; got --methods "
                f"{command.methods}")

    def one(value: Any) -> tuple[Any] | None:
        return None if value is None else (value,)

    study = StudyConfig("train", model=command.model, methods=(command.methods,))
    return settled(override(
        study, tasks=one(command.task), layers=one(command.layers), sparsities=one(command.sparsity),
        learning_rates=one(command.learning_rate), distill_weights=one(command.distill_weight),
        temperatures=one(command.temperature), seeds=one(command.seed), copies=one(command.copies),
        **overrides(None, command)))


def settled(study: StudyConfig) -> StudyConfig:
    """The study with names in their one spelling, so that `SST-2` and `sst2` are the same trial."""
    from bertjax.data.tasks import find_task
    if study.data.train_file is None:
        study = replace(study, tasks=tuple(find_task(task).name for task in study.tasks))
    else:
        require(len(study.tasks) == 1, f"own data is one task, got {', '.join(study.tasks)}")
    return study


def overrides(grid: GridOptions | None, options: StudyOptions) -> dict[str, Any]:
    """Flags as the arguments of `override`."""
    parts = {"data": data_values(options.data)}
    parts |= {name: asdict(getattr(options, name)) for name in ("train", "quantize", "prune", "augment", "teacher")}
    return (asdict(grid) if grid else {}) | parts | {
        name: getattr(options, name) for name in ("budget", "select_on", "select_epoch")}


def data_values(options: DataOptions) -> dict[str, Any]:
    """The data flags that are given; a switch that is off is not given."""
    return {name: value for name, value in asdict(options).items() if value is not None and value is not False}


@contextmanager
def taken_away(run_dir: str, new: bool) -> Iterator[None]:
    """Within, bad input takes a new run directory away again, as long as nothing is in it."""
    try:
        yield
    except InputError:
        if new:
            with suppress(OSError):  # something is in it
                os.rmdir(run_dir)
        raise


def run_sweep(study: StudyConfig, run_dir: str, **options: Any) -> None:
    """Trains what is missing in `run_dir` and writes the report.

    Args:
        options: Of `bertjax.sweep.run.run_study`.
    """
    from bertjax.report.page import write_report
    from bertjax.sweep.run import run_study
    from bertjax.sweep.run_dir import RunDir
    from bertjax.train.processes import is_first
    home = RunDir.at(run_dir)
    results = run_study(study, home, **options)
    if is_first():
        page = write_report(home.local).relative_to(home.local)
        home.push()
        print(f"results: {run_dir}/results.csv\nreport:  {run_dir}/{page}")
    failed = int((results["status"] == "failed").sum())
    if failed and is_first():
        print(f"bertjax: {failed} of {len(results)} trials failed (the log above says why); "
              "the same command tries them again", file=sys.stderr)
    if failed:
        sys.exit(1)


def evaluate(command: Evaluate) -> None:
    """Prints the metrics of a model on a task's dev rows, in points."""
    require(bool(command.task) != bool(command.data.dev_file), "evaluate needs either --task or --dev-file")
    from bertjax.artifact.load import load
    from bertjax.data.sources import load_rows
    model = load(command.model)
    data = load_rows(command.task, data_values(command.data), model.classes)
    metrics = model.evaluate(data)
    if sys.stdout.isatty():
        print("\n".join(f"{name:<22}{value:7.2f}" for name, value in metrics.items()))
    else:
        print(json.dumps(metrics, default=float))


def export(command: Export) -> None:
    """Writes a model in another format and says where, how large it is, and how far its logits are from the model's."""
    require(not (command.task and command.data.dev_file), "export takes --task or --dev-file, got both")
    values = data_values(command.data)
    named = bool(command.task or command.data.dev_file)
    require(named or not values, "export reads data only for a task: give --task or --dev-file too")
    require(not command.static_activations or named and not (command.data.dev_file and not command.data.train_file),
            "--static-activations measures on training rows: give --task, or --dev-file and --train-file")
    from bertjax.artifact.exports.export import export
    from bertjax.artifact.load import load
    from bertjax.data.sources import load_rows
    classes = load(command.model).classes if command.data.dev_file else ()
    data = load_rows(command.task, values, classes) if named else None
    made = export(command.model, command.format, command.output, data, command.static_activations,
                  unsigned_weights=True if command.portable else None)
    print(f"written: {made.folder} (all its files: {made.num_bytes:,} bytes on disk)\nparity:  {made.parity}")
