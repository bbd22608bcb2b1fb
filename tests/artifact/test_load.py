"""Loading a model and using it: batches in any order and length, labels by name, wrong input in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertjax.artifact.load import Model, load
from bertjax.config import InputError
from bertjax.data.sources import Examples, TaskData
from bertjax.data.tasks import Task
from bertjax.model.bert import Inputs, logits_fn


def test_logits_are_the_models_own(model: Model) -> None:
    ids = np.array([[2, 5, 6, 3], [2, 7, 3, 0]])
    mask = ids != 0
    ours = model.logits(ids, mask.astype(int))
    direct = logits_fn(model.config)(model.params, Inputs(ids, np.zeros_like(ids), mask), None)
    assert ours.shape == (2, 3) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, direct, atol=1e-6)
    np.testing.assert_allclose(model.logits(ids[1:, :3]), ours[1:], atol=1e-6)  # no mask: a token everywhere


def test_predictions_come_in_the_order_of_the_texts_whatever_their_lengths(model: Model) -> None:
    texts = ["red circle big near far line", "blue", "green small square", "blue"] * 9
    together = model.predict(texts)
    assert [p["label"] for p in together[:4]] == [model.predict([text])[0]["label"] for text in texts[:4]]
    for first, again in zip(together[:4], together[32:], strict=True):
        assert first["probabilities"] == pytest.approx(again["probabilities"], abs=1e-5)
    assert model.predict([]) == []


def test_pairs_differ_from_their_joined_texts(model: Model) -> None:
    pair, joined = model.predict([("red", "blue")])[0], model.predict(["red blue"])[0]
    assert pair["probabilities"] != joined["probabilities"]


def test_long_texts_are_cut(model: Model) -> None:
    assert model.max_length == 16
    assert model.predict(["red " * 40])[0]["probabilities"] == model.predict(["red " * 14])[0]["probabilities"]


def task_of(labels: tuple[str, ...]) -> TaskData:
    task = Task("t", ("text",), labels, ("validation",), ("accuracy",), "")
    rows = Examples(["red", "blue circle", "green", "far"], None, np.array([0, 1, 2, 1], np.int32))
    return TaskData(task, rows, {"validation": rows})


def test_labels_are_matched_by_name_not_by_number(model: Model) -> None:
    named = replace(model, label_names=("a", "b", "c"))
    straight = named.evaluate(task_of(("a", "b", "c")))
    predicted = [named.label_names.index(p["label"]) for p in named.predict(["red", "blue circle", "green", "far"])]
    assert straight["accuracy"] == 25.0 * sum(p == y for p, y in zip(predicted, [0, 1, 2, 1], strict=True))
    turned = named.evaluate(task_of(("c", "a", "b")))
    assert turned["accuracy"] == 25.0 * sum((p + 1) % 3 == y for p, y in zip(predicted, [0, 1, 2, 1], strict=True))
    assert model.evaluate(task_of(("x", "y", "z"))) == straight  # LABEL_0.. say nothing, so the order counts


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "d"), ()])
def test_a_task_with_other_labels_is_refused(model: Model, labels: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="the model"):
        replace(model, label_names=("a", "b", "c")).evaluate(task_of(labels))


@pytest.mark.parametrize(("arguments", "message"), [
    (([[2, 40]],), r"input_ids must be in \[0, 40\)"),
    (([[2, -1]],), "input_ids must be in"),
    (([[2] * 17],), "at most 16 tokens"),
    (([[2, 3]], [[1, 1, 1]]), r"\[batch, seq\]"),
    (([[2, 3]], [[1, 1]], [[0, 2]]), "token_type_ids must be in"),
    (([2, 3],), r"\[batch, seq\]"),
])
def test_wrong_batches_are_refused_in_one_line(model: Model, arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model.logits(*(np.array(argument) for argument in arguments))
    assert "\n" not in str(caught.value)


def test_a_model_without_a_head_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = {name: t for name, t in load_file(folder / "model.safetensors").items() if "classifier" not in name}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="task head"):
        load(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        load(tmp_path)
