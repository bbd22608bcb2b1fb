"""Own files read with the classes of a model: a file need not hold them all, nor in the model's spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertjax.config import InputError
from bertjax.data.sources import TaskData, load_rows


def read(folder: Path, labels: tuple[str, ...], classes: tuple[str, ...]) -> TaskData:
    file = folder / "dev.csv"
    file.write_text("text,label\n" + "".join(f"a text,{label}\n" for label in labels))
    return load_rows(None, {"dev_file": str(file)}, classes)


def test_a_file_may_lack_some_of_the_classes_that_are_given(tmp_path: Path) -> None:
    data = read(tmp_path, ("c", "a", "c"), ("b", "c", "a"))
    assert data.task.label_names == ("b", "c", "a") and data.dev["validation"].labels.tolist() == [1, 2, 1]
    assert read(tmp_path, ("c", "c"), ("b", "c", "a")).dev["validation"].labels.tolist() == [1, 1]
    assert read(tmp_path, ("c", "a", "c"), ()).task.label_names == ("a", "c")


def test_classes_that_are_given_are_found_in_upper_or_lower_case(tmp_path: Path) -> None:
    data = read(tmp_path, ("positive", "Negative"), ("NEGATIVE", "POSITIVE", "Neutral"))
    assert data.task.label_names == ("Negative", "positive", "Neutral")
    assert data.dev["validation"].labels.tolist() == [1, 0]
    assert read(tmp_path, ("a", "A"), ("A", "a")).dev["validation"].labels.tolist() == [1, 0]


def test_a_label_outside_the_classes_that_are_given_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dev.csv line 3: label must be one of a, b; got 'd'"):
        read(tmp_path, ("a", "d"), ("a", "b"))
