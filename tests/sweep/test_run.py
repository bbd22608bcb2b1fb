"""A whole study on a small model: what it leaves, what repeating it does, what survives when something breaks."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

import bertjax
from bertjax.artifact.load import load
from bertjax.artifact.packed.model import PACKED_FILE, read_packed_model
from bertjax.artifact.packed_folder import pack_folder
from bertjax.config import AugmentConfig, InputError, TeacherConfig
from bertjax.data.examples import SELECTION
from bertjax.data.sources import load_task
from bertjax.report.analysis import analyse
from bertjax.report.page import write_report
from bertjax.report.predictions import read_predictions
from bertjax.report.tables import clean
from bertjax.study import METHODS, StudyConfig
from bertjax.sweep import session as session_module
from bertjax.sweep import teacher as teacher_module
from bertjax.sweep.forecast import describe_plan
from bertjax.sweep.inputs import task_inputs
from bertjax.sweep.ledger import Ledger, open_ledger
from bertjax.sweep.models import best_ids, keep_models, pack_trial, size_columns
from bertjax.sweep.outcome import Outcome, base_row
from bertjax.sweep.results import RESULT_COLUMNS
from bertjax.sweep.run import run_study
from bertjax.sweep.run_dir import RunDir
from bertjax.sweep.status import read_status
from bertjax.train.trial import student_trials, students
from tests.events import shown
from tests.small_model import WORDS, make_model_dir


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def finished(study: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A run directory of the eight subsets, and their results."""
    run_dir = tmp_path_factory.mktemp("runs") / "colours"
    return run_dir, run_study(study, run_dir, keep_models="all", tensorboard=True)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log of the package."""
    with caplog.at_level(logging.INFO, logger="bertjax"):
        yield caplog


def test_a_row_for_each_subset_and_one_teacher(finished: tuple[Path, pd.DataFrame]) -> None:
    run_dir, results = finished
    assert tuple(results.columns) == RESULT_COLUMNS
    assert results["methods"].tolist() == list(METHODS) and set(results["status"]) == {"done"}
    assert results["score"].between(0, 100).all() and (results["score"] == results["accuracy"]).all()
    assert results["score"].max() > 60  # a third by chance: something was learned
    assert (results["steps"] == 36).all() and results["train_seconds"].gt(0).all()
    teachers = pd.read_csv(run_dir / "teachers.csv", dtype={"trial_id": str})
    assert teachers["num_hidden_layers"].tolist() == [2]
    assert set(results["teacher"].dropna()) == set(teachers["trial_id"])
    assert results.set_index("methods")["teacher"].isna().to_dict() == {m: "K" not in m for m in METHODS}
    quantized = results["methods"].str.contains("Q")
    assert (results["weight_bits"].notna() == quantized).all()
    assert (results.loc[quantized, "size_bytes_paper"] <= results["size_bytes_fp32"].max() / 4).all()


def test_every_trial_and_the_teacher_have_events(finished: tuple[Path, pd.DataFrame]) -> None:
    run_dir, results = finished
    folders = {folder.name.split()[-1]: folder for folder in (run_dir / "tensorboard").glob("colours/*/*")}
    teachers = pd.read_csv(run_dir / "teachers.csv", dtype={"trial_id": str})
    assert folders.keys() == {*results["trial_id"], *teachers["trial_id"]}
    for row in results.itertuples():
        found = shown(folders[row.trial_id])
        assert list(found["train/loss"]) == list(range(1, 37)) and list(found["dev/score"]) == list(range(6, 37, 6))
        assert found["dev/score"][36] == pytest.approx(row.score, abs=1e-3)
    assert all("dev/score" in shown(folders[trial_id]) for trial_id in teachers["trial_id"])


def test_no_two_models_are_equal_and_pruned_ones_are_sparse(finished: tuple[Path, pd.DataFrame]) -> None:
    run_dir, results = finished
    models = {row.methods: run_dir / "trials" / row.trial_id / "model" for row in results.itertuples()}
    assert len({(folder / "model.safetensors").read_bytes() for folder in models.values()}) == 8
    for methods, folder in models.items():
        params = load(folder).params
        kernel = np.asarray(params["bert"]["encoder"]["layer"]["0"]["intermediate"]["dense"]["kernel"])
        assert (kernel == 0).sum() == (int(0.6 * kernel.size) if "P" in methods else 0)


def test_a_loaded_trial_scores_what_its_row_says(finished: tuple[Path, pd.DataFrame], study: StudyConfig) -> None:
    run_dir, results = finished
    data = load_task("colours", study.data)
    for row in results[results["methods"].isin(["none", "QKP"])].itertuples():
        model = bertjax.load(run_dir / "trials" / row.trial_id)
        assert (model.quantize.weight_bits == 8) == ("Q" in row.methods)
        assert model.evaluate(data)["score"] == pytest.approx(row.score)
        predictions = model.predict(["red circle", "blue far line"])
        assert [set(p["probabilities"]) for p in predictions] == [{"red", "green", "blue"}] * 2
        assert all(sum(p["probabilities"].values()) == pytest.approx(1) for p in predictions)


def test_every_trial_has_a_packed_model_of_the_size_that_its_row_says(
    finished: tuple[Path, pd.DataFrame], study: StudyConfig, tmp_path: Path
) -> None:
    run_dir, results = finished
    data = load_task("colours", study.data)
    for row in results.itertuples():
        trial = run_dir / "trials" / row.trial_id
        file = trial / "packed" / PACKED_FILE
        assert row.size_bytes_disk == file.stat().st_size > 0
        assert 0 < row.size_bytes_entropy < row.size_bytes_disk
        kept = read_packed_model(file)
        origin = dict(kept.origin)
        assert origin.pop("scores").startswith(f"**{row.score:.2f} points**")
        assert origin == {"trial_id": row.trial_id, "task": "colours", "methods": row.methods,
                          "base_model": Path(study.model or "").name}
        # What the float weights of model/ pack to.
        pack_folder(trial, tmp_path / row.trial_id)
        assert (tmp_path / row.trial_id / PACKED_FILE).read_bytes() == file.read_bytes()
        if row.methods in ("none", "QKP"):
            assert bertjax.load(file).evaluate(data) == bertjax.load(trial).evaluate(data)
        card = (file.parent / "README.md").read_text()
        assert f"**{row.score:.2f} points**" in card and f"{row.size_bytes_disk:,} bytes" in card
        assert "24 rows" in card and "seed 0" in card and Path(study.model or "").name in card
    assert pd.read_csv(run_dir / "teachers.csv")["size_bytes_disk"].gt(0).all()
    assert not list(run_dir.glob("teachers/*/packed"))


def test_a_parameter_that_is_not_finite_leaves_the_sizes_blank(
    finished: tuple[Path, pd.DataFrame], study: StudyConfig, messages: pytest.LogCaptureFixture
) -> None:
    (trial,) = student_trials(replace(study, methods=("none",)), "colours", students(study)[0])
    params = jax.tree.map(np.array, load(finished[0] / "trials" / trial.trial_id).params)
    inputs = task_inputs([trial])
    assert size_columns(pack_trial(trial, params, inputs, {}))["size_bytes_disk"] > 0
    params["bert"]["embeddings"]["position_embeddings"]["embedding"][-1, -1] = np.inf
    assert set(size_columns(pack_trial(trial, params, inputs, {})).values()) == {None}
    assert f"{trial.trial_id} has no packed model" in messages.text and "must be finite" in messages.text


def test_the_model_of_a_diverged_trial_is_neither_measured_nor_kept(study: StudyConfig, tmp_path: Path) -> None:
    (trial,) = student_trials(replace(study, methods=("none",)), "colours", students(study)[0])
    inputs = task_inputs([trial])
    row = base_row(trial, inputs) | {"status": "diverged"}
    made = SimpleNamespace(outcomes=[Outcome(trial, row, [], {})], params=None)  # None: nothing may ask for them
    (outcome,) = keep_models(Ledger(RunDir(tmp_path)), made, inputs, "all")
    assert outcome.row["size_bytes_disk"] is None and outcome.row["size_bytes_entropy"] is None
    assert list(tmp_path.iterdir()) == []


def test_metrics_per_epoch_end_with_the_row(finished: tuple[Path, pd.DataFrame]) -> None:
    run_dir, results = finished
    for row in results.itertuples():
        metrics = json.loads((run_dir / "trials" / row.trial_id / "metrics.json").read_text())
        assert [m["epoch"] for m in metrics] == [*range(1, 7)] and [m["step"] for m in metrics] == [*range(6, 37, 6)]
        assert metrics[-1]["score"] == row.score and metrics[-1]["train_loss"] > 0


def test_predictions_give_the_score_of_the_row_and_intervals_of_the_report(
    finished: tuple[Path, pd.DataFrame], study: StudyConfig
) -> None:
    run_dir, results = finished
    labels = load_task("colours", study.data).dev["validation"].labels
    for row in results.itertuples():
        with np.load(run_dir / "trials" / row.trial_id / "predictions.npz", allow_pickle=False) as stored:
            assert stored["labels"].tolist() == labels.tolist()
            assert 100 * (stored["logits"].argmax(1) == labels).mean() == pytest.approx(row.score)
    predictions = read_predictions(run_dir, clean(results))
    analysis = analyse(clean(results), predictions)
    assert "drawn again from this one's dev rows" in analysis.note
    assert (analysis.factors["low"] <= analysis.factors["high"]).all()
    assert analyse(clean(results)).factors["low"].isna().all()


def test_repeating_a_finished_study_changes_nothing(finished: tuple[Path, pd.DataFrame], study: StudyConfig) -> None:
    run_dir, results = finished
    before = files_of(run_dir)
    again = bertjax.sweep(study, run_dir, keep_models="all")
    assert files_of(run_dir) == before
    pd.testing.assert_frame_equal(again, results)


def test_only_what_is_missing_is_trained(
    study: StudyConfig, tmp_path: Path, messages: pytest.LogCaptureFixture, finished: tuple[Path, pd.DataFrame]
) -> None:
    fewer = replace(study, methods=("none", "K"))
    run_study(fewer, tmp_path, keep_models="none")
    first = files_of(tmp_path)
    messages.clear()
    results = run_study(replace(study, methods=("none", "K", "P")), tmp_path, keep_models="none")
    assert "1 trial to train" in messages.text and "teacher: started" not in messages.text
    assert results["methods"].tolist() == ["none", "K", "P"]
    after = files_of(tmp_path)
    assert all(after[name] == content for name, content in first.items() if name.startswith("trials/"))
    assert not list(tmp_path.glob("trials/*/model")) and not list(tmp_path.glob("trials/*/packed"))
    sizes = finished[1].set_index("trial_id").loc[results["trial_id"], "size_bytes_disk"]
    assert results["size_bytes_disk"].tolist() == sizes.tolist()  # without a kept model too
    # A trial alone is the trial of the grid: the eight of `finished` give the same scores.
    wanted = finished[1].set_index("trial_id")["score"]
    assert results.set_index("trial_id")["score"].to_dict() == wanted.loc[results["trial_id"]].to_dict()


def test_known_results_are_taken_over_and_only_the_rest_is_trained(
    study: StudyConfig, tmp_path: Path, messages: pytest.LogCaptureFixture, finished: tuple[Path, pd.DataFrame]
) -> None:
    run_dir, results = finished
    sizes = ["size_bytes_disk", "size_bytes_entropy"]
    old = results.drop(columns=[*sizes, "copies", "select_score", "selected_epoch"])  # as a former version wrote it
    old.loc[old["methods"] == "P", "status"] = "failed"
    old.to_csv(tmp_path / "old.csv", index=False)
    asked = replace(study, methods=("none", "K", "P"))
    again = run_study(asked, tmp_path / "run", keep_models="none", known=tmp_path / "old.csv")
    assert "2 results taken over" in messages.text and "1 trial to train" in messages.text
    wanted = results.set_index("methods").loc[["none", "K", "P"]].reset_index()[results.columns]
    other = ["train_seconds", *sizes]
    pd.testing.assert_frame_equal(again.drop(columns=other), wanted.drop(columns=other))
    assert again[sizes].isna().all(axis=1).tolist() == [True, True, False]
    assert again.loc[2, sizes].tolist() == wanted.loc[2, sizes].tolist()
    assert write_report(tmp_path / "run").is_file()


@pytest.mark.parametrize(("content", "message"), [
    (None, "cannot be read"), ("trial_id,task\n1,2\n", "known.csv must have .* missing: model"),
    (b"\xff\xfe", "cannot be read"),
    (",".join(RESULT_COLUMNS) + "\n" + ",".join("x" * len(RESULT_COLUMNS)) + "\n", "line 2 must be a trial"),
])
def test_known_results_that_are_none_are_refused(
    study: StudyConfig, tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / "known.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        run_study(study, tmp_path / "run", known=path)


def test_teacher_outputs_come_from_the_cache_the_second_time(
    study: StudyConfig, tmp_path: Path, messages: pytest.LogCaptureFixture, finished: tuple[Path, pd.DataFrame]
) -> None:
    run_study(replace(study, methods=("K",)), tmp_path, keep_models="none")
    assert "read from the cache" in messages.text


def test_copies_change_trials_with_k_and_a_and_are_taught_once(
    study: StudyConfig, tmp_path: Path, messages: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(study, methods=("none", "K", "A"), copies=(0, 2), augment=AugmentConfig(rate=1.0))
    results = run_study(asked, tmp_path / "first", keep_models="all")
    assert list(zip(results["methods"], results["copies"], strict=True)) == [
        ("none", 0), ("K", 0), ("K", 2), ("A", 2)]
    assert set(results["steps"]) == {36} and set(results["status"]) == {"done"}
    models = {(tmp_path / "first" / "trials" / name / "model" / "model.safetensors").read_bytes()
              for name in results["trial_id"]}
    assert len(models) == 4
    messages.clear()
    monkeypatch.setattr(teacher_module, "predict_rows", no_forward_pass)
    again = run_study(asked, tmp_path / "second", keep_models="none")
    assert "read from the cache" in messages.text
    assert again["score"].tolist() == results["score"].tolist()
    for name in results["trial_id"]:  # to the last bit of every logit
        first, second = (tmp_path / run / "trials" / name / "predictions.npz" for run in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def no_forward_pass(*_args, **_kwargs):
    raise AssertionError("the teacher's outputs were to be read from the cache")


@pytest.mark.slow
def test_augmented_epochs_are_longer_and_equal_for_k_and_a(study: StudyConfig, tmp_path: Path) -> None:
    asked = replace(study, methods=("none", "K", "A"), copies=(1,), budget="augmented_epochs",
                    train=replace(study.train, epochs=2))
    results = run_study(asked, tmp_path, keep_models="none").set_index("methods")
    assert results["steps"].to_dict() == {"none": 12, "K": 24, "A": 24}
    assert set(results["status"]) == {"done"} and set(results["epochs"]) == {2}


def test_several_learning_rates_are_compared_on_held_out_training_rows(
    study: StudyConfig, tmp_path: Path, finished: tuple[Path, pd.DataFrame]
) -> None:
    asked = replace(study, methods=("none", "K"), learning_rates=(1e-2, 1e-3), data=replace(
        study.data, train_file=str(four_times(study.data.train_file, tmp_path))))
    inputs = task_inputs(student_trials(asked, "colours", students(asked)[0]))
    held = inputs.rows.dev[SELECTION]
    assert len(inputs.rows.train) + len(held) == 4 * 48 and len(held) in range(15, 24)
    assert min(held) >= len(inputs.rows.texts)  # no row that a schedule of the texts could name
    results = run_study(asked, tmp_path / "run", keep_models="none")
    assert results["select_score"].between(0, 100).all() and results["selected_epoch"].isna().all()
    assert set(results["steps"]) == {6 * -(-len(inputs.rows.train) // 8)}
    assert finished[1]["select_score"].isna().all()  # one learning rate: nothing to select, nothing held out


def four_times(path: str | None, folder: Path) -> Path:
    """A file with the rows of another four times."""
    made = folder / "train.jsonl"
    made.write_text(Path(str(path)).read_text() * 4)
    return made


@pytest.mark.parametrize("select_on", ["train", pytest.param("dev", marks=pytest.mark.slow)])
def test_the_best_epoch_is_the_model_and_the_row(study: StudyConfig, tmp_path: Path, select_on: str) -> None:
    asked = replace(study, methods=("none", "Q", "P"), select_epoch=True, select_on=select_on, data=replace(
        study.data, train_file=str(four_times(study.data.train_file, tmp_path))))
    results = run_study(asked, tmp_path / "run", keep_models="all")
    name = "select_score" if select_on == "train" else "score"
    assert results["select_score"].notna().all() == (select_on == "train")
    for row in results.itertuples():
        metrics = json.loads((tmp_path / "run" / "trials" / row.trial_id / "metrics.json").read_text())
        scores = [epoch[name] for epoch in metrics]
        assert row.selected_epoch == 1 + scores.index(max(scores))
        assert row.score == metrics[int(row.selected_epoch) - 1]["score"]
        model = bertjax.load(tmp_path / "run" / "trials" / row.trial_id)
        assert model.evaluate(load_task("colours", asked.data))["score"] == pytest.approx(row.score)
    assert results["selected_epoch"].min() < 6  # 6 epochs: the last is not the best of all


@pytest.fixture(scope="module")
def tuned(finished: tuple[Path, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher of `finished` as if it came from elsewhere: its labels in another order."""
    (model,) = (finished[0] / "teachers").glob("*/model")
    folder = tmp_path_factory.mktemp("tuned") / "elsewhere"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    names = [config["id2label"][str(i)] for i in range(3)]
    config["id2label"] = {str(i): name for i, name in enumerate(reversed(names))}
    config["label2id"] = {name: i for i, name in enumerate(reversed(names))}
    del config["bertjax"]
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    save_file({name: np.ascontiguousarray(tensor[::-1]) if name.startswith("classifier") else tensor
               for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def test_a_teacher_that_was_tuned_elsewhere_teaches_the_same(
    study: StudyConfig, tuned: Path, tmp_path: Path, finished: tuple[Path, pd.DataFrame]
) -> None:
    teacher = TeacherConfig(model=str(tuned), fine_tuned=True)
    results = run_study(replace(study, methods=("K",), teacher=teacher), tmp_path)
    wanted = finished[1].set_index("methods").loc["K"]
    assert results["score"].tolist() == [wanted["score"]] and results["trial_id"].tolist() != [wanted["trial_id"]]
    (row,) = pd.read_csv(tmp_path / "teachers.csv", dtype={"trial_id": str}).to_dict("records")
    own = pd.read_csv(finished[0] / "teachers.csv", dtype={"trial_id": str}).iloc[0]
    assert (row["score"], row["steps"], row["epochs"]) == (own["score"], 0, 0)
    assert not list((tmp_path / "teachers").glob("*/model"))
    assert write_report(tmp_path).is_file()


def test_a_teacher_that_does_not_fit_is_refused_before_anything_trains(
    study: StudyConfig, tuned: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tuned, other)
    config = json.loads((other / "config.json").read_text())
    config["id2label"]["0"] = "purple"
    (other / "config.json").write_text(json.dumps(config))
    asked = replace(study, methods=("K",), teacher=TeacherConfig(model=str(other), fine_tuned=True))
    with pytest.raises(InputError, match="labels must be those of colours .*got purple"):
        run_study(asked, tmp_path / "run")
    shutil.rmtree(other)
    make_model_dir(other, words=tuple(reversed(WORDS)))
    for fine_tuned in (False, True):
        asked = replace(study, methods=("K",), teacher=TeacherConfig(model=str(other), fine_tuned=fine_tuned))
        with pytest.raises(InputError, match="one vocabulary; .* has 40 tokens and .* 40, but others"):
            run_study(asked, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    with pytest.raises(InputError, match="needs its model's name or folder"):
        TeacherConfig(fine_tuned=True)


def test_a_diverging_trial_is_marked_and_the_others_are_not(study: StudyConfig, tmp_path: Path) -> None:
    results = run_study(replace(study, methods=("none", "Q"), learning_rates=(1e-2, 1e30)), tmp_path)
    by_rate = results.groupby("learning_rate")["status"].agg(set).to_dict()
    assert by_rate == {1e-2: {"done"}, 1e30: {"diverged"}}
    assert results.loc[results["status"] == "diverged", ["score", "size_bytes_disk", "size_bytes_entropy"]].isna(
        ).all(axis=None)
    with pytest.raises(InputError, match="diverged"):
        load(tmp_path / "trials" / results.loc[results["status"] == "diverged", "trial_id"].iloc[0])


def test_interrupted_between_programs_the_finished_ones_stay(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = replace(study, methods=("none", "P"), seeds=(0, 1), max_trials_per_program=2)
    execute, calls = session_module.execute, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return execute(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(session_module, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_study(split, tmp_path)
    kept = pd.read_csv(tmp_path / "results.csv", dtype={"trial_id": str})
    assert kept["seed"].tolist() == [0, 0]
    whole = run_study(split, tmp_path)
    assert whole["seed"].tolist() == [0, 1, 0, 1] and set(whole["status"]) == {"done"}


def test_a_program_that_breaks_is_marked_failed_and_tried_again(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(study, methods=("none",))

    def broken(*_args, **_kwargs):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(session_module, "execute", broken)
        assert run_study(one, tmp_path)["status"].tolist() == ["failed"]
    assert run_study(one, tmp_path)["status"].tolist() == ["done"]


@pytest.mark.parametrize("broken", ["program", "teacher"])
def test_what_failed_is_counted_as_such_while_the_rest_is_trained(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    asked = replace(study, methods=("none", "P") if broken == "program" else ("K", "none"), max_trials_per_program=1)
    counted = []

    def counting(*_args: object, **_named: object) -> None:
        status = read_status(str(tmp_path))
        counted.append((status.total("failed"), status.total("left")))
        raise RuntimeError("out of memory")

    monkeypatch.setattr(session_module, "execute", counting)
    run_study(asked, tmp_path)
    assert counted == [(0, 2), (1, 1)]


def test_a_full_disk_leaves_what_is_there_and_the_rest_follows_once_there_is_room(
    study: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(study, methods=("none",), seeds=(0, 1), max_trials_per_program=1)
    real = os.replace

    def replace_while_there_is_room(source: str, target: str) -> None:
        results = list(tmp_path.glob("trials/*/result.json"))
        if results and Path(target).name == "predictions.npz":  # of the second trial
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr("bertjax.files.os.replace", replace_while_there_is_room)
    with pytest.raises(OSError, match="No space left"):
        run_study(asked, tmp_path, keep_models="none")
    monkeypatch.undo()
    (kept,) = tmp_path.glob("trials/*/result.json")  # of the first program; the second is broken off
    before = kept.read_bytes()
    results = run_study(asked, tmp_path, keep_models="none")
    assert set(results["status"]) == {"done"} and len(results) == 2 and kept.read_bytes() == before


def test_best_keeps_one_model_of_each_subset(study: StudyConfig, tmp_path: Path) -> None:
    results = run_study(replace(study, methods=("none", "P"), seeds=(0, 1)), tmp_path, keep_models="best")
    kept = {path.parent.name for path in tmp_path.glob("trials/*/model")}
    assert kept == best_ids(results.to_dict("records")) and len(kept) == 2
    assert {path.parent.name for path in tmp_path.glob("trials/*/packed")} == kept
    ledger = Ledger(RunDir(tmp_path))
    for trial_id in kept:
        shutil.rmtree(tmp_path / "trials" / trial_id / "model")
        assert ledger.has_model(trial_id) and load(tmp_path / "trials" / trial_id).origin["trial_id"] == trial_id
        ledger.drop_model(trial_id)
        assert not ledger.has_model(trial_id) and not (tmp_path / "trials" / trial_id / "packed").exists()


def test_another_study_is_refused_and_nothing_changes(finished: tuple[Path, pd.DataFrame], study: StudyConfig) -> None:
    run_dir, _ = finished
    before = files_of(run_dir)
    with pytest.raises(InputError, match=r"another study: train.epochs is 6 there and 3 now; use another --run-dir"):
        run_study(replace(study, train=replace(study.train, epochs=3)), run_dir)
    assert files_of(run_dir) == before


def test_axes_grow_unless_the_trials_that_are_there_would_become_others(study: StudyConfig, tmp_path: Path) -> None:
    one = replace(study, methods=("none", "K"))
    open_ledger(RunDir(tmp_path), one).keep_study(one)
    for grown in (replace(one, seeds=(0, 1)), replace(one, methods=METHODS)):
        open_ledger(RunDir(tmp_path), grown)
    with pytest.raises(InputError, match="the most copies .all trials' batches leave room for them. is 0 there and 2"):
        open_ledger(RunDir(tmp_path), replace(one, copies=(0, 2)))
    with pytest.raises(InputError, match="another study: holding out training rows .several learning rates. is false"):
        open_ledger(RunDir(tmp_path), replace(one, learning_rates=(1e-2, 1e-3)))
    with pytest.raises(InputError, match="the teacher's learning rate is 0.01 there and 0.001 now"):
        open_ledger(RunDir(tmp_path), replace(one, learning_rates=(1e-3, 1e-2), select_on="dev"))
    several = replace(one, learning_rates=(1e-2, 1e-3))
    open_ledger(RunDir(tmp_path / "several"), several).keep_study(several)
    open_ledger(RunDir(tmp_path / "several"), replace(several, learning_rates=(1e-2, 1e-3, 1e-4)))


def test_a_run_directory_of_a_former_version_is_continued(study: StudyConfig, tmp_path: Path) -> None:
    open_ledger(RunDir(tmp_path), study).keep_study(study)
    stored = json.loads((tmp_path / "study.json").read_text())
    for name in ("copies", "augment", "budget", "select_on", "select_epoch"):
        del stored[name]
    del stored["teacher"]["fine_tuned"]
    (tmp_path / "study.json").write_text(json.dumps(stored))
    open_ledger(RunDir(tmp_path), study)
    with pytest.raises(InputError, match="another study: select_epoch is false there and true now"):
        open_ledger(RunDir(tmp_path), replace(study, select_epoch=True, select_on="dev"))


def test_the_best_model_is_kept_where_a_known_result_without_a_model_is_better(
    study: StudyConfig, tmp_path: Path, finished: tuple[Path, pd.DataFrame]
) -> None:
    known = finished[1].query("methods == 'none'").assign(score=100.0)
    known.to_csv(tmp_path / "known.csv", index=False)
    asked = replace(study, methods=("none",), seeds=(0, 1))
    results = run_study(asked, tmp_path / "run", known=tmp_path / "known.csv")
    assert results["score"].max() == 100
    kept = [path.parent.name for path in (tmp_path / "run").glob("trials/*/model")]
    assert kept == results.loc[results["seed"] == 1, "trial_id"].tolist()


def test_a_damaged_result_is_trained_again(study: StudyConfig, tmp_path: Path) -> None:
    one = replace(study, methods=("none",))
    run_study(one, tmp_path)
    (result,) = tmp_path.glob("trials/*/result.json")
    whole = json.loads(result.read_text())
    result.write_text(result.read_text()[:40])
    assert len(open_ledger(RunDir(tmp_path), one).rows()) == 0
    run_study(one, tmp_path)
    assert json.loads(result.read_text())["score"] == whole["score"]


def test_a_head_for_other_labels_is_refused_unless_a_new_one_is_asked_for(study: StudyConfig, tmp_path: Path) -> None:
    train = tmp_path / "train.jsonl"
    lines = Path(str(study.data.train_file)).read_text().splitlines()
    train.write_text("\n".join(line for line in lines if "green" not in line) + "\n")
    asked = replace(study, methods=("none",), data=replace(study.data, train_file=str(train), dev_file=str(train)))
    with pytest.raises(InputError, match=r"task head is for another number of labels; .*--reinit-head True"):
        run_study(asked, tmp_path / "run")
    results = run_study(replace(asked, train=replace(study.train, reinit_head=True)), tmp_path / "run")
    assert results["status"].tolist() == ["done"]


@pytest.mark.parametrize(("change", "message"), [
    ({"layers": (3,)}, "layers must be 1 to 2"),
    ({"model": "missing/folder"}, "missing/folder"),
])
def test_wrong_input_stops_before_training(study: StudyConfig, tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_study(replace(study, **change), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mesh_without_its_devices_leaves_the_run_directory_to_another_command(
    study: StudyConfig, tmp_path: Path, finished: tuple[Path, pd.DataFrame]
) -> None:
    with pytest.raises(InputError, match="--mesh trial=9 needs 9 devices; there are 4"):
        run_study(study, tmp_path, mesh="trial=9")
    assert list(tmp_path.iterdir()) == []
    assert len(run_study(study, finished[0], mesh="trial=9", keep_models="all")) == 8  # nothing is left to train


def test_the_plan_says_trials_groups_programs_and_padding(study: StudyConfig) -> None:
    text = describe_plan(replace(study, seeds=(0, 1)), mesh="trial=1")
    assert "16 trials in 1 program, 2 compilations, 1 teacher;" in text
    assert "8+8" in text and "trial=1,data=1" in text and " %" in text


def test_the_report_of_a_study_without_distillation_needs_no_teacher(study: StudyConfig, tmp_path: Path) -> None:
    run_study(replace(study, methods=("none",)), tmp_path)
    assert write_report(tmp_path).stat().st_size > 100_000


def test_programs_of_equal_shape_compile_once(
    study: StudyConfig, tmp_path: Path, messages: pytest.LogCaptureFixture
) -> None:
    """Of three programs of a seed each, the second and third compile nothing: counted by JAX itself."""
    compiled: list[str] = []

    def listen(event: str, seconds: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    counts = []
    asked = replace(study, methods=("none", "Q"), seeds=(0, 1, 2), max_trials_per_program=2)

    def counting(*arguments: object, **named: object) -> object:
        made = execute(*arguments, **named)
        counts.append((made.cost.compilations, len(compiled)))
        return made

    execute, session_module.execute = session_module.execute, counting
    try:
        run_study(asked, tmp_path / "run", keep_models="none")
    finally:
        session_module.execute = execute
        jax.monitoring.unregister_event_duration_listener(listen)
    assert [count for count, _ in counts] == [2, 0, 0]
    chunks = [seen for _, seen in counts]
    assert chunks[0] >= 2 and chunks[1] == chunks[2]  # the first of them compiles a few small functions
    assert "compiled 0 times" in messages.text
