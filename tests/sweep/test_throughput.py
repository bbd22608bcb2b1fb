"""Throughput of a sweep's training: the numbers follow from each other, and a trace can be opened."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from bertjax.config import BertConfig, InputError
from bertjax.model.flops import train_flops
from bertjax.study import StudyConfig
from bertjax.sweep.inputs import task_inputs
from bertjax.sweep.throughput import Timed, Work, bench_training, pass_work, rates, spread, total
from bertjax.train.trial import student_trials, students

TINY = BertConfig(hidden_size=2, num_hidden_layers=1, num_attention_heads=1, intermediate_size=3, num_labels=1)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Small products: what they measure is no matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertjax.sweep.peaks.SIZE", {"cpu": 64})
        yield


@pytest.fixture(scope="module")
def traced(study: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Two trials, each a program of its own, measured twice; with a trace."""
    folder = tmp_path_factory.mktemp("profile")
    two = replace(study, methods=("none", "KP"), max_trials_per_program=1)
    return bench_training(two, rounds=2, mesh="data=2", profile=folder), folder


def test_work_of_a_pass_by_hand() -> None:
    # Batches of 2: 3 and 4 tokens in one of 4; 2 is moved up to meet 6 in one of 6; 5 is alone there. So 3 batches.
    work = pass_work(TINY, np.array([2, 3, 4, 5, 6]), (4, 6), 2, trials=10)
    batches = {4: 1, 6: 2}
    assert work.trial_examples == 50 and work.tokens == 10 * (2 + 3 + 4 + 5 + 6)
    assert work.computed_tokens == 10 * 2 * (4 + 6 + 6)
    assert work.flops == 10 * 2 * sum(count * train_flops(TINY, length) for length, count in batches.items())
    assert work.padding == 1 - 20 / 32


def test_rates_by_hand() -> None:
    made = rates(Work(100, 2000, 2500, 1e9), Timed(4.0, 5, 0.2))
    assert made == pytest.approx({
        "trial_examples_per_s": 25, "tokens_per_s": 500, "computed_tokens_per_s": 625, "model_flops_per_s": 2.5e8,
        "host_seconds_per_chunk": 0.04, "host_share": 0.05})


def test_programs_one_after_another_and_the_spread_over_rounds() -> None:
    assert total([Timed(1.0, 2, 0.5), Timed(3.0, 4, 0.25)]) == Timed(4.0, 6, 0.75)
    assert total([Work(1, 2, 3, 4.0)]) == Work(1, 2, 3, 4.0)
    assert spread([{"a": 3.0}, {"a": 1.0}, {"a": 1.5}]) == {"a": {"min": 1.0, "median": 1.5, "max": 3.0}}


def test_numbers_follow_from_each_other(traced: tuple[dict[str, Any], Path], study: StudyConfig) -> None:
    result = json.loads(json.dumps(traced[0]))
    assert (result["task"], result["rows"], result["trials"], result["layers"]) == ("colours", 48, 2, 1)
    program, other = result["programs"]
    assert program == other and program["groups"] == [1] and program["trials"] == 1
    assert program["mesh"] == {"trial": 1, "data": 2} and program["steps"] == 6
    assert result["trial_examples"] == 2 * 48
    inputs = task_inputs(student_trials(study, "colours", students(study)[0]))
    assert result["tokens"] == 2 * inputs.rows.lengths[:48].sum() <= result["computed_tokens"]
    assert result["padding"] == pytest.approx(1 - result["tokens"] / result["computed_tokens"])
    assert result["flops"] == 2 * 6 * 8 * train_flops(inputs.train_config, max(program["edges"]))
    assert len(result["rounds"]) == 2
    for one in result["rounds"]:
        assert one["trial_examples_per_s"] * one["seconds"] == pytest.approx(result["trial_examples"])
        assert one["tokens_per_s"] * one["seconds"] == pytest.approx(result["tokens"])
        assert one["computed_tokens_per_s"] * one["seconds"] == pytest.approx(result["computed_tokens"])
        assert one["model_flops_per_s"] * one["seconds"] == pytest.approx(result["flops"])
        assert 2 <= one["chunks"] <= 2 * program["steps"] and 0 < one["host_seconds"] < one["seconds"]
        assert one["host_seconds_per_chunk"] * one["chunks"] == pytest.approx(one["host_seconds"])
    for name, over in result["spread"].items():
        assert over["min"] <= over["median"] == result[name] <= over["max"]
    assert result["share_of_peak"] == pytest.approx(result["model_flops_per_s"] / result["peak_flops_per_s"])
    assert result["datasheet_flops_per_s"] is result["share_of_datasheet"] is None  # a CPU has none
    assert result["compilations"] == len(program["edges"]) == 1  # both programs are alike
    assert result["compile_seconds"] > 0
    assert 0 <= result["compile_cache_hits"] <= 1
    assert result["teacher"]["layers"] == 2  # all of the model
    assert result["teacher"]["rows_per_s"] * result["teacher"]["seconds"] == pytest.approx(48)
    assert result["peak_memory_of"] == "process" and result["peak_memory_bytes"] > 1e7
    assert (result["platform"], result["devices"]) == ("cpu", 4) and "jax" in result["versions"]


def test_a_trace_has_the_operations_of_the_program(traced: tuple[dict[str, Any], Path]) -> None:
    made, folder = traced[0]["profile"], traced[1]
    events = json.loads(gzip.decompress(Path(made["perfetto"]).read_bytes()))["traceEvents"]
    operations = {(event.get("args") or {}).get("hlo_op", "") for event in events}
    assert any("dot" in name or "fusion" in name for name in operations)
    planes = {plane.name for plane in jax.profiler.ProfileData.from_file(made["xplane"]).planes}
    assert "/host:CPU" in planes and made["tensorboard"] == str(folder)
    assert Path(made["xplane"]).parent.parent == folder / "plugins" / "profile"  # where TensorBoard looks


@pytest.mark.parametrize(("changes", "options", "said"), [
    ({"tasks": ("a", "b")}, {}, "got 2 tasks"),
    ({"layers": (1, 2)}, {}, "2 students"),
    ({"copies": (1,)}, {}, "copies (1,)"),
    ({}, {"rounds": 0}, "--rounds must be at least 1, got 0"),
    ({"methods": ("none",)}, {"mesh": "trial=99"}, "--mesh trial=99 needs 99 devices; there are 4"),
])
def test_what_cannot_be_measured_is_refused(
    changes: dict[str, Any], options: dict[str, Any], said: str, study: StudyConfig
) -> None:
    with pytest.raises(InputError) as raised:
        bench_training(replace(study, **changes), **options)
    assert said in str(raised.value)
