"""The sizes of GLUE's tasks that plans go by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bertjax.config import InputError
from bertjax.data.glue_lengths import CARD, CardSplit, counted, estimated, glue_lengths
from bertjax.data.tasks import GLUE_TASKS, find_task
from bertjax.data.tokens import load_tokenizer

ROWS = {"cola": (8551, 1043), "sst2": (67349, 872), "mrpc": (3668, 408), "stsb": (5749, 1500), "qqp": (363846, 40430),
        "mnli": (392702, 19647), "qnli": (104743, 5463), "rte": (2490, 277)}


@pytest.mark.parametrize("task", GLUE_TASKS, ids=lambda task: task.name)
def test_every_task_has_its_rows_and_says_whether_it_was_counted(task) -> None:
    known = glue_lengths(task)
    assert (len(known.train), known.dev_rows) == ROWS[task.name]
    assert known.estimated == (known.vocabulary is None) == (task.name in CARD)
    assert known.train.min() >= 3 and known.train.max() <= 512 and 11 < known.train.mean() < 75


def test_an_estimate_has_the_cards_mean_and_the_shape_of_another_task() -> None:
    like = {"lengths": [[13, 50], [23, 30], [33, 20]]}  # 10, 20 and 30 tokens and three special ones: 17 on average
    card = CardSplit(rows=1000, dev_rows=7, num_bytes=1000 * (20 + 34 * 5), like="x")
    made = estimated(card, like, bytes_per_token=5)
    assert made["lengths"] == [[23, 500], [43, 300], [63, 200]]
    assert made["estimated"] and made["dev_rows"] == 7 and made["vocabulary"] is None


def test_other_tasks_are_not_known() -> None:
    with pytest.raises(InputError, match="gloss-class are not known without its data"):
        glue_lengths(find_task("gloss-class"))


@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "stsb", "rte"])
def test_the_table_is_what_counting_gives(name: str, data_dir: Path) -> None:
    task = find_task(name)
    entry, ratio = counted(task, data_dir / "glue", load_tokenizer(str(data_dir / "models" / "minilm-l6-h384-uncased")))
    known = glue_lengths(task)
    lengths, counts = np.array(entry["lengths"]).T
    assert np.array_equal(np.repeat(lengths, counts), known.train)
    assert (entry["vocabulary"], entry["dev_rows"]) == (known.vocabulary, known.dev_rows) and 4 < ratio < 5
