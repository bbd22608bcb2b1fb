"""The test rows of GLUE's leaderboard: every source gives the same rows, in their order, with their own numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertjax.config import InputError
from bertjax.data.leaderboard import LEADERBOARD_ROWS, load_submission_rows, submission_files
from bertjax.data.tasks import GLUE_TASKS, Task, find_task
from tests.glue_test_rows import FILES, INDEX, files_of, pretend_hub, write_original, write_parquet


@pytest.mark.parametrize("source", ["original", "parquet", "hub"])
@pytest.mark.parametrize("task", GLUE_TASKS, ids=lambda task: task.name)
def test_every_source_gives_the_same_test_rows(
    task: Task, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(task.name)
    if source == "hub":
        pretend_hub(files, monkeypatch)
    else:
        {"original": write_original, "parquet": write_parquet}[source](tmp_path, files)
    found, left_out = load_submission_rows(task, None if source == "hub" else tmp_path)
    assert left_out == [] and [rows.name for rows in found] == [file.name for file in files]
    for rows, file in zip(found, files, strict=True):
        assert rows.index == INDEX
        texts = [part for part in (rows.examples.first, rows.examples.second) if part is not None]
        assert list(zip(*texts, strict=True)) == file.texts


def test_the_eight_tasks_answer_all_files_of_a_submission_but_wnli() -> None:
    answered = [file.name for task in GLUE_TASKS for file in submission_files(task)]
    assert sorted(answered) == sorted(set(LEADERBOARD_ROWS) - {"WNLI.tsv"}) == sorted(file.name for file in FILES)


def test_microsofts_own_mrpc_file_is_numbered_from_0(tmp_path: Path) -> None:
    (tmp_path / "MRPC").mkdir()
    path = tmp_path / "MRPC" / "msr_paraphrase_test.txt"
    path.write_text("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t5\t6\ta\tb\n0\t7\t8\tc\td\n", "utf-8")
    (rows,), _ = load_submission_rows(find_task("mrpc"), tmp_path)
    assert (rows.index, rows.examples.first, rows.examples.second) == ((0, 1), ["a", "c"], ["b", "d"])
    write_original(tmp_path, files_of("mrpc"))  # GLUE's own file counts where both are there
    assert load_submission_rows(find_task("mrpc"), tmp_path)[0][0].index == INDEX


@pytest.mark.parametrize("source", ["original", "parquet", "hub"])
def test_mnli_does_without_the_diagnostic_rows_and_says_so(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of("mnli")[:2]
    if source == "hub":
        pretend_hub(files, monkeypatch)
    else:
        {"original": write_original, "parquet": write_parquet}[source](tmp_path, files)
    found, (line,) = load_submission_rows(find_task("mnli"), None if source == "hub" else tmp_path)
    assert [rows.name for rows in found] == ["MNLI-m.tsv", "MNLI-mm.tsv"]
    assert line.startswith("AX.tsv: ") and "\n" not in line
    assert ("Couldn't reach the hub" if source == "hub" else "diagnostic/diagnostic.tsv") in line


def test_broken_diagnostic_rows_are_an_error_not_an_omission(tmp_path: Path) -> None:
    write_original(tmp_path, files_of("mnli"))
    (tmp_path / "diagnostic" / "diagnostic.tsv").write_text("index\tsentence1\tsentence2\n0\ta\n")
    with pytest.raises(InputError, match=r"diagnostic\.tsv line 2: too few fields"):
        load_submission_rows(find_task("mnli"), tmp_path)


@pytest.mark.parametrize("missing", ["MNLI-m.tsv", "MNLI-mm.tsv"])
def test_mnli_needs_both_of_its_own_files(missing: str, tmp_path: Path) -> None:
    write_original(tmp_path, [file for file in files_of("mnli") if file.name != missing])
    with pytest.raises(InputError, match=r"must hold MNLI/test_\w+\.tsv .* mnli/test_\w+-\*\.parquet"):
        load_submission_rows(find_task("mnli"), tmp_path)


@pytest.mark.parametrize(("task", "content", "message"), [
    ("sst2", "sentence\tlabel\na fine film\t1\n", "must have the columns index, sentence; missing index"),
    ("mrpc", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t5\t6\ta\tb\n", "missing index"),
    ("sst2", "index\tsentence\nx\ta\n", r"test\.tsv line 2: index must be a whole number, got 'x'"),
    ("sst2", "index\tsentence\n0\ta\n1\tb\n0\tc\n", r"line 4: index must number each row once, got 0 again"),
    ("qqp", "id\tquestion1\tquestion2\n0\ta\tb\n1\tc\n", r"line 3: too few fields"),
    ("cola", "index\tsentence\n", "has no rows"),
])
def test_bad_test_files_are_named(task: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / find_task(task).folder / "test.tsv"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        load_submission_rows(find_task(task), tmp_path)
    assert "\n" not in str(raised.value)


def test_numbers_of_the_hub_must_be_whole(tmp_path: Path) -> None:
    import pandas

    (tmp_path / "rte").mkdir()
    rows = pandas.DataFrame({"sentence1": ["a"], "sentence2": ["b"], "label": [-1], "idx": [1.5]})
    rows.to_parquet(tmp_path / "rte" / "test-00000-of-00001.parquet")
    with pytest.raises(InputError, match=r"row 1: idx must be a whole number, got 1\.5"):
        load_submission_rows(find_task("rte"), tmp_path)


def test_nothing_there_and_no_hub_and_no_glue_task_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_hub([], monkeypatch)
    for task, folder, message in (("rte", tmp_path, r"RTE/test\.tsv .* rte/test-\*\.parquet"),
                                  ("rte", None, "Couldn't reach the hub.*--data-dir a folder of GLUE$"),
                                  ("gloss-class", tmp_path, "gloss-class is not on GLUE's leaderboard; its tasks are")):
        with pytest.raises(InputError, match=message) as raised:
            load_submission_rows(find_task(task), folder)
        assert "\n" not in str(raised.value)
