"""Whether an exported model computes what the model does: both run on the same rows, and their logits are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from bertjax.artifact.load import Model
from bertjax.config import BertConfig, InputError
from bertjax.data.sources import TaskData
from bertjax.metrics import glue_score, score_predictions
from bertjax.words import number_of

EXACT = 1e-4
"""Largest difference of a logit where both sides compute in float."""
MEDIAN = 0.01
"""Largest median difference of a logit where activations are quantized: a last bit may move one over a rounding
boundary, and its logits then jump; most do not move at all."""
DISAGREEING = 200
"""Of so many rows one may get another answer where activations are quantized; in any case one row may."""
JUMP = 0.2
"""What one value that crosses a rounding boundary was seen to move a logit by: a number that moves further is another
answer, as another class is."""
SCORE_POINTS = 0.3
"""Largest difference of the scores where activations are quantized. Where a single row may get another answer (of less
than twice `DISAGREEING` rows), which may weigh more, the score is that without the difference of the furthest row."""
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
    """Rows with another class; for regression, with a number that is more than `JUMP` away."""
    undecided: int
    """Of these, rows whose two best classes the model has at most `JUMP` apart: of a model that learned little many
    are. None for regression."""
    scores: tuple[float, float] | None
    """In points on the dev rows, of the model and of the export; None where no data were given."""
    score_but_one: float | None = None
    """The export's score if the row that is furthest from the model's were not; None where no data were given."""
    regression: bool = False

    @property
    def allowed(self) -> int:
        """Rows that may get another answer where activations are quantized."""
        return max(1, self.rows // DISAGREEING)

    @property
    def same_score(self) -> bool:
        """Whether the scores are within `SCORE_POINTS`; also where there are none."""
        if self.scores is None:
            return True
        ours, theirs = self.scores[0], self.score_but_one if self.allowed == 1 else self.scores[1]
        return theirs is not None and abs(ours - theirs) <= SCORE_POINTS + 1e-9

    def __str__(self) -> str:
        other = f"a number more than {JUMP} away" if self.regression else "another class"
        text = (f"{self.rows} rows: logits differ by {self.median_difference:.1g} in the median and "
                f"{self.max_difference:.1g} at most, {number_of('row', self.disagreeing)} "
                f"{'gets' if self.disagreeing == 1 else 'get'} {other}")
        if self.undecided:
            text += f" ({self.undecided} of them by less than {JUMP} between the model's two best)"
        return text if self.scores is None else f"{text}; score {self.scores[0]:.2f}, exported {self.scores[1]:.2f}"


def check_parity(reference: Model, exported: Model, data: TaskData | None) -> Parity:
    """Compares an export with the model, see `compare`.

    Raises:
        InputError: The logits are not those of the model: see `EXACT`, and where `reference` quantizes activations
            `MEDIAN`, `DISAGREEING` and `SCORE_POINTS`.
    """
    made = compare(reference, exported, data)
    advice = "please report it"
    if reference.quantize.activation_bits is None:
        holds, must = made.max_difference <= EXACT, f"at most {EXACT} from the model's"
    else:
        holds = made.median_difference <= MEDIAN and made.disagreeing <= made.allowed and made.same_score
        must = (f"in the median at most {MEDIAN} from the model's, with another answer for 1 row in {DISAGREEING}"
                + ("" if data is None else f" and the score within {SCORE_POINTS} points"))
        if made.median_difference <= MEDIAN and 0 < made.disagreeing == made.undecided:
            advice = ("the model hardly decides between its classes: train it further, or export it as stablehlo, "
                      "which rounds as training does")
    if not holds:  # also where something is NaN
        raise InputError(f"the exported model's logits must be {must}; got {made}: nothing was kept, {advice}")
    return made


def measured(origin: Mapping[str, Any], parity: Parity) -> str:
    """For a card: what the model scored before, where `parity` has no scores."""
    scores = None if parity.scores is not None else origin.get("scores")
    return f"\nAs trained, measured by bertjax: {scores}\n" if scores else ""


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
    difference = np.abs(ours - theirs)
    other = difference[:, 0] > JUMP if reference.regression else ours.argmax(axis=1) != theirs.argmax(axis=1)
    undecided = 0
    if not reference.regression:
        second, best = np.sort(ours, axis=1)[:, -2:].T
        undecided = int((other & (best - second <= JUMP)).sum())
    made = Parity(len(ours), float(difference.max()), float(np.median(difference)), int(other.sum()), undecided, None,
                  regression=reference.regression)
    if data is None:
        return made
    scored, exported_scored = by_split[0][0], by_split[1][0]
    rows = slice(len(scored))
    furthest = int(np.lexsort((difference[rows].max(axis=1), other[rows]))[-1])
    but_one = exported_scored.copy()
    but_one[furthest] = scored[furthest]
    return dataclasses.replace(made, scores=(_score(data, scored), _score(data, exported_scored)),
                               score_but_one=_score(data, but_one))


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
