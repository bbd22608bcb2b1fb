"""The settings of a study as flags: groups of options that commands share. Fields carry the names of `config.py` and
`study.py`.

None means "not given": the experiment's value stays. `none` sets None where the config allows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, Union

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg


def optional(metavar: str) -> object:
    """A flag without a printed default: what is not given keeps the experiment's value."""
    return arg(metavar=metavar, help_behavior_hint="")


# `Union` with None first, not `str | None`: tyro checks that one by typeguard, whose import takes 0.05 s of the 0.2 s
# that `--help` needs.
Text = Annotated[Union[None, str], optional("TEXT")]
Whole = Annotated[Union[None, int], optional("N")]
Number = Annotated[Union[None, float], optional("X")]
Texts = Annotated[Union[None, tuple[str, ...]], optional("TEXT ...")]
Wholes = Annotated[Union[None, tuple[int, ...]], optional("N ...")]
Numbers = Annotated[Union[None, tuple[float, ...]], optional("X ...")]
Bits = Annotated[Union[None, int, Literal["none"]], optional("N|none")]
Choice = Annotated[Union[None, bool], optional("True|False")]
Budget = Annotated[Union[None, Literal["equal_steps", "augmented_epochs"]],
                   optional("equal_steps|augmented_epochs")]
SelectOn = Annotated[Union[None, Literal["train", "dev"]], optional("train|dev")]
Dtype = Annotated[Union[None, Literal["float32", "bfloat16", "bfloat16_products"]],
                  optional("float32|bfloat16|bfloat16_products")]
Schedule = Annotated[Union[None, Literal["linear", "cubic"]], optional("linear|cubic")]


@dataclass(frozen=True)
class GridOptions:
    """The study's grid: every combination is a trial."""

    model: Text = None
    """Hub name or folder of the pretrained model, or `minilm`; with --sizes it may hold {size}."""
    sizes: Texts = None
    """tiny, mini, small, medium, base, large."""
    layers: Wholes = None
    """Depths: students of the first N layers of the model."""
    tasks: Texts = None
    """cola sst2 mrpc stsb qqp mnli qnli rte of GLUE; gloss-class gloss-sense gloss-similarity, bundled."""
    methods: Texts = None
    """Subsets of compressions: none Q K P QK QP KP QKP; A QA AP QAP take augmentation with hard labels for K."""
    copies: Wholes = None
    """Augmented copies of each row, with synonyms, that trials with K or A read; 0 is K without augmentation."""
    sparsities: Numbers = None
    """Final fraction of zeros of trials with P, in (0, 1)."""
    learning_rates: Numbers = None
    """Peaks, reached at the end of the warm-up."""
    distill_weights: Numbers = None
    """Share of the distillation loss in trials with K, in (0, 1]."""
    temperatures: Numbers = None
    """Softening of the teacher's logits in trials with K, above 0."""
    seeds: Wholes = None
    """Each draws its own head, dropout and row order."""


@dataclass(frozen=True)
class DataOptions:
    """Where the text comes from."""

    data_dir: Text = None
    """Folder of tasks in GLUE's TSV layout or the hub's Parquet layout."""
    train_file: Text = None
    """Your own training file: .csv, .tsv, .jsonl or .parquet."""
    dev_file: Text = None
    """Your own evaluation file."""
    text_columns: Texts = None
    """One or two text columns of your own files."""
    label_column: Text = None
    """Label column of your own files."""
    regression: FlagCreatePairsOff[Annotated[bool, arg(help_behavior_hint="")]] = False
    """Your own labels are numbers to predict, not classes."""
    max_length: Whole = None
    """Longest sequence in tokens."""
    max_train_examples: Whole = None
    """Use only this many training rows."""
    max_buckets: Whole = None
    """Most sequence lengths that are compiled (1 to 16)."""


