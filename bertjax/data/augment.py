"""Copies of training rows in which words stand for their synonyms, the augmentation of arXiv:2208.09684.

The paper says no more than "synonym replacement"; the rest was chosen here. Each content word is drawn with
probability `rate`; a drawn word takes a synonym of its first sense, WordNet's most frequent one, in the same inflection
and case. Where that sense has no synonym, or is not what the word mostly means, or "a" or "an" before it would become
wrong, the word stays: nothing here sees the sense in the text, and a wrong one may turn the label ("bad", "big").
Function words, negations, quantities, times and names are never touched. Labels stay.

Equal (seed, text, copy) give equal copies, whatever other rows there are.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.resources
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

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
    fewest greater greatest lesser fourth fifth sixth seventh eighth ninth tenth single double triple quadruple
    doubly triply thrice multiple numerous various countless innumerable entire total part partly mostly mainly
    percent percentage despite amid amidst among via versus unlike worth plus minus regarding concerning considering
    including following given provided providing whereby upon unto barely rarely merely
    simply absolutely completely totally entirely wholly fully approximately roughly
    earlier later former latter previous next daily weekly monthly yearly annual annually today tonight tomorrow
    yesterday used
"""

KEPT = frozenset(_KEPT.split())
"""Words that are never replaced: they carry grammar, negation or quantity, and with them the label."""

WORD = re.compile(r"[A-Za-z]+(?:[-'’][A-Za-z]+)*")
"""A word of a text; one with capitals in its middle is never replaced."""

MIN_SHARE, MIN_PART_SHARE = 0.5, 0.8
"""A form is mostly met in one sense if that has at least the first share of its places, and its lemma and part of
speech the second."""

ARTICLE = re.compile(r"\b(an?)[^A-Za-z0-9]*$", re.IGNORECASE)
"""An article at the end of what stands before a word."""

FITS_ARTICLE = {"a": re.compile(r"(?!hei|hon|hour)[^aeioux]"), "an": re.compile(r"(?!eu|ew|one|once)[aeio]")}
"""The words that surely sound as an article needs; others, in u most of all, may or may not."""

TEXTS_AT_ONCE = 2048
"""Texts whose words are hashed together: enough for NumPy, few enough for the garbage collector."""


class Sense(NamedTuple):
    """The first sense of a lemma in a part of speech."""

    first: int
    """How often it was met."""
    all: int
    """How often any sense of the lemma in this part was."""
    synonyms: list[str]


@dataclass(frozen=True)
class Thesaurus:
    """WordNet's synonyms."""

    senses: dict[tuple[str, str], Sense]
    """The first sense of each lemma and part of speech."""
    inflections: Inflections
    multiword: bool = False
    """Offer phrases too, with blanks between their words."""
    found: dict[str, list[str]] = field(default_factory=dict)
    """What was looked up before."""
    met: dict[str, tuple[str, str, set[str]]] = field(default_factory=dict)
    """What forms mostly are, as far as that was asked."""

    def synonyms(self, word: str) -> list[str]:
        """The synonyms of what a lower-case word mostly means, in its inflection."""
        if word not in self.found:
            self.found[word] = self._look_up(word)
        return self.found[word]

    def _look_up(self, word: str) -> list[str]:
        lemma, part, suffixes = self._mostly(word)
        if not suffixes:
            return []
        # "cut" is present or past: a synonym must have one form for both
        made = [(other, {self.inflections.inflect(other, part, suffix) for suffix in suffixes})
                for other in self.senses[lemma, part].synonyms if self.multiword or "_" not in other]
        forms = [(other, form) for other, found in made if len(found) == 1 for form in found if form and form != word]
        return [form.replace("_", " ") for other, form in forms
                if "_" in other or self._mostly(form)[:2] == (other, part)]

    def _mostly(self, form: str) -> tuple[str, str, set[str]]:
        """The lemma and part of speech whose first sense a form mostly has, and the inflections that it may be of it.

        There are no inflections if no sense prevails, or the form, or what it may come from, is to be kept.
        """
        if form not in self.met:
            self.met[form] = self._prevailing(form)
        return self.met[form]

    def _prevailing(self, form: str) -> tuple[str, str, set[str]]:
        readings = self.inflections.readings(form)
        if not readings or not KEPT.isdisjoint({form, *(reading.lemma for reading in readings)}):
            return "", "", set()
        senses = {(reading.lemma, reading.part): self.senses[reading.lemma, reading.part] for reading in readings}
        lemma, part = max(senses, key=lambda key: senses[key].first)
        places, sense = sum(other.all for other in senses.values()), senses[lemma, part]
        if sense.first < MIN_SHARE * places or sense.all < MIN_PART_SHARE * places:
            return "", "", set()
        return lemma, part, {reading.suffix for reading in readings if reading[:2] == (lemma, part)}


