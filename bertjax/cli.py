"""The command line: the one file that knows every stage. Stages are imported when a command needs them.

Exit codes: 0, 1 if trials failed, 2 for input that cannot work (one line says why), 75 for what may pass (another
process works in the run directory, or one of the same mesh is gone), 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import json
import logging
import operator
import os
import sys
from collections.abc import Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Annotated, Any, TextIO

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
from bertjax.cli_study import checked_study, data_values, rehearsed, settled, study_of, taken_away
from bertjax.config import InputError, require
from bertjax.heap import restart_with_tuned_heap
from bertjax.study import StudyConfig

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


DETERMINISTIC = "xla_gpu_deterministic_ops"
"""XLA's option: on GPUs it sums in one order, and does not choose kernels by how fast they are just now."""


def prepare_process(deterministic: bool = False) -> None:
    """Settings that must stand before JAX and transformers are imported; what the user has set stays.

    Args:
        deterministic: See `DETERMINISTIC`.
    """
    if deterministic:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{DETERMINISTIC}=true".lstrip()
    cache = Path(os.environ.get("BERTJAX_CACHE", "~/.cache/bertjax")).expanduser()
    # Compiled programs stay on disk, so that a second run of a study starts training at once.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "xla"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints pages for each try; what ends them is raised
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
            if command.compile:  # for devices that need not be here: JAX is to look for none
                os.environ.setdefault("JAX_PLATFORMS", "cpu")
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
            num_bytes = pack_folder(command.model, command.output, quantize=command.quantize,
                                    float_type=command.float_type, entropy=command.entropy)
            print(f"written: {command.output} (model.bertjax: {num_bytes:,} bytes on disk)")
        case Inspect():
            from bertjax.report.inspection import show_model
            show_model(command.artifact, command.png)


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
    require(command.format == "onnx" or not (command.static_activations or command.portable),
            f"--static-activations and --portable are for --format onnx, got {command.format}")
    from bertjax.artifact.exports.export import export
    from bertjax.artifact.load import load
    from bertjax.data.sources import load_rows
    classes = load(command.model).classes if command.data.dev_file else ()
    data = load_rows(command.task, values, classes) if named else None
    made = export(command.model, command.format, command.output, data, command.static_activations,
                  unsigned_weights=True if command.portable else None)
    print(f"written: {made.folder} (all its files: {made.num_bytes:,} bytes on disk)\nparity:  {made.parity}")
