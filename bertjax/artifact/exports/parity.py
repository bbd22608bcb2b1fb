"""Whether an exported model computes what the model does: both run on the same rows, and their logits are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from bertjax.artifact.load import Model
from bertjax.config import BertConfig, InputError
from bertjax.data.sources import TaskData
from bertjax.metrics import glue_score, score_predictions

EXACT = 1e-4
"""Largest difference of a logit where both sides compute in float."""
MEDIAN = 0.01
"""Largest median difference of a logit where activations are quantized: a last bit may move one over a rounding
boundary, and its logits then jump; most do not move at all."""
DISAGREEING = 200
"""Of so many rows one may get another class where activations are quantized; in any case one row may."""
LOST_POINTS = 1.0
"""Points that an export may score less which rounds activations otherwise than training did."""
ROWS = 8
"""Rows of each batch that is made up."""
LENGTHS = (4, 20)
"""Tokens of the made-up batches' longest rows, beside the model's longest."""

Ids = Int[np.ndarray, "batch seq"]
Run = Callable[[Ids, Ids, Ids], Float[np.ndarray, "batch labels"]]
"""Logits of a batch: `input_ids`, `attention_mask` (1 where there is a token) and `token_type_ids`."""


@dataclass(frozen=True)
class Computed(Model):
    """A model whose logits something else computes: an export of it."""

    run: Run

    def _compute(
        self, ids: Int[np.ndarray, "batch seq"], mask: Bool[np.ndarray, "batch seq"],
        types: Int[np.ndarray, "batch seq"],
    ) -> Float[np.ndarray, "batch labels"]:
        return self.run(ids, mask.astype(np.int32), types)


def computed_by(model: Model, run: Run) -> Computed:
    """`model`, computed by `run`."""
    return Computed(**{field.name: getattr(model, field.name) for field in dataclasses.fields(Model)}, run=run)


@dataclass(frozen=True)
class Parity:
    """How far an export is from the model it was made of."""

    rows: int
    max_difference: float
    """Of a logit."""
    median_difference: float
    """Of a logit."""
    disagreeing: int
    """Rows with another class; 0 for regression."""
    scores: tuple[float, float] | None
    """In points on the dev rows, of the model and of the export; None where no data were given."""

    def __str__(self) -> str:
        text = (f"{self.rows} rows: logits differ by {self.median_difference:.1g} in the median and "
                f"{self.max_difference:.1g} at most, {self.disagreeing} rows get another class")
        return text if self.scores is None else f"{text}; score {self.scores[0]:.2f}, exported {self.scores[1]:.2f}"


def check_parity(reference: Model, exported: Model, data: TaskData | None) -> Parity:
    """Compares an export with the model, see `compare`.

    Raises:
        InputError: The logits are not those of the model: see `EXACT`, and where `reference` quantizes activations
            `MEDIAN` and `DISAGREEING`.
    """
    made = compare(reference, exported, data)
    if reference.quantize.activation_bits is None:
        holds, must = made.max_difference <= EXACT, f"at most {EXACT} from the model's"
    else:
        holds = made.median_difference <= MEDIAN and made.disagreeing <= max(1, made.rows // DISAGREEING)
        must = f"in the median at most {MEDIAN} from the model's, with another class for 1 row in {DISAGREEING}"
    if not holds:  # also where something is NaN
        raise InputError(f"the exported model's logits must be {must}; got {made}: nothing was kept, please report it")
    return made


def check_score(model: Model, exported: Model, data: TaskData) -> Parity:
    """Compares an export that quantizes otherwise with the model: its score must be as good, but for `LOST_POINTS`.

    Raises:
        InputError: It is not.
    """
    made = compare(model, exported, data)
    assert made.scores is not None
    if not made.scores[1] >= made.scores[0] - LOST_POINTS:  # also where it is NaN
        raise InputError(f"the exported model must score at most {LOST_POINTS:g} points less than the model; got "
                         f"{made}: nothing was kept, export it without static activations")
    return made


def compare(reference: Model, exported: Model, data: TaskData | None) -> Parity:
    """How far two models are from each other on the dev rows of `data`, or else on made-up rows of several lengths."""
    with jax.default_matmul_precision("highest"):
        by_split = [_logits(model, data) for model in (reference, exported)]
    ours, theirs = map(np.concatenate, by_split)
    scores = None if data is None else (_score(data, by_split[0][0]), _score(data, by_split[1][0]))
    difference = np.abs(ours - theirs)
    disagreeing = 0 if reference.regression else int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum())
    return Parity(len(ours), float(difference.max()), float(np.median(difference)), disagreeing, scores)


def _logits(model: Model, data: TaskData | None) -> list[Float[np.ndarray, "row labels"]]:
    """For each dev split or made-up batch."""
    if data is None:
        return [model.logits(*batch) for batch in made_up_batches(model.config, model.max_length)]
    return [model.task_logits(data.task, examples) for examples in data.dev.values()]


def _score(data: TaskData, logits: Float[np.ndarray, "row labels"]) -> float:
    """In points, on the first dev split."""
    labels = next(iter(data.dev.values())).labels
    return glue_score(data.task, score_predictions(data.task, logits, labels))


def made_up_batches(config: BertConfig, max_length: int, rows: int = ROWS) -> list[tuple[Ids, Ids, Ids]]:
    """Batches of rows of any tokens: ids, mask and types. Of the rows the first is as long as the batch."""
    draw = np.random.default_rng(0)
    made = []
    for length in sorted({min(length, max_length) for length in (*LENGTHS, max_length)}):
        at, lengths = np.arange(length), draw.integers(1, length + 1, (rows, 1))
        lengths[0] = length
        mask = (at < lengths).astype(np.int32)
        ids = np.where(mask, draw.integers(0, config.vocab_size, (rows, length)), config.pad_token_id)
        second = mask * (at >= draw.integers(1, length + 1, (rows, 1))) * (config.type_vocab_size > 1)
        made.append((ids.astype(np.int32), mask, second.astype(np.int32)))
    return made
