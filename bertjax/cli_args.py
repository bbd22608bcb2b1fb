"""The arguments of every command, as dataclasses that tyro turns into flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Union

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

from bertjax.cli_options import (
    DataOptions,
    Dtype,
    GridOptions,
    Number,
    ProcessOptions,
    QuantizeOptions,
    StudyOptions,
    Text,
    Texts,
    Whole,
    Wholes,
    optional,
)

Mesh = Annotated[
    Union[None, str], arg(metavar="trial=N,data=N", help_behavior_hint="(default: chosen by the planner)")]
KeepModels = Literal["all", "best", "none"]
Minutes = Annotated[float, arg(metavar="MINUTES")]
Switch = FlagCreatePairsOff[Annotated[bool, arg(help_behavior_hint="")]]


@dataclass(frozen=True, kw_only=True)
class Sweep(StudyOptions):
    """Train every trial of an experiment, in as few compiled programs as possible, and write results and a report.

    The same command again does only what is missing.
    """

    experiment: Positional[str]
    """A name (in ./experiments or installed) or the path of a .py file."""
    run_dir: str
    """Where results, models and the report go: a folder, or a place in an object store (gs://bucket/name)."""
    grid: OmitArgPrefixes[GridOptions] = field(default_factory=GridOptions)
    keep_models: KeepModels = "best"
    """Which trained models stay on disk: of every trial, of the best trial of each task and method, of none."""
    known: Annotated[Union[None, Path], optional("FILE")] = None
    """The results.csv of another run: trials that are finished there are not trained again."""
    smoke: Switch = False
    """Rehearse the study: the same config on made data and random weights; the two largest sizes are lowered only."""
    mesh: Mesh = None
    """Devices by axis."""
    checkpoint_minutes: Minutes = 10.0
    """Between two checkpoints, from which the same command goes on; 0: only when a signal ends it."""
    tensorboard: Switch = False
    """Write losses and scores for `tensorboard --logdir RUN_DIR/tensorboard`, too."""
    deterministic: Switch = False
    """On a GPU only operations that give the same bits every time, some slower; elsewhere they do anyway."""
    executor: Literal["local", "ray"] = "local"
    """Where programs are trained: here, one after another, or as tasks of a Ray cluster (needs the extra ray)."""
    ray_address: Annotated[Text, optional("auto|local|HOST:PORT")] = None
    """Of a Ray cluster with this machine; local is this machine alone; by default auto if one runs here, else local."""
    resources_per_task: Annotated[Text, optional("TPU=N,GPU=N,CPU=N")] = None
    """What a program takes of a node; by default the TPU of a node, or a GPU, or the CPUs of the smallest node."""
    ray_wait: Annotated[Number, optional("MINUTES")] = None
    """How long to wait for a node that has them, in a cluster that starts nodes for tasks that wait; by default not."""
    processes: OmitArgPrefixes[ProcessOptions] = field(default_factory=ProcessOptions)


@dataclass(frozen=True, kw_only=True)
class Plan(StudyOptions):
    """Print what a sweep would do: trials, groups, compiled programs, steps, padding, memory, FLOPs and hours."""

    experiment: Positional[str]
    """A name (in ./experiments or installed) or the path of a .py file."""
    grid: OmitArgPrefixes[GridOptions] = field(default_factory=GridOptions)
    mesh: Mesh = None
    """Devices by axis."""
    device: str = "cpu"
    """What it is estimated for: cpu:CORES, a100:N, h100:N, h200:N, v5e:AxB, v6e:AxB, v4:AxBxC or v5p:AxBxC."""
    compile: bool = False
    """For a TPU slice or GPUs: compile the heaviest program of each model, without such a device, and say its bytes
    (minutes; needs the extra tpu, or JAX's plugin for CUDA)."""


@dataclass(frozen=True)
class Status:
    """Say how far a study is: done, failed and left, who works on it, and how long it will take; JSON in a pipe."""

    run_dir: Positional[str]
    """Of a sweep: a folder, or a place in an object store (gs://bucket/name)."""


@dataclass(frozen=True, kw_only=True)
class Train(StudyOptions):
    """Train one trial: a sweep of one."""

    model: str
    """Hub name or folder of the pretrained model, or `minilm`."""
    run_dir: str
    """Where the result and the model go: a folder, or a place in an object store (gs://bucket/name)."""
    task: Annotated[Text, arg(help_behavior_hint="(default: gloss-class, or your --train-file)")] = None
    """A GLUE task or a bundled sample."""
    methods: str = "none"
    """none, or letters in the order QKP; A may stand in K's place."""
    layers: Whole = None
    """Keep only the first N layers."""
    sparsity: Number = None
    """Final fraction of zeros with P, in (0, 1)."""
    learning_rate: Number = None
    """The peak, reached at the end of the warm-up."""
    distill_weight: Number = None
    """Share of the distillation loss with K, in (0, 1]."""
    temperature: Number = None
    """Softening of the teacher's logits with K, above 0."""
    copies: Whole = None
    """Augmented copies of each row with K or A."""
    seed: Whole = None
    """Draws the head, dropout and row order."""
    mesh: Mesh = None
    """Devices by axis."""
    checkpoint_minutes: Minutes = 10.0
    """Between two checkpoints, from which the same command goes on; 0: only when a signal ends it."""
    tensorboard: Switch = False
    """Write losses and scores for `tensorboard --logdir RUN_DIR/tensorboard`, too."""
    deterministic: Switch = False
    """On a GPU only operations that give the same bits every time, some slower; elsewhere they do anyway."""
    processes: OmitArgPrefixes[ProcessOptions] = field(default_factory=ProcessOptions)


@dataclass(frozen=True)
class Evaluate:
    """Score a trained model on a task's dev rows."""

    model: Positional[str]
    """Hub name, folder, a trial's folder, or a packed model."""
    task: Text = None
    """A GLUE task or a bundled sample; not with --dev-file."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)


@dataclass(frozen=True)
class Predict:
    """Label texts: a table on a terminal, else one JSON object per line. Or write files for GLUE's leaderboard."""

    model: Positional[str]
    """Hub name, folder, a trial's folder, or a packed model."""
    texts: Positional[tuple[str, ...]] = ()
    """The texts; without any, lines of --file or of standard input (a tab separates the two texts of a pair)."""
    second: tuple[str, ...] = ()
    """The second texts of pairs, as many as texts."""
    file: Text = None
    """One text per line (- is standard input), or a .csv, .tsv, .jsonl or .parquet file."""
    text_columns: tuple[str, ...] = ("text",)
    """One or two columns of such a file."""
    glue_submission: Annotated[Text, arg(metavar="DIR")] = None
    """Instead: predict the test rows of --task and write them there as the leaderboard takes them."""
    task: Text = None
    """With --glue-submission: cola sst2 mrpc stsb qqp mnli qnli rte."""
    data_dir: Text = None
    """With --glue-submission: folder of GLUE in its own layout or the hub's; by default the hub."""


@dataclass(frozen=True)
class Pack:
    """Write a trained model as small as it claims to be: one file with its tokenizer and a model card."""

    model: Positional[str]
    """Hub name, folder, a trial's folder, or a packed model."""
    output: Path
    """A new or empty folder."""
    quantize: Switch = False
    """Of a float model: 8-bit weights, activations and embeddings as Q has them, without its training."""
    entropy: Switch = False
    """Entropy-code codes and masks where it saves; needs the entropy extra, also to read it."""
    float_type: Literal["float32", "float16", "bfloat16"] = "float32"
    """What numbers that are not quantized are rounded to; only float32 keeps the model's outputs."""


@dataclass(frozen=True)
class Inspect:
    """Show what a model's bytes are: by layer, by part, and by each paper's convention of size."""

    artifact: Positional[str]
    """A packed model, a trial's folder, or a model's folder or hub name, which is packed in memory."""
    png: Annotated[Union[None, Path], optional("FILE")] = None
    """Also draw the bytes of each part there."""


@dataclass(frozen=True)
class Report:
    """Write report.html and its plots again from the results of a run."""

    run_dir: Positional[Path]


@dataclass(frozen=True)
class Pick:
    """Name the model to take under a limit of size, time or lost score: the best one, or under --max-drop the smallest.

    With its score and interval, the better one that is just out of reach, and the command that exports it.
    """

    run_dir: Positional[Path]
    """Of a sweep."""
    max_mb: Annotated[Number, optional("MB")] = None
    """Decimal megabytes of the packed file."""
    max_ms: Annotated[Number, optional("MS")] = None
    """Median milliseconds of a batch, as `bertjax bench inference` measured them."""
    max_drop: Annotated[Number, optional("POINTS")] = None
    """Points of score below the best uncompressed model."""
    task: Text = None
    """Of a run directory with several."""
    runtime: Literal["onnxruntime", "jax"] = "onnxruntime"
    """What the milliseconds are of."""
    batch_size: int = 1
    """Rows of a batch that takes those milliseconds."""


@dataclass(frozen=True)
class Export:
    """Write a trained model for transformers, ONNX Runtime or StableHLO, and compare its logits with the model's."""

    model: Positional[str]
    """Hub name, folder, or a trial's folder."""
    format: Literal["hf", "onnx", "stablehlo"]
    """What reads it: transformers, ONNX Runtime, or anything that runs StableHLO."""
    output: Path
    """New or empty folder to write."""
    task: Text = None
    """Compare on this task's dev rows, and state the score; without it and --dev-file, compare on made-up rows."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    static_activations: Switch = False
    """onnx, of a model with Q: fixed scales for activations, measured on training rows; another rounding."""
    portable: Switch = False
    """onnx, of a model with Q: weights in uint8, exact on every processor; else as this machine's needs them."""


@dataclass(frozen=True)
class Convert:
    """Turn an old pickled checkpoint (pytorch_model.bin) into safetensors; needs the torch extra."""

    src: Positional[str]
    """Hub name, or a folder with pytorch_model.bin."""
    dst: Positional[Path]
    """Folder to write."""


@dataclass(frozen=True)
class BenchInference:
    """Latency, throughput and score of trained models in JAX, ONNX Runtime and PyTorch, in turns on the same batches.

    Against the float model in ONNX Runtime, its quantize_dynamic, and with --ptq other quantizations without training.
    """

    models: Positional[tuple[str, ...]]
    """Run directories of a sweep (all models that were kept), trials' folders, or folders of models."""
    task: Text = None
    """Whose dev rows are read; of a run directory with one task that one."""
    layers: Wholes = None
    """Of a run directory only the models of these depths."""
    seeds: Wholes = None
    """Of a run directory only the trials with these seeds."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    threads: int = 1
    """CPUs that this process keeps to, and threads of ONNX Runtime and PyTorch."""
    rounds: int = 5
    """Rounds that count; one more warms up."""
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    """Rows of a batch."""
    batches: int = 40
    """At most so many batches of each size, evenly spaced among the dev rows in the order of their lengths."""
    ptq: Switch = False
    """Also quantize every float model without training: int8 static, int16, weight-only int8 and int4, as Q does."""
    output: Annotated[Union[None, Path], optional("FILE")] = None
    """JSON with all numbers, the machine and the versions; for a run directory latency.csv in it is written anyway."""


@dataclass(frozen=True, kw_only=True)
class BenchTrain:
    """Throughput of a sweep's training: trial-examples, tokens and FLOPs per second, and their share of the peak.

    Passes over the training rows by the sweep's own compiled program; the teacher's forward pass is timed apart, and
    evaluation is not. A table on a terminal, else JSON.
    """

    model: str
    """Hub name or folder of the pretrained model, or `minilm`."""
    task: Annotated[Text, arg(help_behavior_hint="(default: gloss-class, or your --train-file)")] = None
    """A GLUE task or a bundled sample."""
    layers: Whole = None
    """Train only the first N layers; the teacher of K keeps all."""
    methods: Annotated[Texts, arg(help_behavior_hint="(default: the eight subsets)")] = None
    """Subsets of compressions: none Q K P QK QP KP QKP."""
    seeds: Annotated[Wholes, arg(help_behavior_hint="(default: 0)")] = None
    """Each is a trial of every method."""
    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    batch_size: Whole = None
    """Rows per step and trial."""
    dtype: Dtype = None
    """Compute type, see `bertjax sweep --help`."""
    epochs: Whole = None
    """Of the sweep that is measured: the more, the more batch lengths pay for their compilation."""
    quantize: OmitArgPrefixes[QuantizeOptions] = field(default_factory=QuantizeOptions)
    mesh: Mesh = None
    """Devices by axis."""
    rounds: int = 3
    """Passes over the training rows that count; a step of each batch length, before them, compiles and warms up."""
    profile: Annotated[Union[None, Path], optional("FOLDER")] = None
    """Also trace a step of each batch length there, for Perfetto, TensorBoard and XProf."""
    output: Annotated[Union[None, Path], optional("FILE")] = None
    """JSON with all numbers, the machine and the versions."""


BENCH: dict[str, type] = {"inference": BenchInference, "train": BenchTrain}
"""What `bertjax bench` measures, by name."""


@dataclass(frozen=True)
class Bench:
    """Measure speed: `bertjax bench inference --help`, `bertjax bench train --help`."""


COMMANDS: dict[str, type] = {
    "sweep": Sweep, "plan": Plan, "status": Status, "train": Train, "evaluate": Evaluate, "predict": Predict,
    "report": Report, "pick": Pick, "pack": Pack, "inspect": Inspect, "export": Export, "bench": Bench,
    "convert": Convert,
}
"""The commands by name, in the order of `bertjax --help`."""
