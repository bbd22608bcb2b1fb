"""Copies of training rows in which words stand for their synonyms, the augmentation of arXiv:2208.09684.

The paper says no more than "synonym replacement"; the rest was chosen here. Each content word is drawn with
probability `rate`; a drawn word takes one of its three most frequent senses, each half as likely as the one before, and
a synonym of that sense, in the same inflection and case. Where the sense has none the word stays. Function words,
negations, quantities and names are never touched. Labels stay.

Equal (seed, text, copy) give equal copies, whatever other rows there are.
"""

from __future__ import annotations

import bisect
import functools
import gzip
import hashlib
import importlib.resources
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bertjax.config import AugmentConfig
from bertjax.data.examples import Examples
from bertjax.data.inflect import Inflections

_KEPT = """
    about above after again against all almost also although always among and any anybody anyone anything are around
    because been before behind being below beneath beside besides between beyond both but can cannot could did does
    doing done down during each either else enough especially even ever every everybody everyone everything except few
    fewer first for from further had hardly has have having hence her here hers herself him himself his how however
    into its itself just last least less like little lot lots many may maybe might more most much must myself near
    nearly need neither never nobody none nor not nothing now off often once one only onto other others otherwise ought
    our ours ourselves out over own per perhaps quite rather same scarcely second seldom several shall she should since
    some somebody someone something sometimes somewhat soon still such than that the their theirs them themselves then
    there therefore these they third this those though through throughout thus till together too toward towards twice
    under unless until upon very was well were what whatever when whenever where whereas wherever whether which
    whichever while who whoever whom whose why will with within without would yet you your yours yourself yourselves
    zero two three four five six seven eight nine ten eleven twelve dozen hundred thousand million billion half quarter
"""

KEPT = frozenset(_KEPT.split())
"""Words that are never replaced: they carry grammar, negation or quantity, and with them the label."""

WORD = re.compile(r"[A-Za-z]+(?:[-'’][A-Za-z]+)*")
"""A word of a text; one with capitals in its middle is never replaced."""

SENSE_BOUNDS = {1: (), 2: (2 / 3,), 3: (4 / 7, 6 / 7)}
"""Where in [0, 1) one sense ends and the next begins, by the number of senses: each half as likely as the last."""

MAX_SENSES = max(SENSE_BOUNDS)
"""Senses of a word that are considered, the most frequent ones over all its parts of speech."""


TEXTS_AT_ONCE = 2048
"""Texts whose words are hashed together: enough for NumPy, few enough for the garbage collector."""


@dataclass(frozen=True)
class Thesaurus:
    """WordNet's synonyms."""

    senses: dict[tuple[str, str], list[tuple[int, list[str]]]]
    """By lemma and part of speech: its first senses as (frequency, synonyms)."""
    inflections: Inflections
    multiword: bool = False
    """Offer phrases too, with blanks between their words."""
    found: dict[str, list[list[str]]] = field(default_factory=dict)
    """What was looked up before."""

    def synonyms(self, word: str) -> list[list[str]]:
        """For each of the word's senses, most frequent first, its synonyms in the word's inflection.

        `word` is in lower case. A sense may have no synonym; if none has, the list is empty.
        """
        if word not in self.found:
            self.found[word] = [] if word in KEPT else self._look_up(word)
        return self.found[word]

    def _look_up(self, word: str) -> list[list[str]]:
        senses = []
        for reading in self.inflections.readings(word):
            for rank, (count, words) in enumerate(self.senses[reading.lemma, reading.part]):
                forms = [self.inflections.inflect(other, reading.part, reading.suffix) for other in words
                         if self.multiword or "_" not in other]
                kept = [form.replace("_", " ") for form in forms if form is not None and form != word]
                senses.append((-count, rank, kept))
        first = [kept for _, _, kept in sorted(senses, key=lambda sense: sense[:2])[:MAX_SENSES]]
        return first if any(first) else []


def wordnet(multiword: bool = False) -> Thesaurus:
    """The thesaurus that bertjax brings; read once per process."""
    return _wordnet(multiword)


