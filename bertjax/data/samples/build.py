"""Makes the bundled tasks from WordNet's noun glosses: `python -m bertjax.data.samples.build --wordnet-dir DIR`.

DIR is the folder of WordNet 3.0's `data.noun` (Debian's package `wordnet-base`: /usr/share/wordnet). Equal input gives
equal bytes. A gloss is a synset's definition without its examples; each noun gloss is given to training or to dev once
for all three tasks, and serves at most once per task, so that no gloss stands on both sides. The tree is the one of
every synset's first hypernym.

- gloss-class: a gloss and its lexicographer class, ten classes of equal size.
- gloss-sense: two glosses; `close` are parent and child or two children of one parent, `unrelated` are glosses of
  other such pairs dealt anew within the same lexicographer class, so that neither gloss alone tells the label.
- gloss-similarity: two glosses and five times the Wu-Palmer similarity of their synsets, in (0, 5].

The plain 6-layer MiniLM scores 82.6 on gloss-sense (always giving the same answer: 50.0) and 58.5 on gloss-similarity
(0), by `bertjax train --model minilm --task gloss-sense --methods none --reinit-pooler True --learning-rate 1e-4
--run-dir RUN`; and 83.6 on gloss-class (10.0) as the teacher of `make demo`, which reads half of its rows.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertjax.data.draws import draw_order
from bertjax.data.tasks import GLOSS_CLASSES

ROWS = {"train": 4000, "validation": 1000}
DEV_EVERY = 5
"""One gloss in this many is a dev gloss."""
WORDS = (4, 14)
"""Fewest and most words of a gloss: short enough for a demo on a CPU, long enough to say something."""
CLOSEST_UNRELATED = 4
"""An unrelated pair is more than this many steps apart in the tree."""

LEXICOGRAPHER_CLASSES = (
    "Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling", "food",
    "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession", "process", "quantity",
    "relation", "shape", "state", "substance", "time",
)
"""WordNet's noun files, numbered from 3 (lexnames(5WN))."""

Row = tuple[str, ...]


@dataclass(frozen=True)
class Noun:
    """A noun synset that can serve as a sample."""

    offset: int
    lexicographer_class: str
    gloss: str
    path: tuple[int, ...]
    """Offsets from the synset itself up to the root."""


def read_nouns(lines: Sequence[str]) -> list[Noun]:
    """The synsets of `data.noun` whose gloss is unique and of fitting length, in file order; instances are left out."""
    parents: dict[int, int] = {}
    found: list[tuple[int, str, str]] = []
    for line in lines:
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        words = fields.split(" ")
        offset, pointers = int(words[0]), words[5 + 2 * int(words[3], 16):]
        hypernyms = [int(target) for symbol, target in zip(pointers[0::4], pointers[1::4], strict=False)
                     if symbol == "@"]
        if hypernyms:
            parents[offset] = hypernyms[0]
            found.append((offset, LEXICOGRAPHER_CLASSES[int(words[1]) - 3], definition(gloss)))
    times: dict[str, int] = defaultdict(int)
    for _, _, gloss in found:
        times[gloss.lower()] += 1
    return [Noun(offset, name, gloss, path_to_root(offset, parents)) for offset, name, gloss in found
            if times[gloss.lower()] == 1 and WORDS[0] <= len(gloss.split()) <= WORDS[1]]


def definition(gloss: str) -> str:
    """A gloss without its examples in quotes and without doubled spaces."""
    return " ".join(gloss.split('; "')[0].split()).strip(" ;")


def path_to_root(offset: int, parents: dict[int, int]) -> tuple[int, ...]:
    """The synset, its parent, and so on up to the root."""
    path = [offset]
    while path[-1] in parents:
        path.append(parents[path[-1]])
    return tuple(path)


def distance(a: Noun, b: Noun) -> int:
    """Steps between two synsets in the tree."""
    return len(a.path) + len(b.path) - 2 * common_depth(a, b)


def common_depth(a: Noun, b: Noun) -> int:
    """Depth of the lowest common ancestor; the root's is 1."""
    return len(set(a.path) & set(b.path))


def words(*entropy: int) -> Iterator[int]:
    """An endless stream of random 64-bit integers that is the same in every version of NumPy."""
    stream = np.random.Philox(np.random.SeedSequence(entropy))
    while True:
        yield int(stream.random_raw())


