"""Reading CSV, TSV, JSONL and Parquet files into columns, with errors that name the file and the line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertjax.config import InputError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Table:
    """Columns of equal length, and where each row stood."""

    name: str
    """The file, for messages."""
    columns: dict[str, list]
    lines: Sequence[int]
    """Line in the file of each row, counted from 1; for Parquet the row's number."""
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """The place of a row, for messages: `train.tsv line 12`."""
        return f"{self.name} {self.unit} {self.lines[row]}"

    def require_columns(self, names: Sequence[str]) -> None:
        """Raises unless every column of `names` exists."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise InputError(f"{self.name} must have the columns {', '.join(names)}; missing {', '.join(missing)}, "
                             f"it has {', '.join(self.columns) or 'none'}")

    def texts(self, name: str) -> list[str]:
        """A column whose values must all be text."""
        for row, value in enumerate(self.columns[name]):
            if not isinstance(value, str):
                raise InputError(f"{self.where(row)}: {name} must be text, got {value!r}")
        return self.columns[name]


def read_table(path: Path) -> Table:
    """Reads a file by its suffix.

    Raises:
        InputError: the file is missing, empty, broken, not UTF-8, of another suffix, or a row has too few or too many
            fields.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} must be a {', '.join(SUFFIXES)} file; got {path.suffix or 'no suffix'}")
    if path.suffix == ".parquet":
        return read_parquet([path])
    parse = {".csv": parse_csv, ".tsv": parse_tsv, ".jsonl": parse_jsonl}[path.suffix]
    return parse(str(path), read_text(path))


def read_text(path: Path) -> str:
    """The whole file as text."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return decode(str(path), raw)


def decode(name: str, raw: bytes) -> str:
    """UTF-8 text, without a byte-order mark; raises naming the line of the first byte that is not UTF-8."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name} line {line}: the file must be UTF-8; got the byte 0x{raw[error.start]:02x}") from None
    if not text.strip():
        raise InputError(f"{name} is empty; it must hold at least one row")
    return text


def split_lines(text: str) -> list[str]:
    """Lines without their ends. Only line feeds end a line: texts may hold U+2028 and the like (`str.splitlines`)."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def parse_tsv(name: str, text: str) -> Table:
    """A line of column names, then tab-separated fields; quotes are ordinary characters."""
    names, *rows = [line.split("\t") for line in split_lines(text)]
    return table_of(name, names, rows, range(2, len(rows) + 2))


def parse_csv(name: str, text: str) -> Table:
    """Comma-separated fields with a header line; fields with commas, quotes or line ends stand in double quotes."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        start = 1
        for fields in reader:
            if fields:
                rows.append(fields)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{name} line {reader.line_num}: not valid CSV ({error})") from None
    return table_of(name, rows[0], rows[1:], lines[1:])


def table_of(name: str, names: Sequence[str], rows: list[list[str]], lines: Sequence[int]) -> Table:
    """A table of rows of fields; raises at the first row that has not one field per name."""
    twice = sorted({column for column in names if list(names).count(column) > 1})
    if twice:
        raise InputError(f"{name} must not name a column twice; got {', '.join(twice)} more than once")
    for fields, line in zip(rows, lines, strict=True):
        if len(fields) != len(names):
            few_or_many = "few" if len(fields) < len(names) else "many"
            raise InputError(f"{name} line {line}: too {few_or_many} fields; a row must have {len(names)} "
                             f"({', '.join(names)}), got {len(fields)}")
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return Table(name, {key: list(column) for key, column in zip(names, columns, strict=True)}, lines)


def parse_jsonl(name: str, text: str) -> Table:
    """One JSON object per line, all with the keys of the first; blank lines are skipped."""
    rows: list[dict] = []
    lines: list[int] = []
    for line, content in enumerate(split_lines(text), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise InputError(f"{name} line {line}: not valid JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise InputError(f"{name} line {line}: must be a JSON object of named columns, got {content[:40]!r}")
        missing = [key for key in rows[0] if key not in row] if rows else []
        if missing:
            raise InputError(f"{name} line {line}: missing {', '.join(missing)}; it has {', '.join(row) or 'none'}")
        rows.append(row)
        lines.append(line)
    return Table(name, {key: [row[key] for row in rows] for key in rows[0]}, lines)


def read_parquet(paths: Sequence[Path]) -> Table:
    """The rows of one or more Parquet files (shards), in the order given."""
    import pyarrow
    import pyarrow.parquet

    try:
        # Not `read_table`: it takes a folder for a data set, and parts of the path like `a=b` for columns.
        table = pyarrow.concat_tables([pyarrow.parquet.ParquetFile(path).read() for path in paths])
    except FileNotFoundError:
        raise InputError(f"{paths[0]} does not exist") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{paths[0]} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return Table(str(paths[0]), columns, range(1, table.num_rows + 1), unit="row")