@functools.cache
def _wordnet(multiword: bool) -> Thesaurus:
    senses: dict[tuple[str, str], list[tuple[int, list[str]]]] = {}
    for word, part, listed in _rows("synonyms.tsv.gz"):
        pairs = (sense.split(":") for sense in listed.split("|"))
        senses[word, part] = [(int(count), words.split(",") if words else []) for count, words in pairs]
    irregular = [(part, form, lemma) for part, form, lemma in _rows("irregular.tsv.gz")]
    return Thesaurus(senses, Inflections(irregular, lambda lemma, part: (lemma, part) in senses), multiword)


def _rows(name: str) -> Iterator[list[str]]:
    content = (importlib.resources.files("bertjax.data") / "synonyms" / name).read_bytes()
    for line in gzip.decompress(content).decode().splitlines()[1:]:
        yield line.split("\t")


def augmented(examples: Examples, copy: int, config: AugmentConfig) -> Examples:
    """Copy number `copy` (from 1) of every row: the texts with synonyms, the labels as they are.

    The texts of a pair are augmented each for itself.
    """
    first = augment_texts(examples.first, copy, config)
    second = None if examples.second is None else augment_texts(examples.second, copy, config)
    return Examples(first, second, examples.labels)


def augment_texts(texts: Sequence[str], copy: int, config: AugmentConfig) -> list[str]:
    """Each text with synonyms, a function of (`config`, `copy`, text) alone."""
    starts = range(0, len(texts), TEXTS_AT_ONCE)
    return [made for start in starts for made in _augment(texts[start : start + TEXTS_AT_ONCE], copy, config)]


def _augment(texts: Sequence[str], copy: int, config: AugmentConfig) -> Iterator[str]:
    thesaurus = wordnet(config.multiword)
    places = [[(match, senses) for match in WORD.finditer(text) if (senses := _senses_at(match, thesaurus))]
              for text in texts]
    draws = iter(_uniform(texts, [len(found) for found in places], copy, config.seed))
    for text, found in zip(texts, places, strict=True):
        parts, end = [], 0
        for (match, senses), (drawn, sense, synonym) in zip(found, draws, strict=False):
            if drawn < config.rate and (words := _sense(senses, sense)):
                parts += [text[end : match.start()], _in_case(words[int(synonym * len(words))], match[0])]
                end = match.end()
        yield "".join([*parts, text[end:]])


def _senses_at(match: re.Match[str], thesaurus: Thesaurus) -> list[list[str]]:
    """The senses of a word in its place; none for a name, that is, a capital within a sentence."""
    word = match[0]
    if word.islower():
        return thesaurus.synonyms(word)
    if word.isupper():
        return thesaurus.synonyms(word.lower())
    before = match.string[: match.start()].rstrip(" \"'`([").rstrip()
    starts = not before or before[-1] in ".!?:;"
    return thesaurus.synonyms(word.lower()) if starts and word[1:].islower() else []


def _sense(senses: Sequence[list[str]], draw: float) -> list[str]:
    """The synonyms of the sense that a draw in [0, 1) takes."""
    return senses[bisect.bisect_right(SENSE_BOUNDS[len(senses)], draw)]


def _in_case(word: str, like: str) -> str:
    """`word` in the case of `like`: small, CAPITALS or Capitalized."""
    if like.isupper():
        return word.upper()
    return word if like.islower() else word[0].upper() + word[1:]


def _uniform(texts: Sequence[str], counts: Sequence[int], copy: int, seed: int) -> list[list[float]]:
    """Three numbers in [0, 1) for every word in turn: a hash of (seed, copy, text, number of the word in the text)."""
    keys = np.array([int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=f"{seed} {copy}".encode())
                                    .digest(), "little") for text in texts], np.uint64)
    total = int(np.sum(counts))
    first = np.repeat(np.cumsum([0, *counts[:-1]]) if len(counts) else np.zeros(0, int), counts)
    number = (np.arange(total) - first).astype(np.uint64)
    words = np.repeat(keys, counts)[:, None] + (3 * number[:, None] + np.arange(1, 4, dtype=np.uint64))
    return ((_mixed(words) >> np.uint64(11)) * 2.0**-53).tolist()


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output for the states `x` (counters), a bijection of 64-bit words."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
