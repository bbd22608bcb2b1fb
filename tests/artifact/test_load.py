"""Loading a model and using it: batches in any order and length, labels by name, wrong input in one line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
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
    (([[], []],), r"rows must hold at least one token, got \(2, 0\)"),
    (([[2.0, 3.0]],), "input_ids must be integers, got float64"),
    (([[2, 3]], [[1, 1]], [[0.0, 1.0]]), "token_type_ids must be integers, got float64"),
    (([[2, 2**32 + 5]],), r"input_ids must be in \[0, 40\)"),
    (([["a", "b"]],), "input_ids must be integers"),
])
def test_wrong_batches_are_refused_in_one_line(model: Model, arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model.logits(*(np.array(argument) for argument in arguments))
    assert "\n" not in str(caught.value)


def test_rows_of_different_lengths_are_refused(model: Model) -> None:
    with pytest.raises(InputError, match="input_ids must be .* rows of different lengths: pad them"):
        model.logits([[2, 3], [2]])  # pyrefly: ignore[bad-argument-type]
    assert model.logits(np.zeros((0, 4), int)).shape == (0, 3)


@pytest.mark.parametrize(("texts", "message"), [
    ("red circle", "got one text: put it into a list"),
    (None, "got NoneType"), (3, "got int"), ({"red": 1}, "got dict"), (b"red", "got bytes"),
    (["red", None], "number 1 of the list is None"),
    ([3], "number 0 of the list is 3"),
    ([("red", "blue", "green")], r"number 0 of the list is \('red', 'blue', 'green'\)"),
    ([("red", "blue"), ("red",)], r"number 1 of the list is \('red',\)"),
    ([("red", None)], r"number 0 of the list is \('red', None\)"),
    (["red", ("red", "blue")], "texts must be all single or all pairs"),
])
def test_what_is_no_list_of_texts_is_refused_in_one_line(model: Model, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        model.predict(texts)
    assert "\n" not in str(caught.value)


def test_texts_may_come_in_any_sequence_and_pairs_as_lists(model: Model) -> None:
    wanted = model.predict(["red", "blue circle"])
    for texts in (("red", "blue circle"), np.array(["red", "blue circle"]), iter(["red", "blue circle"])):
        assert model.predict(texts) == wanted  # pyrefly: ignore[bad-argument-type]
    assert model.predict([["red", "blue"]]) == model.predict([("red", "blue")])  # pyrefly: ignore[bad-argument-type]


def test_names_that_differ_in_their_case_alone_are_told_apart(model: Model) -> None:
    named = replace(model, label_names=("a", "A", "b"))
    assert named.columns_of(task_of(("A", "b", "a")).task) == [1, 2, 0]
    assert replace(model, label_names=("NO", "Yes", "b")).columns_of(task_of(("yes", "B", "no")).task) == [1, 2, 0]
    with pytest.raises(InputError, match="labels must be those of t"):
        named.columns_of(task_of(("A", "B", "c")).task)


def test_a_compute_type_is_kept_and_one_that_is_none_is_refused(folder: Path, model: Model, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    for dtype in ("bfloat16", "float16"):
        (other / "config.json").write_text(json.dumps({**config, "bertjax": {"dtype": dtype}}))
        if dtype == "bfloat16":
            ids = np.array([[2, 5, 6, 3]])
            made = load(other).logits(ids)
            # Compiled as `load` does: one by one, operations round to bfloat16 more often.
            direct = jax.jit(logits_fn(model.config, dtype=jnp.dtype(dtype)))(
                model.params, Inputs(ids, np.zeros_like(ids), ids != 0), None)
            np.testing.assert_allclose(made, direct, atol=1e-6)
            assert made.dtype == np.float32 and np.abs(made - model.logits(ids)).max() > 1e-4
            continue
        said = "dtype must be one of float32, bfloat16, bfloat16_products, got 'float16'"
        with pytest.raises(InputError, match=said):
            load(other)


@pytest.mark.parametrize(("own", "said"), [
    ({"quantize": {"weight_bits": 8, "group_size": 32}}, "bertjax.quantize must hold settings .*'group_size'.*upgrade"),
    ({"quantize": {"weight_bits": 99}}, "bertjax.quantize must hold settings .*weight_bits"),
    ({"quantize": [8]}, "bertjax.quantize must be a JSON object, got list"),
    ({"max_length": "16"}, "bertjax.max_length must be an integer, got str"),
    ({"origin": "mine"}, "bertjax.origin must be a JSON object, got str"),
    ({"adapters": {}}, "this version knows quantize, .*, got adapters; a newer version"),
    ([1], "bertjax must hold a JSON object, got list"),
], ids=str)
def test_settings_of_another_version_are_refused_with_the_file(
    folder: Path, tmp_path: Path, own: Any, said: str
) -> None:
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "bertjax": own}))
    with pytest.raises(InputError, match=said) as raised:
        load(tmp_path / "model")
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


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
    (tmp_path / "trials").mkdir()
    with pytest.raises(InputError, match="is a run directory: name one of the folders in its trials/"):
        load(tmp_path)
