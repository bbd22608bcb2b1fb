"""What `bertjax bench` does once its arguments are parsed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertjax.artifact.machine import cpu_count, limit_cpus
from bertjax.cli_args import BenchInference, BenchTrain
from bertjax.cli_outputs import check_file, check_writable
from bertjax.config import require
from bertjax.study import StudyConfig
from bertjax.sweep.experiments import override

if TYPE_CHECKING:
    from bertjax.data.sources import TaskData
    from bertjax.sweep.kept import KeptModel


@dataclass(frozen=True)
class Target:
    """A model to measure."""

    source: str
    """What `bertjax.artifact.load.load` takes."""
    run_dir: Path | None = None
    """The run directory that it was found in, if it was given by that."""
    kept: KeptModel | None = None


def bench_inference(command: BenchInference, values: Mapping[str, Any]) -> None:
    """Measures, prints a table, or JSON where no one looks, and writes what the command asks for.

    Args:
        values: The data flags that are given.
    """
    require(bool(command.models), "bench inference needs run directories or models")
    require(1 <= command.threads <= cpu_count(),
            f"--threads must be 1 to {cpu_count()}, the CPUs of this process; got {command.threads}")
    limit_cpus(command.threads)  # before anything imports JAX
    targets = find_targets(command.models, command.task, command.layers, command.seeds)
    for folder in {target.run_dir for target in targets.values() if target.run_dir}:
        check_file(folder / "latency.csv")
    if command.output:
        check_file(command.output)
    from bertjax.artifact.inference.bench import BenchSettings, bench_inference
    from bertjax.artifact.load import load
    models = {name: load(target.source) for name, target in targets.items()}
    data = data_of(command, values, [target.kept for target in targets.values() if target.kept],
                   next(iter(models.values())).classes)
    has_train = not (command.data.dev_file and not command.data.train_file)  # scales are measured on training rows
    settings = BenchSettings(command.threads, command.rounds, command.batch_sizes, command.batches, command.ptq,
                             static=has_train)
    result = bench_inference(models, data, settings)
    if command.output:
        from bertjax.files import write_text
        write_text(command.output, json.dumps(result, indent=1) + "\n")
    written = keep(result, targets)
    if not sys.stdout.isatty():
        print(json.dumps(result))
        return
    from rich.console import Console

    from bertjax.report.latency_table import latency_tables
    Console().print(latency_tables(result))
    for path in [*written, *([command.output] if command.output else [])]:
        print(f"written: {path}")


def find_targets(
    paths: Sequence[str], task: str | None, layers: Sequence[int] | None = None, seeds: Sequence[int] | None = None
) -> dict[str, Target]:
    """The models that the paths stand for, by names that differ: of a run directory those that it kept.

    Args:
        paths: Of run directories and models.
        task: Of a run directory's models; None: the only one.
        layers: Depths of a run directory's models; None: any.
        seeds: Of a run directory's trials; None: any.

    Raises:
        InputError: A path is given twice, a run directory holds no such model or several tasks; or layers or seeds are
            given, but no run directory.
    """
    from bertjax.sweep.kept import is_run_dir, kept_models
    last = [Path(path).name for path in paths]
    runs = [path for path in paths if is_run_dir(Path(path))]
    require(bool(runs) or not (layers or seeds), "--layers and --seeds choose among a run directory's models, got none")
    found: dict[str, Target] = {}
    for path, name in zip(paths, last, strict=True):
        if path in runs:
            made = {kept.name: Target(str(kept.folder), Path(path), kept)
                    for kept in kept_models(Path(path), task, layers, seeds)}
        else:
            made = {name if name and last.count(name) == 1 else path: Target(path)}
        twice = sorted(made.keys() & found.keys())
        require(not twice, f"every model is measured once; {', '.join(twice)} is given twice")
        found |= made
    return found


def data_of(
    command: BenchInference, values: Mapping[str, Any], kept: Sequence[KeptModel], classes: Sequence[str] = ()
) -> TaskData:
    """The rows that the flags name, else those that the run directories' models were trained for.

    Args:
        classes: Of a dev file, see `bertjax.artifact.load.Model.classes`.
    """
    from bertjax.data.sources import load_rows
    dev_file = command.data.dev_file
    require(not (command.task and dev_file), "bench inference takes --task or --dev-file, got both")
    if dev_file or not kept:
        require(bool(command.task or dev_file), "bench inference of models needs either --task or --dev-file")
        require(not (command.ptq and dev_file and not command.data.train_file),
                "--ptq measures the ranges of activations on training rows: give --train-file too")
        return load_rows(command.task, values, classes)
    tasks = list(dict.fromkeys(model.task for model in kept))
    require(len(tasks) == 1, f"all models must be of one task, got {', '.join(tasks)}")
    return load_rows(tasks[0], {**asdict(kept[0].data), **values})


def keep(result: Mapping[str, Any], targets: Mapping[str, Target]) -> list[Path]:
    """Writes the rows of run directories' trials into their latency.csv, and from there into their results.csv."""
    from bertjax.sweep.latency_file import write_latency
    from bertjax.sweep.ledger import Ledger
    from bertjax.sweep.run_dir import RunDir
    by_folder: dict[Path, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        target = targets.get(row["artifact"])  # none: the float values of a quantized model, which are no trial's
        if target is not None and target.run_dir is not None and target.kept is not None:
            trial = {"trial_id": target.kept.trial_id, "task": target.kept.task, "methods": target.kept.methods}
            by_folder.setdefault(target.run_dir, []).append(
                {**trial, "threads": result["threads"], "cpu": result["cpu"], **row})
    written = [write_latency(folder, rows) for folder, rows in by_folder.items()]
    for folder in by_folder:
        Ledger(RunDir(folder)).write_tables()
    return written


def bench_study(command: BenchTrain, values: Mapping[str, Any]) -> StudyConfig:
    """The study whose training is measured.

    Args:
        values: The data flags that are given.
    """
    methods = command.methods or ()
    require("A" not in "".join(methods), f"bench train reads no augmented copies, so no methods with A; got "
                                     f"{', '.join(methods)}")

    def one(value: Any) -> tuple[Any] | None:
        return None if value is None else (value,)

    study = StudyConfig("bench", model=command.model)
    train = {name: getattr(command, name) for name in ("batch_size", "dtype", "epochs")}
    return override(study, tasks=one(command.task), layers=one(command.layers), methods=command.methods,
                    seeds=command.seeds, data=values, train=train, quantize=asdict(command.quantize))


def bench_train(command: BenchTrain, study: StudyConfig) -> None:
    """Measures, prints a table, or JSON where no one looks, and writes what the command asks for."""
    require(command.rounds >= 1, f"--rounds must be at least 1, got {command.rounds}")
    if command.output:
        check_file(command.output)
    if command.profile:
        check_writable(command.profile, "--profile")
    from bertjax.sweep.throughput import bench_training
    result = bench_training(study, command.rounds, command.mesh, command.profile)
    if command.output:
        from bertjax.files import write_text
        write_text(command.output, json.dumps(result, indent=1) + "\n")
    if not sys.stdout.isatty():
        print(json.dumps(result))
        return
    from rich.console import Console

    from bertjax.report.throughput_table import throughput_table
    Console().print(throughput_table(result))
    if command.output:
        print(f"written: {command.output}")