@dataclass(frozen=True)
class TrainOptions:
    """Fine-tuning."""

    epochs: Whole = None
    """Passes over the training rows."""
    batch_size: Whole = None
    """Rows per step and trial."""
    warmup_fraction: Number = None
    """Part of all steps in which the learning rate rises."""
    weight_decay: Number = None
    """Not on biases and LayerNorm."""
    max_grad_norm: Number = None
    """Clip a trial's gradients to this norm."""
    reinit_pooler: Choice = None
    """Draw the pooler anew, for checkpoints whose pooler was never trained."""
    reinit_head: Choice = None
    """Draw the task head anew, for checkpoints that were fine-tuned on another task."""
    dtype: Dtype = None
    """Compute type; `bfloat16_products`: float32 but for what linear layers multiply, fast on CPUs with AMX."""


@dataclass(frozen=True)
class QuantizeOptions:
    """Q: quantization-aware training."""

    weight_bits: Bits = None
    """Weight matrices: 2 to 8, or none for float."""
    activation_bits: Bits = None
    """Inputs of the linear layers: 2 to 8, or none."""
    embedding_bits: Bits = None
    """Embedding tables: 2 to 8, or none."""


@dataclass(frozen=True)
class PruneOptions:
    """P: magnitude pruning."""

    schedule: Annotated[Schedule, arg(name="prune-schedule")] = None
    """How the sparsity rises."""
    initial_sparsity: Number = None
    """Fraction of zeros at the start of the rise."""
    begin: Annotated[Number, arg(name="prune-begin")] = None
    """Start of the rise, as a fraction of all steps."""
    end: Annotated[Number, arg(name="prune-end")] = None
    """End of the rise, as a fraction of all steps."""
    mask_every: Whole = None
    """Steps between two mask updates."""


@dataclass(frozen=True)
class AugmentOptions:
    """Copies of training rows with words replaced by synonyms."""

    rate: Annotated[Number, arg(name="augment-rate")] = None
    """Probability that a content word is drawn for replacement."""
    multiword: Annotated[Choice, arg(name="augment-multiword")] = None
    """Also replace words by phrases."""
    seed: Annotated[Whole, arg(name="augment-seed")] = None
    """Draws the words and synonyms."""


@dataclass(frozen=True)
class TeacherOptions:
    """The model that K learns from."""

    model: Annotated[Text, arg(name="teacher-model")] = None
    """Hub name or folder, {task} in it is the task; by default the study's model with all its layers, or BERT-large."""
    fine_tuned: Annotated[Choice, arg(name="teacher-fine-tuned")] = None
    """The teacher was fine-tuned elsewhere: use it as it is."""
    num_hidden_layers: Annotated[Whole, arg(name="teacher-layers")] = None
    """Keep only its first N layers."""
    learning_rate: Annotated[Number, arg(name="teacher-learning-rate")] = None
    """By default the first learning rate of the study."""
    epochs: Annotated[Whole, arg(name="teacher-epochs")] = None
    """By default the study's epochs."""
    seed: Annotated[Whole, arg(name="teacher-seed")] = None
    """Of its own fine-tuning."""


@dataclass(frozen=True)
class ProcessOptions:
    """One of several processes that share a mesh; on a Cloud TPU pod they find each other without these."""

    coordinator: Annotated[Text, optional("HOST:PORT")] = None
    """A free port of process 0, where the other processes reach it."""
    num_processes: Whole = None
    """How many processes are started, each with this command and its own devices."""
    process_id: Whole = None
    """Which of them this one is, from 0."""


@dataclass(frozen=True)
class StudyOptions:
    """The settings of a study apart from its grid."""

    data: OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    train: OmitArgPrefixes[TrainOptions] = field(default_factory=TrainOptions)
    quantize: OmitArgPrefixes[QuantizeOptions] = field(default_factory=QuantizeOptions)
    prune: OmitArgPrefixes[PruneOptions] = field(default_factory=PruneOptions)
    augment: OmitArgPrefixes[AugmentOptions] = field(default_factory=AugmentOptions)
    budget: Budget = None
    """Copies take the place of the original in some epochs, or make every epoch longer."""
    select_on: SelectOn = None
    """Pick the best of several learning rates on a slice held out of the training rows, or on dev as the papers do."""
    select_epoch: Choice = None
    """Take each trial's best epoch instead of its last, picked in the same place."""
    teacher: OmitArgPrefixes[TeacherOptions] = field(default_factory=TeacherOptions)
