"""The lines that a sweep leaves in the log."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from bertjax.sweep import view as view_module
from bertjax.sweep.execute import Cost
from bertjax.sweep.view import View
from bertjax.train.running import Progress
from bertjax.words import number_of


def test_things_are_counted_in_english() -> None:
    assert [number_of("trial", count) for count in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]


def test_lines_say_how_many_and_what_the_rate_counts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "PLAIN_SECONDS", -1.0)
    with caplog.at_level(logging.INFO, logger="bertjax"), View(live=False) as view:
        view.planned(1, 1, 2.0)
        view.planned(2, 12, 2.0)
        view.started("p", 2.0)
        view.step("p", Progress(1, 2, 32, 2.0, np.ones(1)))
        view.finished("p", [], Cost(2.0, 0.5, 1, 24))
    said = [record.getMessage() for record in caplog.records]
    assert said == ["1 trial to train, in 1 program", "12 trials to train, in 2 programs", "p: started",
                    "p: step 1/2 · 16 computed trial-examples/s · loss 1.000 · 2 s left",
                    "p: 2.0 s training and evaluating (12 trial-examples/s), compiled 1 time in 0.5 s"]
