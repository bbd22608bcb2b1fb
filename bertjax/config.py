"""Every setting of bertjax as a frozen dataclass whose checks run when it is made.

Only the standard library is imported here, so that `bertjax --help` starts at once. A value that cannot work raises
`InputError` with one line: what must hold, what was got. The command line turns that line into exit code 2.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

METHODS = ("none", "Q", "K", "P", "QK", "QP", "KP", "QKP")
"""The eight subsets of {quantization, knowledge distillation, magnitude pruning}, letters always in the order QKP."""

AUGMENTED = ("A", "QA", "AP", "QAP")
"""Subsets with A in K's place: augmented text with its hard labels, to tell what distillation adds to augmentation."""

SIZES = ("tiny", "mini", "small", "medium", "base", "large")
"""The six BERT sizes of arXiv:2208.09684."""

SPARSITY_STEPS = 10_000
"""Sparsities are whole multiples of 1/10,000, so that `floor(sparsity * size)` is exact integer arithmetic."""


class InputError(ValueError):
    """The user's input cannot work. The message is one line: what must hold, what was got, what to do."""


def require(holds: bool, message: str) -> None:
    """Raises `InputError(message)` unless `holds`."""
    if not holds:
        raise InputError(message)


@dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT, in the names of Hugging Face's `config.json`."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    """Dropout before the task head; None takes `hidden_dropout_prob`, as Hugging Face does."""
    initializer_range: float = 0.02
    pad_token_id: int = 0
    num_labels: int = 2
    """Outputs of the task head: the number of classes, or 1 for regression."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                     "max_position_embeddings", "type_vocab_size", "num_labels"):
            require(getattr(self, name) >= 1, f"model config: {name} must be at least 1, got {getattr(self, name)}")
        require(self.hidden_size % self.num_attention_heads == 0,
                f"model config: hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and "
                f"{self.num_attention_heads}")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            require(0 <= getattr(self, name) < 1, f"model config: {name} must be in [0, 1), got {getattr(self, name)}")

    @property
    def head_dropout_prob(self) -> float:
        """Dropout probability before the task head."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout


@dataclass(frozen=True)
class QuantizeConfig:
    """Q: symmetric quantization-aware training with int8 storage (arXiv:2208.09684, section 3). None means float."""

    weight_bits: int | None = 8
    """Bits of the encoder's weight matrices, one scale per output channel (2 to 8)."""
    activation_bits: int | None = 8
    """Bits of the inputs of the encoder's linear layers, one scale per token (2 to 8)."""
    embedding_bits: int | None = 8
    """Bits of the three embedding tables, one scale per row (2 to 8)."""

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits", "embedding_bits"):
            bits = getattr(self, name)
            require(bits is None or 2 <= bits <= 8, f"{name} must be 2 to 8, or none for float; got {bits}")
        require((self.weight_bits is None) == (self.activation_bits is None),
                "weight_bits and activation_bits must both be set or both be none (an integer product needs both); "
                f"got {self.weight_bits} and {self.activation_bits}")


FLOAT = QuantizeConfig(None, None, None)
"""No quantization."""


@dataclass(frozen=True)
class PruneConfig:
    """P: how the sparsity of the encoder's weight matrices rises to its target (arXiv:2208.09684, section 3)."""

    schedule: Literal["linear", "cubic"] = "linear"
    """Shape of the rise between `begin` and `end`."""
    initial_sparsity: float = 0.0
    """Fraction of zeros at `begin`."""
    begin: float = 0.1
    """Start of the rise, as a fraction of all steps (the end of the learning-rate warm-up)."""
    end: float = 0.75
    """End of the rise, as a fraction of all steps; the mask is frozen afterwards."""
    mask_every: int = 8
    """Optimizer steps between two mask updates."""

    def __post_init__(self) -> None:
        check_sparsity("initial_sparsity", self.initial_sparsity)
        require(0 <= self.begin <= self.end <= 1,
                f"pruning must hold 0 <= begin <= end <= 1 (fractions of all steps), got {self.begin} and {self.end}")
        require(self.mask_every >= 1, f"mask_every must be at least 1, got {self.mask_every}")


