"""The check that an export must pass: what it lets through, and what not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bertjax.artifact.exports.parity import MEDIAN, check_parity, computed_by, made_up_batches
from bertjax.artifact.load import Model
from bertjax.config import FLOAT, InputError, QuantizeConfig
from bertjax.data.sources import Examples, TaskData
from bertjax.data.tasks import Task

ROWS = 500
LOGITS = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
TASK = Task("t", ("text",), ("LABEL_0", "LABEL_1", "LABEL_2"), ("validation",), ("accuracy",), "")
ANSWERS = LOGITS.argmax(1).astype(np.int32)
ANSWERS[0] = (-LOGITS[0]).argmax()  # the model is wrong in the first row alone
DATA = TaskData(TASK, Examples([], None, np.zeros(0, np.int32)),
                {"validation": Examples(["red"] * ROWS, None, ANSWERS)})


class Stub(Model):
    """A model with given logits for the dev rows."""

    def task_logits(self, task: Task, examples: Examples) -> np.ndarray:
        return self.params["logits"]


def stub(model: Model, logits: np.ndarray, quantize: QuantizeConfig = FLOAT) -> Model:
    """With some quantization."""
    return Stub(**{**vars(replace(model, quantize=quantize)), "params": {"logits": logits}})


@pytest.mark.parametrize(("quantize", "holds", "fails"), [
    (FLOAT, lambda x: x + 9e-5, lambda x: x + 2e-4),
    (FLOAT, lambda x: x, lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, x + 2e-4, x)),
    (FLOAT, lambda x: x, lambda x: np.full_like(x, np.nan)),
    (QuantizeConfig(None, None, 8), lambda x: x + 9e-5, lambda x: x + 2e-4),
    (QuantizeConfig(), lambda x: x + 0.9 * MEDIAN, lambda x: x + 1.1 * MEDIAN),
    (QuantizeConfig(), lambda x: x, lambda x: np.full_like(x, np.nan)),
    # Other classes for 2 of 500 rows, one of them right now, and for 3.
    (QuantizeConfig(), lambda x: np.concatenate([-x[:2], x[2:]]), lambda x: np.concatenate([-x[:3], x[3:]])),
    # For 1 row that was right, 0.2 points, and for 2.
    (QuantizeConfig(), lambda x: flipped(x, 1), lambda x: flipped(x, 2)),
])
def test_float_logits_are_equal_and_quantized_ones_mostly(
    model: Model, quantize: QuantizeConfig, holds: Callable, fails: Callable
) -> None:
    reference = stub(model, LOGITS, quantize)
    check_parity(reference, stub(model, holds(LOGITS)), DATA)
    with pytest.raises(InputError, match="the exported model's logits must be .*; got") as caught:
        check_parity(reference, stub(model, fails(LOGITS)), DATA)
    assert "\n" not in str(caught.value)


def flipped(logits: np.ndarray, rows: int) -> np.ndarray:
    """Other classes for so many rows that were right."""
    return np.concatenate([logits[:1], -logits[1:rows + 1], logits[rows + 1:]])


def test_of_few_rows_one_may_get_another_class_whatever_it_weighs(model: Model) -> None:
    few = TaskData(TASK, DATA.train, {"validation": Examples(["red"] * 20, None, LOGITS[:20].argmax(1))})
    reference, one, two = (stub(model, np.concatenate([-LOGITS[:rows], LOGITS[rows:20]]), QuantizeConfig())
                           for rows in (0, 1, 2))
    assert check_parity(reference, one, few).scores == (100.0, 95.0)
    with pytest.raises(InputError, match="2 rows get another class; score 100.00, exported 90.00"):
        check_parity(reference, two, few)


def close(logits: np.ndarray, rows: int, margin: float) -> np.ndarray:
    """The two best classes of the first rows that far apart."""
    made = logits[:rows].astype(np.float64)
    second, best = np.argsort(made, axis=1)[:, -2:].T
    at = np.arange(rows)
    made[at, second] = made[at, best] - margin
    return np.concatenate([made, logits[rows:]])


def test_a_model_that_hardly_decides_is_refused_with_other_advice(model: Model) -> None:
    """As one that learned little does; the bound is the same for it."""
    undecided, decided = (stub(model, close(LOGITS, 20, margin), QuantizeConfig()) for margin in (0.19, 0.21))
    moved = close(LOGITS, 20, -0.01)
    advice = r"20 rows get another class \(20 of them by less than 0.2 between .*: train it further, or .* stablehlo"
    with pytest.raises(InputError, match=advice):
        check_parity(undecided, stub(model, moved), DATA)
    with pytest.raises(InputError, match=r"20 rows get another class; score .* please report it"):
        check_parity(decided, stub(model, moved), DATA)
    moved[30:32] *= -1  # not only such rows
    with pytest.raises(InputError, match=r"22 rows get another class \(20 of them .* please report it"):
        check_parity(undecided, stub(model, moved), DATA)


@pytest.mark.parametrize(("rows", "few"), [(1000, False), (40, True)])
def test_a_number_must_be_near_its_own_in_nearly_all_rows(model: Model, rows: int, few: bool) -> None:
    draw = np.random.default_rng(0)
    numbers = draw.uniform(0, 5, (rows, 1)).astype(np.float32)
    task = Task("t", ("text",), (), ("validation",), ("pearson", "spearman"), "")
    data = TaskData(task, DATA.train, {"validation": Examples(["red"] * rows, None, numbers[:, 0])})
    reference = replace(stub(model, numbers, QuantizeConfig()), regression=True)

    def moved(count: int, by: float) -> Model:
        return replace(stub(model, np.concatenate([numbers[:count] + by, numbers[count:]])), regression=True)

    allowed = max(1, rows // 200)
    assert check_parity(reference, moved(allowed, 0.3), data).disagreeing == allowed
    assert check_parity(reference, moved(3 * allowed, 0.19), data).disagreeing == 0
    with pytest.raises(InputError, match=f"{allowed + 1} rows get a number more than 0.2 away"):
        check_parity(reference, moved(allowed + 1, 0.3), data)
    worst = replace(stub(model, np.where(np.arange(rows)[:, None] < 0.4 * rows, -numbers, numbers)), regression=True)
    with pytest.raises(InputError, match="another answer for 1 row in 200 and the score within 0.3 points"):
        check_parity(reference, worst, data)
    if few:  # one row alone moves the score by more than 0.3 points
        assert np.ptp(check_parity(reference, moved(1, 3.0), data).scores) > 0.3
    else:  # near in all rows, and another order
        jitter = np.where(np.arange(rows) % 5 < 2, 0.19 * np.sign(2.5 - numbers[:, 0]), 0)[:, None]
        noisy = replace(stub(model, numbers * np.float32(0.1), QuantizeConfig()), regression=True)
        with pytest.raises(InputError, match=" 0 rows get a number .*; score 100.00, exported "):
            check_parity(noisy, replace(stub(model, numbers * np.float32(0.1) + jitter), regression=True), data)


def test_what_was_measured_is_told(model: Model) -> None:
    other = LOGITS.copy()
    other[0] *= -1
    other[1, 0] += 0.001
    made = check_parity(stub(model, LOGITS, QuantizeConfig()), stub(model, other), DATA)
    assert (made.rows, made.disagreeing, made.median_difference) == (ROWS, 1, 0)
    assert made.max_difference == pytest.approx(2 * np.abs(LOGITS[0]).max())
    assert made.scores == (pytest.approx(99.8), 100.0) and made.score_but_one == pytest.approx(99.8)


def test_made_up_rows_are_what_a_model_reads(model: Model) -> None:
    batches = made_up_batches(model.config, model.max_length)
    assert [ids.shape[1] for ids, _, _ in batches] == [4, 16] and model.max_length == 16
    for ids, mask, types in batches:
        assert mask[0].all() and mask[:, 0].all() and not mask.all()
        assert (mask[:, 1:] <= mask[:, :-1]).all() and (ids[mask == 0] == model.config.pad_token_id).all()
        assert ids.min() >= 0 and ids.max() < model.config.vocab_size and set(np.unique(types)) == {0, 1}


def test_what_computes_a_model_gets_whole_batches(model: Model) -> None:
    seen = []
    made = computed_by(model, lambda *batch: seen.append(batch) or np.zeros((len(batch[0]), 3), np.float32))
    made.logits(np.array([[2, 3]]))
    assert [part.tolist() for part in seen[0]] == [[[2, 3]], [[1, 1]], [[0, 0]]]
    assert [row["label"] for row in made.predict(["red", "blue big"])] == ["LABEL_0"] * 2
