"""What is trained: a study, which is a grid, and the trials that it is made of.

As in `config.py`, of which their settings are, only the standard library is imported.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bertjax.config import (
    SIZES,
    AugmentConfig,
    DataConfig,
    PruneConfig,
    QuantizeConfig,
    TeacherConfig,
    TrainConfig,
    check_finite,
    check_sparsity,
    require,
)

METHODS = ("none", "Q", "K", "P", "QK", "QP", "KP", "QKP")
"""The eight subsets of {quantization, knowledge distillation, magnitude pruning}, letters always in the order QKP."""

AUGMENTED = ("A", "QA", "AP", "QAP")
"""Subsets with A in K's place: augmented text with its hard labels, to tell what distillation adds to augmentation."""


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
        check_finite(self)
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
        self._check_pruning()
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

    def _check_pruning(self) -> None:
        if "P" not in "".join(self.methods):
            return
        require(self.prune.begin >= self.train.warmup_fraction,
                "with P, pruning must start after the warm-up: prune begin must be at least warmup_fraction, got "
                f"{self.prune.begin} and {self.train.warmup_fraction} (raise --prune-begin or lower --warmup-fraction)")
        require(self.prune.end < 1, "with P, the mask must be frozen before the end: prune end must be below 1, got "
                                    f"{self.prune.end} (lower --prune-end)")

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
    """Augmented copies of each training row that it reads; 0 without K and A."""
    augment: AugmentConfig | None = None
    """None without copies, or room for them."""
    budget: Literal["equal_steps", "augmented_epochs"] = "equal_steps"
    """`equal_steps` without copies."""
    hold_out: bool = False
    """Train without the slice that learning rates or epochs are picked on."""
    select_epoch: Literal["train", "dev"] | None = None
    """Where the best epoch is picked; None takes the last."""
    fine_tuned: bool = False
    """A teacher that is not trained here."""
    room_for_copies: int = 0
    """Augmented copies that a batch is made long enough for, read or not: the most that any trial of the study reads,
    so that all of them read the same rows in every step. 0 where each text is a row of its own."""

    @property
    def trial_id(self) -> str:
        """Twelve hexadecimal digits: the SHA-256 of the resolved config, wherever the data lie on this machine.

        What is off in a field of `ADDED` is left out, so that trials of former versions keep their ids.
        """
        values = dataclasses.asdict(self)
        values["data"] |= {"data_dir": None} | {
            name: Path(file).name for name in ("train_file", "dev_file") if (file := values["data"][name])}
        for path, off in ADDED.items():
            *parts, name = path.split(".")
            place: Any = values
            for part in parts:
                place = place[part]
            if place[name] == off:
                del place[name]
        return hashlib.sha256(json.dumps(values, sort_keys=True, indent=1).encode()).hexdigest()[:12]

    @property
    def table_copies(self) -> int:
        """Augmented copies that lie beside the training rows."""
        return max(self.copies, self.room_for_copies)

    @property
    def texts_per_row(self) -> int:
        """How many times as many rows an epoch has as the training set: 1 unless copies count as rows of their own."""
        return 1 + self.copies if self.budget == "augmented_epochs" else 1


ADDED: dict[str, Any] = {"copies": 0, "augment": None, "budget": "equal_steps", "hold_out": False,
                         "select_epoch": None, "fine_tuned": False, "train.reinit_head": False, "room_for_copies": 0}
"""Fields of a trial that came later, by their path, with their value when off."""