@dataclass(frozen=True)
class TrainConfig:
    """Fine-tuning: AdamW with warm-up, linear decay and gradient clipping."""

    epochs: int = 3
    """Passes over the training rows."""
    batch_size: int = 32
    """Rows per optimizer step and trial."""
    warmup_fraction: float = 0.1
    """Fraction of all steps in which the learning rate rises linearly from 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay; not on biases and LayerNorm."""
    max_grad_norm: float = 1.0
    """Global gradient norm above which a trial's gradients are scaled down."""
    reinit_pooler: bool = False
    """Draw the pooler anew from N(0, initializer_range): for checkpoints whose pooler was never trained."""
    reinit_head: bool = False
    """Draw the task head anew: for checkpoints that were fine-tuned on another task."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute type; parameters, softmax and optimizer state stay float32."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"epochs must be at least 1, got {self.epochs}")
        require(self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}")
        require(0 <= self.warmup_fraction < 1, f"warmup_fraction must be in [0, 1), got {self.warmup_fraction}")
        require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")
        require(self.max_grad_norm > 0, f"max_grad_norm must be positive, got {self.max_grad_norm}")


@dataclass(frozen=True)
class DataConfig:
    """Where the text comes from. With nothing set, the tasks are read from the hub, or from the bundled samples."""

    data_dir: str | None = None
    """Folder of tasks in GLUE's original TSV layout (`SST-2/train.tsv`) or the hub's Parquet layout."""
    train_file: str | None = None
    """Your own training file: .csv, .tsv, .jsonl or .parquet with named columns."""
    dev_file: str | None = None
    """Your own evaluation file, of the same columns."""
    text_columns: tuple[str, ...] = ("text",)
    """Names of the one or two text columns of your own files."""
    label_column: str = "label"
    """Name of the label column of your own files."""
    regression: bool = False
    """Your own labels are numbers to predict, not classes."""
    max_length: int = 128
    """Longest sequence in tokens, special tokens included; longer texts are truncated."""
    max_train_examples: int | None = None
    """Use only this many training rows, drawn once by a fixed seed; None uses all."""
    max_buckets: int = 16
    """Most sequence lengths that are compiled (1 to 16); a short training takes fewer."""

    def __post_init__(self) -> None:
        require((self.train_file is None) == (self.dev_file is None),
                "own data needs both a train file and a dev file; "
                f"got train_file={self.train_file} and dev_file={self.dev_file}")
        require(1 <= len(self.text_columns) <= 2, f"text_columns must name one or two columns, got {self.text_columns}")
        require(self.max_length >= 8, f"max_length must be at least 8, got {self.max_length}")
        require(self.max_train_examples is None or self.max_train_examples >= 1,
                f"max_train_examples must be at least 1, got {self.max_train_examples}")
        require(1 <= self.max_buckets <= 16, f"max_buckets must be 1 to 16, got {self.max_buckets}")


@dataclass(frozen=True)
class AugmentConfig:
    """Copies of training rows with words replaced by synonyms (arXiv:2208.09684, section 3)."""

    rate: float = 0.3
    """Probability that a content word is drawn for replacement; about half of those drawn have a synonym."""
    multiword: bool = False
    """Also replace words by phrases."""
    seed: int = 0
    """Draws the words and synonyms; the same for all trials, which read one table."""

    def __post_init__(self) -> None:
        require(0 <= self.rate <= 1, f"the augmentation rate must be in [0, 1], got {self.rate}")
        require(0 <= self.seed < 2**32, f"the augmentation seed must be in [0, 2^32), got {self.seed}")


@dataclass(frozen=True)
class TeacherConfig:
    """The model that K learns from: fine-tuned once per task by the same program."""

    model: str | None = None
    """Hub name or folder, in which `{task}` stands for the task; None takes the study's `model`, with sizes the large
    one of it or of the hub."""
    num_hidden_layers: int | None = None
    """Keep only the first layers; None keeps all."""
    learning_rate: float | None = None
    """None takes the study's first learning rate."""
    epochs: int | None = None
    """None takes the study's epochs."""
    seed: int = 0
    fine_tuned: bool = False
    """`model` was fine-tuned on the task elsewhere: it teaches as it is."""

    def __post_init__(self) -> None:
        require(self.model is not None or not self.fine_tuned,
                "a fine-tuned teacher needs its model's name or folder; got none (give --teacher-model)")
        require(self.num_hidden_layers is None or not self.fine_tuned,
                f"a fine-tuned teacher teaches with all its layers; got num_hidden_layers {self.num_hidden_layers}")


