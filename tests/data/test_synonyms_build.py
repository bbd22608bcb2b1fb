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
                 "00000004 06 n 01 stone 0 000 | a rock"],
        "verb": ["00000001 29 v 02 film 0 shoot 0 000 | record"],
        "adj": ["00000001 00 s 02 good(p) 0 full 0 000 | having"],
        "adv": ["00000001 02 r 02 well 0 good 0 000 | so"],
    }
    index = {
        "noun": ["film n 2 0 2 1 00000001 00000002", "oslo n 1 0 1 0 00000003", "stone n 1 0 1 0 00000004"],
        "verb": ["film v 1 1 @ 1 0 00000001"],
        "adj": ["good a 1 0 1 1 00000001"],
        "adv": ["good r 1 0 1 1 00000001"],
    }
    irregular = {"noun": ["knives knife"], "verb": ["went go", "red red"], "adj": ["better good well"], "adv": []}
    for name in data:
        (folder / f"data.{name}").write_text("\n".join([LICENCE, *data[name]]) + "\n")
        (folder / f"index.{name}").write_text("\n".join([LICENCE, *index[name]]) + "\n")
        (folder / f"{name}.exc").write_text("".join(line + "\n" for line in irregular[name]))
    counts = ["film%1:06:00:: 1 38", "movie%1:06:00:: 1 26", "shoot%2:29:00:: 1 2", "good%5:00:00:full:00 1 22",
              "full%5:00:00:good:00 1 9", "well%4:02:00:: 1 5"]
    (folder / "cntlist.rev").write_text("\n".join(counts) + "\n")


def table(path):
    return [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def test_senses_in_order_with_counts_and_without_rare_words_and_names(tmp_path):
    write_wordnet(tmp_path)
    (tmp_path / "out").mkdir()
    build(tmp_path, tmp_path / "out")
    assert table(tmp_path / "out" / "synonyms.tsv.gz") == [
        ["word", "part", "senses"],
        ["film", "n", "38:movie,motion_picture|0:"],  # no pellicle, which the tagged texts lack
        ["film", "v", "0:shoot"],
        ["good", "a", "22:full"],
        ["good", "r", "0:well"],
    ]
    assert table(tmp_path / "out" / "irregular.tsv.gz") == [
        ["part", "form", "lemma"], ["a", "better", "good"], ["a", "better", "well"], ["n", "knives", "knife"],
        ["v", "went", "go"],
    ]
    assert (tmp_path / "out" / "LICENSE-WORDNET.txt").read_text().startswith("This software")
