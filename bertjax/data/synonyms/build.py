"""Makes the tables of synonyms from WordNet's files: `python -m bertjax.data.synonyms.build --wordnet-dir DIR`.

DIR is the folder of WordNet 3.0 (Debian's package `wordnet-base`: /usr/share/wordnet). Equal input gives equal bytes.

- synonyms.tsv.gz: a lower-case word, its part of speech (n v a r), and its first senses in WordNet's order, joined by
  `|`: how often the sense was met in WordNet's tagged texts, `:`, and its synonyms joined by `,` (`_` joins words).
  Single words that were never met in these texts are rare, and no synonyms here. Words without a synonym in any part of
  speech are left out.
- irregular.tsv.gz: a part of speech, an irregular form and its lemma.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from bertjax.data.samples.build import Row, licence, write_atomically, write_rows

FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
"""WordNet's name of each part of speech."""

KEY_PARTS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
"""Part of speech by the first digit of a sense key (senseidx(5WN)); 5 are the satellites of adjectives."""

MAX_SENSES = 3
"""Senses kept of each word and part of speech."""

WORD = re.compile(r"[a-z]+(?:[-_'][a-z]+)*")
"""Words and phrases without capitals and digits: no names, no numerals, no chemical symbols."""

SHORTEST = 3
"""Letters of the shortest word that is kept: shorter ones are mostly abbreviations."""


def read_synsets(path: Path) -> dict[str, list[str]]:
    """The words of each synset of a `data` file by its offset (wndb(5WN))."""
    synsets = {}
    for fields in _records(path):
        count = int(fields[3], 16)
        synsets[fields[0]] = [word.partition("(")[0] for word in fields[4 : 4 + 2 * count : 2]]
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
    found: dict[str, list[tuple[str, list[tuple[int, list[str]]]]]] = defaultdict(list)
    met = {(lemma, part) for lemma, part, _ in counts}
    for part, name in FILES.items():
        synsets = read_synsets(wordnet_dir / f"data.{name}")

        def synonyms(lemma: str, synset: str, part: str = part, synsets: dict[str, list[str]] = synsets) -> list[str]:
            return [word for word in synsets[synset] if word != lemma and fits(word)
                    and ("_" in word or (word, part) in met)]

        for lemma, offsets in read_senses(wordnet_dir / f"index.{name}").items():
            if fits(lemma) and "_" not in lemma:
                senses = [(counts.get((lemma, part, number), 0), synonyms(lemma, offset))
                          for number, offset in enumerate(offsets[:MAX_SENSES], start=1)]
                found[lemma].append((part, senses))
    return [(lemma, part, "|".join(f"{count}:{','.join(words)}" for count, words in senses))
            for lemma, parts in sorted(found.items()) if any(words for _, senses in parts for _, words in senses)
            for part, senses in parts]


def fits(word: str) -> bool:
    """Whether a word may be replaced, or stand in for one."""
    return len(word) >= SHORTEST and WORD.fullmatch(word) is not None


def irregular_rows(wordnet_dir: Path) -> list[Row]:
    """The rows of irregular.tsv.gz."""
    rows = set()
    for part, name in FILES.items():
        for line in (wordnet_dir / f"{name}.exc").read_text(encoding="utf-8").splitlines():
            form, *lemmas = line.split()
            rows |= {(part, form, lemma) for lemma in lemmas if form != lemma and fits(form) and "_" not in form}
    return sorted(rows)


def build(wordnet_dir: Path, out_dir: Path) -> None:
    """Writes the two tables and WordNet's licence."""
    write_atomically(out_dir / "LICENSE-WORDNET.txt", licence(wordnet_dir))
    write_rows(out_dir / "synonyms.tsv.gz", ("word", "part", "senses"), synonym_rows(wordnet_dir))
    write_rows(out_dir / "irregular.tsv.gz", ("part", "form", "lemma"), irregular_rows(wordnet_dir))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet-dir", type=Path, required=True)
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    build(arguments.wordnet_dir, arguments.out_dir)