@dataclass(frozen=True)
class StudyConfig:
    """A study: the grid of tasks × students × methods × sparsities × learning rates × temperatures × seeds."""

    name: str
    model: str | None = None
    """Hub name or folder of the pretrained student; `minilm` is the installed MiniLM. With `sizes` it may hold
    `{size}`, and None takes the hub's miniatures."""
    sizes: tuple[str, ...] = ()
    """BERT sizes by name: tiny, mini, small, medium, base, large."""
    layers: tuple[int, ...] = ()
    """Depths: each makes a student of the first N layers of `model`; empty keeps all layers."""
    tasks: tuple[str, ...] = ("gloss-class",)
    methods: tuple[str, ...] = METHODS
    """Subsets of compressions, letters in the order QKP, or `none`; A may stand in K's place."""
    copies: tuple[int, ...] = (0,)
    """Augmented copies of each training row that the trials with K or A read, the original not counted."""
    sparsities: tuple[float, ...] = (0.6,)
    """Final fraction of zeros in every encoder weight matrix of the trials with P."""
    learning_rates: tuple[float, ...] = (1e-4,)
    distill_weights: tuple[float, ...] = (0.5,)
    """Share of the distillation loss in the trials with K, in (0, 1]."""
    temperatures: tuple[float, ...] = (2.0,)
    seeds: tuple[int, ...] = (0,)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    prune: PruneConfig = field(default_factory=PruneConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    budget: Literal["equal_steps", "augmented_epochs"] = "equal_steps"
    """What copies cost: nothing, as each epoch reads one of a row's texts; or an epoch is all of them."""
    select_on: Literal["train", "dev"] = "train"
    """Where the best of several learning rates (and epochs) is picked: on a slice held out of the training rows, or on
    the dev rows that are then reported too, as the papers do."""
    select_epoch: bool = False
    """Take each trial's best epoch instead of its last."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    max_trials_per_program: int = 32
    """Trials stacked in one program at most; more are split into several."""

    def __post_init__(self) -> None:
        require(bool(self.name) and "/" not in self.name, f"a study's name must be a plain word, got {self.name!r}")
        require(bool(self.model or self.sizes), "a study needs a model (hub name or folder) or sizes; got neither")
        require(not self.sizes or self.model is None or "{size}" in self.model,
                f"with sizes, the model's name must hold {{size}}, got {self.model}")
        for name in ("sizes", "layers"):
            require(len(set(getattr(self, name))) == len(getattr(self, name)),
                    f"{name} must not repeat a value, got {getattr(self, name)}")
        for name in ("tasks", "methods", "copies", "sparsities", "learning_rates", "distill_weights", "temperatures",
                     "seeds"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} must not be empty")
            require(len(set(values)) == len(values), f"{name} must not repeat a value, got {values}")
        for size in self.sizes:
            require(size in SIZES, f"unknown size {size!r}; the sizes are {', '.join(SIZES)}")
        for method in self.methods:
            known = (*METHODS, *AUGMENTED)
            require(method in known, f"unknown methods {method!r}; they are {', '.join(known)}")
        self._check_copies()
        require(self.select_on in ("train", "dev"), f"select_on must be train or dev, got {self.select_on!r}")
        for layers in self.layers:
            require(layers >= 1, f"layers must be at least 1, got {layers}")
        for sparsity in self.sparsities:
            check_sparsity("sparsities", sparsity)
            require(sparsity > 0, "sparsities must be above 0: a trial without pruning is one whose methods lack P")
            require(self.prune.initial_sparsity <= sparsity,
                    "initial_sparsity must not be above a final sparsity, "
                    f"got {self.prune.initial_sparsity} and {sparsity}")
        for rate in self.learning_rates:
            require(rate > 0, f"learning_rates must be positive, got {rate}")
        for weight in self.distill_weights:
            require(0 < weight <= 1, f"distill_weights must be in (0, 1], got {weight}")
        for temperature in self.temperatures:
            require(temperature > 0, f"temperatures must be positive, got {temperature}")
        for seed in self.seeds:
            require(0 <= seed < 2**32, f"seeds must be in [0, 2^32), got {seed}")
        require(self.max_trials_per_program >= 1,
                f"max_trials_per_program must be at least 1, got {self.max_trials_per_program}")
        if "Q" in "".join(self.methods):
            require(self.quantize.weight_bits is not None,
                    "methods with Q need weight_bits and activation_bits of 2 to 8; got none")

    @property
    def holds_out(self) -> bool:
        """Whether a slice of the training rows is kept for picking learning rates or epochs."""
        return self.select_on == "train" and (len(self.learning_rates) > 1 or self.select_epoch)

    def _check_copies(self) -> None:
        for copies in self.copies:
            require(copies >= 0, f"copies must not be negative, got {copies}")
        require(self.budget in ("equal_steps", "augmented_epochs"),
                f"budget must be equal_steps or augmented_epochs, got {self.budget!r}")
        require(self.budget != "equal_steps" or max(self.copies) <= self.train.epochs,
                "with the budget equal_steps each epoch reads one text of a row, so copies must be at most the "
                f"{self.train.epochs} epochs; got {max(self.copies)} (or take --budget augmented_epochs)")
        require(max(self.copies) > 0 or "A" not in "".join(self.methods),
                "methods with A need augmented copies; got none (give --copies)")


@dataclass(frozen=True)
class TrialConfig:
    """One compressed model to train, every setting resolved: what `trial_id` is a hash of."""

    task: str
    model: str
    num_hidden_layers: int | None
    """None keeps every layer of `model`."""
    methods: str
    sparsity: float
    """Final sparsity; 0 without P."""
    quantize: QuantizeConfig
    """All None without Q."""
    distill_weight: float
    """0 without K."""
    temperature: float
    """1 without K."""
    teacher: str | None
    """`trial_id` of the teacher's own trial; None without K."""
    seed: int
    learning_rate: float
    data: DataConfig
    train: TrainConfig
    prune: PruneConfig
    role: Literal["student", "teacher"] = "student"
    copies: int = 0
    """Augmented copies of each training row; 0 without K and A."""
    augment: AugmentConfig | None = None
    """None without copies."""
    budget: Literal["equal_steps", "augmented_epochs"] = "equal_steps"
    """`equal_steps` without copies."""
    hold_out: bool = False
    """Train without the slice that learning rates or epochs are picked on."""
    select_epoch: Literal["train", "dev"] | None = None
    """Where the best epoch is picked; None takes the last."""
    fine_tuned: bool = False
    """A teacher that is not trained here."""

    @property
    def trial_id(self) -> str:
        """Twelve hexadecimal digits: the SHA-256 of the resolved config, wherever `data_dir` lies on this machine.

        What is off in a field of `ADDED` is left out, so that trials of former versions keep their ids.
        """
        values = dataclasses.asdict(self)
        values["data"]["data_dir"] = None
        for path, off in ADDED.items():
            *parts, name = path.split(".")
            place: Any = values
            for part in parts:
                place = place[part]
            if place[name] == off:
                del place[name]
        return hashlib.sha256(json.dumps(values, sort_keys=True, indent=1).encode()).hexdigest()[:12]

    @property
    def texts_per_row(self) -> int:
        """How many times as many rows an epoch has as the training set: 1 unless copies count as rows of their own."""
        return 1 + self.copies if self.budget == "augmented_epochs" else 1


ADDED: dict[str, Any] = {"copies": 0, "augment": None, "budget": "equal_steps", "hold_out": False,
                         "select_epoch": None, "fine_tuned": False, "train.reinit_head": False}
"""Fields of a trial that came later, by their path, with their value when off."""


def check_sparsity(name: str, value: float) -> None:
    """Raises unless `value` is a fraction of zeros in [0, 1) and a whole multiple of 1/`SPARSITY_STEPS`."""
    require(0 <= value < 1, f"{name} must be in [0, 1), got {value}")
    require(abs(value * SPARSITY_STEPS - round(value * SPARSITY_STEPS)) < 1e-6,
            f"{name} must be a multiple of {1 / SPARSITY_STEPS}, got {value}")


def to_json(config: Any) -> str:
    """A config as JSON with sorted keys: equal configs give equal text."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True, indent=1)
