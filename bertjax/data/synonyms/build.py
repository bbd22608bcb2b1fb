"""Makes the tables of synonyms from WordNet's files: `python -m bertjax.data.synonyms.build --wordnet-dir DIR`.

DIR is the folder of WordNet 3.0 (Debian's package `wordnet-base`: /usr/share/wordnet). Equal input gives equal bytes.

- synonyms.tsv.gz: a lower-case word, its part of speech (n v a r), how often its first sense was met in WordNet's
  tagged texts, how often any of its senses in this part was (the first once more, the others twice, so that unmet ones
  count), and the first sense's synonyms joined by `,` (`_` joins words). Words without synonyms are listed if they were
  met, for forms that they share with others.
- irregular.tsv.gz: a part of speech, an irregular form and its lemma.

A synonym is read without the sense that it was taken for, so it must be met in the texts, not much less often than the
word, and the shared sense must be its own first. Words that may
be a quantity or a time have none.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertjax.data.samples.build import Row, licence, write_atomically, write_rows

FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
"""WordNet's name of each part of speech."""

KEY_PARTS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
"""Part of speech by the first digit of a sense key (senseidx(5WN)); 5 are the satellites of adjectives."""

AMOUNTS = {"23", "28"}
"""WordNet's files (lexnames(5WN)) of quantities and of time: `thousand`, `double`, `dozen`, `minute`, `decade`."""

MIN_RATIO = 0.03
"""How often a synonym must be met in the shared sense, for each time that the word is: "reddish" is too rare."""

WORD = re.compile(r"[a-z]+(?:[-_'][a-z]+)*")
"""Words and phrases without capitals and digits: no names, no numerals, no chemical symbols."""

SHORTEST = 3
"""Letters of the shortest word that is kept: shorter ones are mostly abbreviations."""

UNCHANGED = {
    "v": """
        beat become beset bet bid broadcast browbeat burst bust cast come cost cut fit forecast hit hurt input inset
        knit let miscast misread offset outbid output outrun overcome overrun overspread precast preset proofread put
        quit read recast reread rerun reset rid run set shed shut slit spit split spread sublet telecast thrust
        typecast undercut underbid upset wed wet
    """,
    "n": """
        aircraft barracks bison cod craft crossroads deer fish gallows headquarters hovercraft means moose offspring
        salmon series sheep shrimp spacecraft species squid swine trout watercraft
    """,
}
"""Lemmas that are also their own past or participle, or plural. WordNet's lists leave them out: where a form there
equals its lemma it says that it is no inflection at all (`feed` is not of `fee`)."""


@dataclass(frozen=True)
class Synset:
    """Words of one meaning."""

    file: str
    """Number of WordNet's file, which is a subject."""
    words: list[str]


def read_synsets(path: Path) -> dict[str, Synset]:
    """The synsets of a `data` file by their offsets (wndb(5WN))."""
    synsets = {}
    for fields in _records(path):
        count = int(fields[3], 16)
        synsets[fields[0]] = Synset(fields[1], [word.partition("(")[0] for word in fields[4 : 4 + 2 * count : 2]])
    return synsets


def read_senses(path: Path) -> dict[str, list[str]]:
    """The synsets of each lemma of an `index` file, most frequent first."""
    return {fields[0]: fields[-int(fields[2]):] for fields in _records(path)}


def _records(path: Path) -> Iterator[list[str]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("  "):  # the licence
            yield line.partition(" | ")[0].split()


def read_counts(path: Path) -> dict[tuple[str, str, int], int]:
    """How often a sense was met, by (lemma, part of speech, number of the sense from 1), from `cntlist.rev`."""
    counts = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, number, count = line.split()
        lemma, _, place = key.partition("%")
        counts[lemma, KEY_PARTS[place[0]], int(number)] = int(count)
    return counts


def synonym_rows(wordnet_dir: Path) -> list[Row]:
    """The rows of synonyms.tsv.gz, in alphabetical order."""
    counts = read_counts(wordnet_dir / "cntlist.rev")
    synsets = {part: read_synsets(wordnet_dir / f"data.{name}") for part, name in FILES.items()}
    senses = {part: read_senses(wordnet_dir / f"index.{name}") for part, name in FILES.items()}
    kept = {word.lower() for part in FILES for synset in synsets[part].values() if synset.file in AMOUNTS
            for word in synset.words}
    first: dict[tuple[str, str], int] = {}
    places: dict[tuple[str, str], int] = {}
    everywhere: dict[str, int] = defaultdict(int)
    for part, lemmas in senses.items():
        for lemma, offsets in lemmas.items():
            met = [counts.get((lemma, part, number), 0) for number in range(1, len(offsets) + 1)]
            first[lemma, part], places[lemma, part] = met[0] + 1, sum(met) + 2 * len(met) - 1
            everywhere[lemma] += sum(met)

    def stands_for(word: str, part: str, offset: str, met: int) -> bool:
        return (fits(word) and word not in kept and senses[part][word][0] == offset
                and first[word, part] >= max(2, MIN_RATIO * met))

    rows: list[Row] = []
    for lemma, part in sorted(first):
        if fits(lemma) and "_" not in lemma:
            offset = senses[part][lemma][0]
            words = [word for word in synsets[part][offset].words if word != lemma and lemma not in kept
                     and stands_for(word, part, offset, first[lemma, part])]
            if words or everywhere[lemma]:
                rows.append((lemma, part, str(first[lemma, part]), str(places[lemma, part]), ",".join(words)))
    return rows


def fits(word: str) -> bool:
    """Whether a word may be replaced, or stand in for one."""
    return len(word) >= SHORTEST and WORD.fullmatch(word) is not None


def irregular_rows(wordnet_dir: Path) -> list[Row]:
    """The rows of irregular.tsv.gz."""
    rows = {(part, lemma, lemma) for part, lemmas in UNCHANGED.items() for lemma in lemmas.split()}
    for part, name in FILES.items():
        for line in (wordnet_dir / f"{name}.exc").read_text(encoding="utf-8").splitlines():
            form, *lemmas = line.split()
            rows |= {(part, form, lemma) for lemma in lemmas if form != lemma and fits(form) and "_" not in form}
    return sorted(rows)


def build(wordnet_dir: Path, out_dir: Path) -> None:
    """Writes the two tables and WordNet's licence."""
    write_atomically(out_dir / "LICENSE-WORDNET.txt", licence(wordnet_dir))
    write_rows(out_dir / "synonyms.tsv.gz", ("word", "part", "first", "all", "synonyms"), synonym_rows(wordnet_dir))
    write_rows(out_dir / "irregular.tsv.gz", ("part", "form", "lemma"), irregular_rows(wordnet_dir))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet-dir", type=Path, required=True)
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    build(arguments.wordnet_dir, arguments.out_dir)