def wordnet(multiword: bool = False) -> Thesaurus:
    """The thesaurus that bertjax brings; read once per process."""
    return _wordnet(multiword)


@functools.cache
def _wordnet(multiword: bool) -> Thesaurus:
    senses = {(word, part): Sense(int(first), int(count), listed.split(",") if listed else [])
              for word, part, first, count, listed in _rows("synonyms.tsv.gz")}
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
    places = [[(match, words) for match in WORD.finditer(text) if (words := _synonyms_at(match, thesaurus))]
              for text in texts]
    draws = iter(_uniform(texts, [len(found) for found in places], copy, config.seed))
    for text, found in zip(texts, places, strict=True):
        parts, end = [], 0
        for (match, words), (drawn, synonym) in zip(found, draws, strict=False):
            if drawn < config.rate and (fit := _after_article(words, text[: match.start()])):
                parts += [text[end : match.start()], _in_case(fit[int(synonym * len(fit))], match[0])]
                end = match.end()
        yield "".join([*parts, text[end:]])


def _synonyms_at(match: re.Match[str], thesaurus: Thesaurus) -> list[str]:
    """The synonyms of a word in its place; none for a name, that is, a capital within a sentence."""
    word = match[0]
    if word.islower():
        return thesaurus.synonyms(word)
    if word.isupper():
        return thesaurus.synonyms(word.lower())
    before = match.string[: match.start()].rstrip(" \"'`([").rstrip()
    starts = not before or before[-1] in ".!?:;"
    return thesaurus.synonyms(word.lower()) if starts and word[1:].islower() else []


def _after_article(words: list[str], before: str) -> list[str]:
    """Those of the words that leave the article at the end of `before` right; all if there is none."""
    article = ARTICLE.search(before[-8:])
    return [word for word in words if FITS_ARTICLE[article[1].lower()].match(word)] if article else words


def _in_case(word: str, like: str) -> str:
    """`word` in the case of `like`: small, CAPITALS or Capitalized."""
    if like.isupper():
        return word.upper()
    return word if like.islower() else word[0].upper() + word[1:]


def _uniform(texts: Sequence[str], counts: Sequence[int], copy: int, seed: int) -> list[list[float]]:
    """Two numbers in [0, 1) for every word in turn: a hash of (seed, copy, text, number of the word in the text)."""
    keys = np.array([int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=f"{seed} {copy}".encode())
                                    .digest(), "little") for text in texts], np.uint64)
    total = int(np.sum(counts))
    first = np.repeat(np.cumsum([0, *counts[:-1]]) if len(counts) else np.zeros(0, int), counts)
    number = (np.arange(total) - first).astype(np.uint64)
    words = np.repeat(keys, counts)[:, None] + (2 * number[:, None] + np.arange(1, 3, dtype=np.uint64))
    return ((_mixed(words) >> np.uint64(11)) * 2.0**-53).tolist()


def _mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output for the states `x` (counters), a bijection of 64-bit words."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
