"""What a plan says before anything is there."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import pytest

from bertjax.config import InputError
from bertjax.study import StudyConfig
from bertjax.sweep.devices import DEVICES, Devices, parse_device
from bertjax.sweep.experiments import load_study
from bertjax.sweep.forecast import describe_plan, plan_rows
from bertjax.sweep.inputs import EVAL_COMPILE_SHARE, task_inputs
from bertjax.sweep.outline import outline
from bertjax.train.trial import student_trials, students


def test_the_whole_study_of_the_paper_is_planned_without_a_download() -> None:
    text = describe_plan(load_study("movva2022"), device="v5e:4x4")
    # 6 sizes, 8 tasks, 12 settings of the eight subsets, 2 learning rates, 3 seeds.
    # At most 32 trials a program, and less where a chip's memory wants it, or the mesh.
    assert (found := re.search(r"3,456 trials in (\d+) programs", text)) and int(found[1]) > 192
    assert "8 teachers" in text
    assert re.search(r"e\+19 FLOPs; on 16 × v5e about [\d.]+ hours, at 40 % of the peak of 197 TFLOP/s", text)
    assert "16 × v5e device(s)" in text and "trial=2,data=8" in text
    held = [int(megabytes.replace(",", "")) for megabytes in re.findall(r"([\d,]+) MB$", text, re.MULTILINE)]
    assert max(held) < 0.95 * 16_000 and "more than" not in text
    mnli = next(line for line in text.splitlines() if line.startswith("mnli") and "teacher" in line)
    # A teacher trains on what is not held out: 390,702 rows in batches of 32, three times.
    assert "teacher large" in mnli and f"≈{3 * -(-390_702 // 32):,}" in mnli


def test_k_trains_longer_and_counts_its_copies() -> None:
    study = replace(load_study("movva2022"), sizes=("tiny",), tasks=("rte",), learning_rates=(1e-4,))
    teacher, short, long = plan_rows(study, None, Devices(1, "cpu", None))
    assert (short.trials, long.trials) == (18, 18) and (teacher.trials, teacher.role) == (1, "teacher")
    assert short.outline.steps == 3 * -(-2490 // 32) and long.outline.steps == 3 * -(-2 * 2490 // 32)
    assert long.flops(2) == pytest.approx(2 * short.flops(2), rel=0.1)
    assert teacher.flops(2) > teacher.flops(1) > teacher.trials * teacher.outline.trial_flops


def test_a_plan_has_the_batch_lengths_of_its_devices_and_what_compiling_them_takes() -> None:
    study = replace(load_study("movva2022"), sizes=("tiny",), tasks=("rte",), methods=("none",))
    (here,), (there,) = (plan_rows(study, None, Devices(count, platform, None))
                         for count, platform in ((1, "cpu"), (16, "tpu")))
    assert len(here.outline.edges) > 1 and there.outline.edges == here.outline.edges[-1:] == (128,)
    assert len(here.outline.eval_edges) == 4 and len(there.outline.eval_edges) == 1
    assert (here.compilations, there.compilations) == (len(here.outline.edges) + 4, 2)
    assert here.compile_seconds("cpu") == pytest.approx(2 * 4 * (len(here.outline.edges) + 4 * EVAL_COMPILE_SHARE))
    assert there.compile_seconds("tpu") == pytest.approx(2 * 10 * (1 + EVAL_COMPILE_SHARE))
    assert "compilation: about 0 minutes more, at 10 s for each encoder layer" in describe_plan(study, device="v5e:4x4")


def test_an_outline_of_data_at_hand_is_that_of_the_program(study: StudyConfig) -> None:
    trials = student_trials(study, "colours", students(study)[0])
    inputs, known = task_inputs(trials), outline(trials, Devices(1, "cpu", None))
    assert (known.edges, known.eval_edges, known.padding) == (inputs.edges, inputs.eval_edges, inputs.padding)
    assert known.steps == 36 and known.config == inputs.train_config and not known.estimated


def test_devices_with_their_chips() -> None:
    assert parse_device("v5e:2x4") == (DEVICES["v5e"], 8) and parse_device("h200") == (DEVICES["h200"], 1)
    assert parse_device("cpu:16") == (DEVICES["cpu"], 16) and parse_device("cpu") == (DEVICES["cpu"], os.cpu_count())
    for text in ("v9", "h100:", "h100:0", "v5e:2x", ""):
        with pytest.raises(InputError, match="device must be one of v4, v5e"):
            parse_device(text)


def test_tpu_slices_that_there_are() -> None:
    for text, chips in (("v5e", 1), ("v6e:1x1", 1), ("v5e:8x16", 128), ("v6e:16x16", 256), ("v5e:4", 4),
                        ("v4:2x2x1", 4), ("v5p:4x8x12", 384), ("v4:16", 16)):
        assert parse_device(text) == (DEVICES[text.partition(":")[0]], chips)
    for text in ("v5e:3x3", "v5e:4x2", "v6e:2x2x2", "v5e:2", "v6e:32x32"):
        with pytest.raises(InputError, match=f"^{text[:3]} has slices of 1x1, 2x2, 2x4, .*16x16; got '{text}'$"):
            parse_device(text)
    for text in ("v4:4x4", "v5p:2x2x3", "v4:6x4x4", "v5p:9"):
        name = text.partition(":")[0]
        with pytest.raises(InputError, match=f"slices like {name}:2x2x4, of three sides that are 1, 2 or a mult"):
            parse_device(text)


def test_a_plan_for_a_device_too_small_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    study = replace(load_study("movva2022"), sizes=("large",), tasks=("rte",))
    with monkeypatch.context() as patch:
        patch.setitem(DEVICES, "v5e", replace(DEVICES["v5e"], memory_bytes=4e9))
        text = describe_plan(study, device="v5e:4")
    assert re.search(r"needs [5-9]\.\d GB on each device, more than 95 % of its 4\.0 GB: take a smaller model", text)
    assert "72 trials in 72 programs" in text
    assert "trial=4,data=1" in describe_plan(study, "trial=4", device="v5e:4")
    with pytest.raises(InputError, match="--mesh trial=8 needs 8 devices; there are 4"):
        describe_plan(study, "trial=8", device="v5e:4")
