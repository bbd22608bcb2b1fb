"""What GLUE's leaderboard asks for: the files of a submission, and the test rows that each of them answers.

A submission is a zip of eleven files (https://gluebenchmark.com/faq). Models of bertjax's eight tasks answer ten of
them: a model of MNLI answers three, as it predicts the diagnostic rows AX too. WNLI is not a task of bertjax.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from bertjax.config import InputError, require
from bertjax.data.examples import Examples, unlabelled
from bertjax.data.glue import TSV_LAYOUTS, hub_tables, read_original, read_shards
from bertjax.data.tables import Table
from bertjax.data.tasks import Task

LEADERBOARD_ROWS = {
    "CoLA.tsv": 1063, "SST-2.tsv": 1821, "MRPC.tsv": 1725, "STS-B.tsv": 1379, "QQP.tsv": 390_965, "MNLI-m.tsv": 9796,
    "MNLI-mm.tsv": 9847, "QNLI.tsv": 5463, "RTE.tsv": 3000, "WNLI.tsv": 146, "AX.tsv": 1104,
}
"""The files of a complete submission, and how many rows each must have: as many as its test split on the hub."""

INDEX_COLUMNS = ("index", "id")
"""What GLUE's test files call the number of a row; "id" is QQP's. The hub calls it `idx`."""


class NoTestRows(InputError):
    """The test rows of a file of the submission are nowhere to be found."""


@dataclass(frozen=True)
class SubmissionFile:
    """One file of a submission, and where its test rows come from."""

    name: str
    """In the submission: `MNLI-m.tsv`."""
    originals: tuple[str, ...]
    """Places below the data folder in GLUE's layout; the first that exists is read."""
    hub_config: str
    """Config of the hub's data set, and its folder in the hub's Parquet layout."""
    hub_split: str = "test"
    optional: bool = False
    """A task is submitted without it where its rows are missing."""


@dataclass(frozen=True)
class SubmissionRows:
    """The rows that one file of a submission answers."""

    name: str
    """In the submission: `MNLI-m.tsv`."""
    index: tuple[int, ...]
    """The benchmark's number of each row, in the order of the test file."""
    examples: Examples
    """Their texts. The labels are not public: zeros stand in."""


def submission_files(task: Task) -> tuple[SubmissionFile, ...]:
    """The files that a model of `task` answers.

    Raises:
        InputError: not a task of GLUE.
    """
    require(task.name in TSV_LAYOUTS,
            f"{task.name} is not on GLUE's leaderboard; its tasks are {', '.join(TSV_LAYOUTS)}")
    if task.name == "mnli":
        halves = (("MNLI-m.tsv", "test_matched"), ("MNLI-mm.tsv", "test_mismatched"))
        return (*(SubmissionFile(name, _places(task, f"{split}.tsv"), "mnli", split) for name, split in halves),
                SubmissionFile("AX.tsv", ("diagnostic/diagnostic.tsv", "MNLI/diagnostic.tsv"), "ax", optional=True))
    # GLUE may not hand out MRPC: its script makes test.tsv of Microsoft's own file, whose rows it numbers from 0.
    places = _places(task, *(("test.tsv", "msr_paraphrase_test.txt") if task.name == "mrpc" else ("test.tsv",)))
    return (SubmissionFile(f"{task.folder}.tsv", places, task.name),)


def load_submission_rows(task: Task, data_dir: Path | None) -> tuple[list[SubmissionRows], list[str]]:
    """The test rows of every file that a model of `task` answers, from a folder in either layout or from the hub.

    Args:
        data_dir: Folder of GLUE; None reads the hub.

    Returns:
        The rows of each file, and for each optional file that has none a line that names it and says why.

    Raises:
        InputError: not a task of GLUE, rows that cannot be found, a broken file, a number that is none or comes twice.
    """
    found, left_out = [], []
    for file in submission_files(task):
        try:
            table, index_column = _hub(file) if data_dir is None else _local(task, file, data_dir)
        except NoTestRows as error:
            if not file.optional:
                raise
            left_out.append(f"{file.name}: {error}")
            continue
        columns = task.text_columns if index_column == "idx" else TSV_LAYOUTS[task.name].text_columns
        found.append(_rows(file.name, table, columns, index_column))
    return found, left_out


def _places(task: Task, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for folder in (task.folder, task.name) for name in names)


def _hub(file: SubmissionFile) -> tuple[Table, str]:
    try:
        return hub_tables(file.hub_config, (file.hub_split,))[file.hub_split], "idx"
    except InputError as error:
        raise NoTestRows(str(error)) from error


def _local(task: Task, file: SubmissionFile, data_dir: Path) -> tuple[Table, str | None]:
    """The rows and their index column; None where the rows are numbered from 0."""
    for place in file.originals:
        path = data_dir / place
        if path.is_file():
            # Test files have a header, CoLA's too, and a row that is left out is one that the leaderboard misses.
            table = read_original(path, dataclasses.replace(TSV_LAYOUTS[task.name], header=None, max_broken_rows=0))
            known = [column for column in INDEX_COLUMNS if column in table.columns]
            return table, None if path.suffix == ".txt" else (known or INDEX_COLUMNS)[0]
    folder = data_dir / file.hub_config
    if any(folder.glob(f"{file.hub_split}-*.parquet")):
        return read_shards(folder, file.hub_split), "idx"
    raise NoTestRows(f"the data folder {data_dir} must hold {file.originals[0]} (GLUE's layout) or "
                     f"{file.hub_config}/{file.hub_split}-*.parquet (the hub's); got neither")


def _rows(name: str, table: Table, columns: tuple[str, ...], index_column: str | None) -> SubmissionRows:
    table.require_columns(columns if index_column is None else (index_column, *columns))
    require(len(table) > 0, f"{table.name} has no rows; it must hold at least one")
    index = tuple(range(len(table))) if index_column is None else _index(table, index_column)
    texts = [table.texts(column) for column in columns]
    return SubmissionRows(name, index, unlabelled(texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))))


def _index(table: Table, column: str) -> tuple[int, ...]:
    numbers: dict[int, int] = {}
    for row, value in enumerate(table.columns[column]):
        try:
            number = int(str(value))
        except ValueError:
            raise InputError(f"{table.where(row)}: {column} must be a whole number, got {value!r}") from None
        require(number not in numbers, f"{table.where(row)}: {column} must number each row once, got {number} again")
        numbers[number] = row
    return tuple(numbers)
