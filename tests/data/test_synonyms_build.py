"""The script of the synonym tables, on a few made-up lines in WordNet's format."""

from __future__ import annotations

import gzip

from bertjax.data.synonyms.build import build

LICENCE = "  1 This software and database is being provided to you  "


def write_wordnet(folder):
    data = {
        "noun": ["00000001 06 n 03 film 0 movie 0 motion_picture 0 000 | a story",
                 "00000002 06 n 02 film 0 pellicle 0 000 | a thin layer",
                 "00000003 15 n 02 Oslo 0 capital_of_Norway 0 000 | a city",
                 "00000004 06 n 02 picture 0 motion_picture 0 000 | an image",
                 "00000005 06 n 03 movie 0 flick 0 blow 0 000 | a story",
                 "00000006 28 n 02 second 0 moment 0 000 | a short time"],
        "verb": ["00000001 29 v 02 second 0 back 0 000 | support"],
        "adj": ["00000001 00 s 02 big(p) 0 bad 0 000 | intense", "00000002 00 s 02 big 0 large 0 000 | of size",
                "00000003 00 s 01 bad 0 000 | not good"],
        "adv": ["00000001 02 r 02 well 0 good 0 000 | so"],
    }
    index = {
        "noun": ["film n 2 0 2 1 00000001 00000002", "oslo n 1 0 1 0 00000003", "movie n 2 0 2 1 00000001 00000005",
                 "motion_picture n 1 0 1 1 00000001", "pellicle n 1 0 1 0 00000002", "picture n 1 0 1 1 00000004",
                 "second n 1 0 1 1 00000006", "moment n 1 0 1 1 00000006", "flick n 1 0 1 1 00000005",
                 "blow n 1 0 1 1 00000005", "capital_of_norway n 1 0 1 0 00000003"],
        "verb": ["second v 1 0 1 1 00000001", "back v 1 0 1 1 00000001"],
        "adj": ["big a 2 0 2 2 00000002 00000001", "large a 1 0 1 1 00000002", "bad a 2 0 2 2 00000003 00000001"],
        "adv": ["well r 1 0 1 1 00000001", "good r 1 0 1 0 00000001"],
    }
    irregular = {"noun": ["knives knife"], "verb": ["went go", "red red"], "adj": ["better good well"], "adv": []}
    for name in data:
        (folder / f"data.{name}").write_text("\n".join([LICENCE, *data[name]]) + "\n")
        (folder / f"index.{name}").write_text("\n".join([LICENCE, *index[name]]) + "\n")
        (folder / f"{name}.exc").write_text("".join(line + "\n" for line in irregular[name]))
    counts = ["film%1:06:00:: 1 38", "movie%1:06:00:: 1 26", "motion_picture%1:06:00:: 1 4", "second%1:28:00:: 1 9",
              "second%2:29:00:: 1 2", "back%2:29:00:: 1 9", "big%3:00:00:: 1 22", "large%3:00:00:: 1 30",
              "bad%3:00:00:: 1 30", "big%3:00:01:: 2 3", "well%4:02:00:: 1 500", "good%4:02:00:: 1 2"]
    (folder / "cntlist.rev").write_text("\n".join(counts) + "\n")


def table(path):
    return [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def test_first_senses_of_both_without_rare_words_quantities_and_other_senses(tmp_path):
    write_wordnet(tmp_path)
    (tmp_path / "out").mkdir()
    build(tmp_path, tmp_path / "out")
    assert table(tmp_path / "out" / "synonyms.tsv.gz") == [
        ["word", "part", "first", "all", "synonyms"],
        ["back", "v", "10", "10", ""],  # "second" may be a time
        ["bad", "a", "31", "33", ""],  # big in its second sense alone
        ["big", "a", "23", "28", "large"],
        ["film", "n", "39", "41", "movie,motion_picture"],
        ["good", "r", "3", "3", "well"],
        ["large", "a", "31", "31", "big"],
        ["movie", "n", "27", "29", "film,motion_picture"],
        ["second", "n", "10", "10", ""],
        ["second", "v", "3", "3", ""],
        ["well", "r", "501", "501", ""],  # "good" is too rare beside it
    ]
    rows = table(tmp_path / "out" / "irregular.tsv.gz")
    assert rows[0] == ["part", "form", "lemma"]
    assert {("a", "better", "good"), ("n", "knives", "knife"), ("v", "went", "go")} <= set(map(tuple, rows))
    assert ["v", "hurt", "hurt"] in rows
    assert ["v", "red", "red"] not in rows  # it says that this is no past
    assert (tmp_path / "out" / "LICENSE-WORDNET.txt").read_text().startswith("This software")
