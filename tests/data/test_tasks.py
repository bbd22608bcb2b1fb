"""The table of tasks: names, labels and metrics hang together, and a wrong name is answered with the right ones."""

from __future__ import annotations

import pytest

from bertjax.config import InputError
from bertjax.data.glue import TSV_LAYOUTS
from bertjax.data.tasks import GLUE_TASKS, METRICS, TASKS, find_task


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_is_consistent(task):
    assert 1 <= len(task.text_columns) <= 2
    assert set(task.score_metrics) <= set(task.metrics) <= set(METRICS)
    assert task.regression == ("pearson" in task.metrics) == ("accuracy" not in task.metrics)
    assert task.num_labels == (1 if task.regression else len(task.label_names))
    assert len(set(task.label_names)) == len(task.label_names)


def test_every_glue_task_has_a_tsv_layout_with_a_file_per_dev_split():
    assert set(TSV_LAYOUTS) == {task.name for task in GLUE_TASKS}
    for task in GLUE_TASKS:
        assert len(TSV_LAYOUTS[task.name].dev_files) == len(task.dev_splits)
        assert len(TSV_LAYOUTS[task.name].text_columns) == len(task.text_columns)


def test_metrics_of_the_eight_glue_tasks():
    expected = {"cola": {"mcc", "accuracy"}, "sst2": {"accuracy"}, "mrpc": {"accuracy", "f1"},
                "stsb": {"pearson", "spearman"}, "qqp": {"accuracy", "f1"}, "mnli": {"accuracy"},
                "qnli": {"accuracy"}, "rte": {"accuracy"}}
    assert {task.name: set(task.metrics) for task in GLUE_TASKS} == expected
    assert find_task("mnli").dev_splits == ("validation_matched", "validation_mismatched")


@pytest.mark.parametrize("task", GLUE_TASKS, ids=lambda task: task.name)
def test_a_task_is_found_by_hub_name_and_folder_in_any_case(task):
    for name in (task.name, task.folder, task.folder.lower(), task.name.upper()):
        assert find_task(name) is task


def test_an_unknown_task_is_answered_with_the_known_ones_and_the_closest():
    with pytest.raises(InputError, match=r"'sst3' \(did you mean 'sst2'\?\); .*cola, sst2.*gloss-class"):
        find_task("sst3")
    with pytest.raises(InputError, match="^unknown task 'zzzz'; the tasks are"):
        find_task("zzzz")
