"""Files to columns: every format gives the same table, and every broken file an error with its place."""

from __future__ import annotations

import json

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.config import InputError
from bertjax.data.tables import parse_csv, parse_jsonl, parse_tsv, read_table

# Everything that the formats could trip over: quotes, commas, other line ends of Unicode, tabs and line feeds (CSV).
TEXT = st.text(st.sampled_from('a"\',é\u2028\x85\x0b \t\r\n日'), max_size=8)
TAB_FREE = st.text(st.sampled_from('a"\',é\u2028\x85\x0b 日'), min_size=1, max_size=8)


@given(st.lists(st.tuples(TAB_FREE, TAB_FREE), min_size=1))
def test_tsv_keeps_every_character_between_tabs(rows):
    table = parse_tsv("x.tsv", "\n".join("\t".join(row) for row in [("p", "q"), *rows]) + "\n")
    assert list(zip(table.columns["p"], table.columns["q"], strict=True)) == rows


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1))
def test_csv_and_jsonl_read_what_pandas_writes(rows):
    frame = pandas.DataFrame(rows, columns=["p", "q"])
    for table in (parse_csv("x.csv", frame.to_csv(index=False, quoting=1)),
                  parse_jsonl("x.jsonl", "\n".join(json.dumps(row) for row in frame.to_dict("records")))):
        assert list(zip(table.columns["p"], table.columns["q"], strict=True)) == rows


def test_csv_lines_count_line_ends_inside_quotes_and_blank_lines():
    table = parse_csv("x.csv", 'p,q\n"a\nb",1\n\nc,2\n')
    assert table.where(0) == "x.csv line 2"
    assert table.where(1) == "x.csv line 5"


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_fields(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_bytes("\ufeffp\tq\r\n1\t2\r\n".encode())
    assert read_table(path).columns == {"p": ["1"], "q": ["2"]}


@pytest.mark.parametrize(("name", "content", "message"), [
    ("x.tsv", b"p\tq\n1\t2\n1\n", r"x\.tsv line 3: too few fields; a row must have 2 \(p, q\), got 1"),
    ("x.tsv", b"p\tq\n1\t2\t3\n", r"x\.tsv line 2: too many fields"),
    ("x.csv", b'p,q\n"a\nb",1\nc\n', r"x\.csv line 4: too few fields"),
    ("x.csv", b'p,q\n"a,1\n', r"x\.csv line 2: not valid CSV"),
    ("x.jsonl", b'{"p": 1}\n{"p": 2\n', r"x\.jsonl line 2: not valid JSON"),
    ("x.jsonl", b'{"p": 1}\n\n{"q": 2}\n', r"x\.jsonl line 3: missing p; it has q"),
    ("x.jsonl", b"[1]\n", r"x\.jsonl line 1: must be a JSON object"),
    ("x.tsv", b"p\tq\n1\t\xff\n", r"x\.tsv line 2: the file must be UTF-8; got the byte 0xff"),
    ("x.tsv", b"", r"x\.tsv is empty"),
    ("x.csv", b"\n\n", r"x\.csv is empty"),
    ("x.csv", b"p,p\n1,2\n", r"x\.csv must not name a column twice; got p"),
    ("x.parquet", b"PAR1 nonsense", r"x\.parquet cannot be read as Parquet"),
    ("x.txt", b"p\n", r"must be a \.csv, \.tsv, \.jsonl, \.parquet file; got \.txt"),
])
def test_a_broken_file_is_one_line_with_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_table(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_a_missing_file_and_a_folder_are_named(tmp_path, suffix):
    with pytest.raises(InputError, match=f"none.{suffix} does not exist"):
        read_table(tmp_path / f"none.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(InputError, match=f"folder.{suffix}"):
        read_table(tmp_path / f"folder.{suffix}")


def test_missing_columns_say_which_exist(tmp_path):
    table = parse_tsv("x.tsv", "p\tq\n1\t2\n")
    with pytest.raises(InputError, match="x.tsv must have the columns p, z; missing z, it has p, q"):
        table.require_columns(("p", "z"))