def class_rows(nouns: Sequence[Noun], count: int, seed: int) -> list[Row]:
    """(gloss, class), `count / 10` of each class."""
    rows: list[Row] = []
    for name in GLOSS_CLASSES:
        members = [noun for noun in nouns if noun.lexicographer_class == name]
        chosen = draw_order(len(members), seed, 1)[:count // len(GLOSS_CLASSES)]
        rows += [(members[index].gloss, name) for index in chosen]
    return shuffled(rows, seed)


def sense_rows(nouns: Sequence[Noun], count: int, seed: int) -> list[Row]:
    """(gloss, gloss, `close` or `unrelated`), half each."""
    by_class: dict[str, list[tuple[Noun, Noun]]] = defaultdict(list)
    for pair in close_pairs(nouns, seed)[:count + count // 20]:  # a few more, for seconds that find no first
        by_class[pair[0].lexicographer_class].append(pair)
    close: list[Row] = []
    unrelated: list[Row] = []
    for pairs in by_class.values():
        half = len(pairs) // 2
        close += [(a.gloss, b.gloss, "close") for a, b in pairs[:half]]
        seconds = [b for _, b in pairs[half:]]
        for a, _ in pairs[half:]:
            far = next((i for i, b in enumerate(seconds) if distance(a, b) > CLOSEST_UNRELATED), None)
            if far is not None:
                unrelated.append((a.gloss, seconds.pop(far).gloss, "unrelated"))
    return shuffled(shuffled(close, seed)[:count // 2] + shuffled(unrelated, seed)[:count // 2], seed)


def close_pairs(nouns: Sequence[Noun], seed: int) -> list[tuple[Noun, Noun]]:
    """Disjoint pairs of parent and child, or of two children of one parent, within one lexicographer class."""
    family: dict[int, list[Noun]] = defaultdict(list)
    for noun in nouns:
        family[noun.path[1]].append(noun)
        family[noun.offset].append(noun)
    used: set[int] = set()
    pairs = []
    draws = words(seed, 2)
    for index in draw_order(len(nouns), seed, 3):
        noun = nouns[index]
        candidates = [other for other in family[noun.path[1]] if other.offset not in used and other != noun
                      and other.lexicographer_class == noun.lexicographer_class]
        if noun.offset in used or not candidates:
            continue
        other = candidates[next(draws) % len(candidates)]
        used |= {noun.offset, other.offset}
        pairs.append((noun, other))
    return pairs


def similarity_rows(nouns: Sequence[Noun], count: int, seed: int) -> list[Row]:
    """(gloss, gloss, score): the second is drawn below an ancestor of the first, each ancestor equally likely."""
    below: dict[int, list[Noun]] = defaultdict(list)
    for noun in nouns:
        for ancestor in noun.path:
            below[ancestor].append(noun)
    used: set[int] = set()
    rows: list[Row] = []
    draws = words(seed, 4)
    for index in draw_order(len(nouns), seed, 5):
        noun = nouns[index]
        members = below[noun.path[1 + next(draws) % (len(noun.path) - 1)]]
        other = members[next(draws) % len(members)]
        if noun == other or used & {noun.offset, other.offset}:
            continue
        used |= {noun.offset, other.offset}
        score = 5 * 2 * common_depth(noun, other) / (len(noun.path) + len(other.path))
        rows.append((noun.gloss, other.gloss, f"{score:.2f}"))
        if len(rows) == count:
            return rows
    raise ValueError(f"too few glosses for {count} pairs; got {len(rows)}")


def shuffled(rows: list[Row], seed: int) -> list[Row]:
    """The rows in an order drawn by `seed`."""
    return [rows[index] for index in draw_order(len(rows), seed, 6)]


def write_rows(path: Path, header: Row, rows: Sequence[Row]) -> None:
    """Writes gzipped TSV without a time stamp."""
    text = "".join("\t".join(row) + "\n" for row in (header, *rows))
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as file:
        file.write(text.encode())
    write_atomically(path, buffer.getvalue())


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a whole file or none of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def licence(wordnet_dir: Path) -> bytes:
    """WordNet's licence, from the head of `data.noun`."""
    source = (wordnet_dir / "data.noun").read_text(encoding="utf-8").splitlines()
    return "\n".join(line[4:].strip() for line in source if line.startswith("  ")).encode() + b"\n"


def build(wordnet_dir: Path, out_dir: Path) -> None:
    """Writes the six files of the three tasks, and WordNet's licence."""
    source = (wordnet_dir / "data.noun").read_text(encoding="utf-8").splitlines()
    write_atomically(out_dir / "LICENSE-WORDNET.txt", licence(wordnet_dir))
    nouns = read_nouns(source)
    order = draw_order(len(nouns), 0)
    for seed, (split, count) in enumerate(ROWS.items(), start=1):
        side = [nouns[i] for i in sorted(order) if (order[i] % DEV_EVERY == 0) == (split == "validation")]
        for task, header, rows in (
            ("gloss-class", ("gloss", "label"), class_rows(side, count, seed)),
            ("gloss-sense", ("gloss1", "gloss2", "label"), sense_rows(side, count, seed)),
            ("gloss-similarity", ("gloss1", "gloss2", "label"), similarity_rows(side, count, seed)),
        ):
            write_rows(out_dir / f"{task}.{split}.tsv.gz", header, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet-dir", type=Path, required=True)
    parser.add_argument("--out-dir", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    build(arguments.wordnet_dir, arguments.out_dir)
