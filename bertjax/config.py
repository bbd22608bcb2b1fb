"""Settings as frozen dataclasses whose checks run when they are made; `study.py` puts them together.

Only the standard library is imported here, so that `bertjax --help` starts at once. A value that cannot work raises
`InputError` with one line: what must hold, what was got. The command line turns that line into exit code 2.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

SIZES = ("tiny", "mini", "small", "medium", "base", "large")
"""The six BERT sizes of arXiv:2208.09684."""

Dtype = Literal["float32", "bfloat16", "bfloat16_products"]
"""Compute types."""

LARGEST = 3.4e38
"""Numbers are trained with in 32 bits: what is above is infinite there."""

SPARSITY_STEPS = 10_000
"""Sparsities are whole multiples of 1/10,000, so that `floor(sparsity * size)` is exact integer arithmetic."""

TRY_AGAIN = 75
"""Exit code for what the same command may overcome later: EX_TEMPFAIL of sysexits.h."""


class InputError(ValueError):
    """The user's input cannot work. The message is one line: what must hold, what was got, what to do."""

    exit_code = 2
    """Of a command that ends with it."""


class InUseError(InputError):
    """Another process has what this one needs: the same command may work later."""

    exit_code = TRY_AGAIN


def require(holds: bool, message: str) -> None:
    """Raises `InputError(message)` unless `holds`."""
    if not holds:
        raise InputError(message)


def named_numbers(text: str, names: Sequence[str], must: str) -> dict[str, int]:
    """The numbers of a flag such as `trial=4,data=2` by name, each at least 1.

    Args:
        text: What a user wrote.
        names: Those that there are; each may stand once.
        must: How an error begins, with an example.

    Raises:
        InputError: It reads otherwise.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        match = re.fullmatch(rf"({'|'.join(names)})=([1-9]\d*)", part.strip())
        if match is None or match[1] in found:
            raise InputError(f"{must}, got {text!r}")
        found[match[1]] = int(match[2])
    return found


def check_finite(config: Any) -> None:
    """Raises unless every number in the fields of a config is one: NaN passes no comparison, and infinity many."""
    for field in dataclasses.fields(config):
        values = getattr(config, field.name)
        for value in values if isinstance(values, tuple) else (values,):
            require(not isinstance(value, float) or (math.isfinite(value) and abs(value) <= LARGEST),
                    f"{field.name} must be a finite number of at most {LARGEST:g}, got {value}")


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
        check_finite(self)
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
        check_finite(self)
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
    dtype: Dtype = "float32"
    """Compute type; parameters, softmax and optimizer state stay float32. `bfloat16_products` computes in float32 but
    the products of linear layers, see `bertjax.model.products`: the fastest on a CPU with AMX."""

    def __post_init__(self) -> None:
        check_finite(self)
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

    rate: float = 0.6
    """Probability that a content word which has a safe synonym is replaced; about one in twenty has one."""
    multiword: bool = False
    """Also replace words by phrases."""
    seed: int = 0
    """Draws the words and synonyms; the same for all trials, which read one table."""

    def __post_init__(self) -> None:
        check_finite(self)
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
        check_finite(self)
        require(self.learning_rate is None or self.learning_rate > 0,
                f"the teacher's learning_rate must be positive, got {self.learning_rate}")
        require(self.epochs is None or self.epochs >= 1, f"the teacher's epochs must be at least 1, got {self.epochs}")
        require(0 <= self.seed < 2**32, f"the teacher's seed must be in [0, 2^32), got {self.seed}")
        require(self.model is not None or not self.fine_tuned,
                "a fine-tuned teacher needs its model's name or folder; got none (give --teacher-model)")
        require(self.num_hidden_layers is None or not self.fine_tuned,
                f"a fine-tuned teacher teaches with all its layers; got num_hidden_layers {self.num_hidden_layers}")


def check_sparsity(name: str, value: float) -> None:
    """Raises unless `value` is a fraction of zeros in [0, 1) and a whole multiple of 1/`SPARSITY_STEPS`."""
    require(0 <= value < 1, f"{name} must be in [0, 1), got {value}")
    require(abs(value * SPARSITY_STEPS - round(value * SPARSITY_STEPS)) < 1e-6,
            f"{name} must be a multiple of {1 / SPARSITY_STEPS}, got {value}")


def to_json(config: Any) -> str:
    """A config as JSON with sorted keys: equal configs give equal text."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True, indent=1)
