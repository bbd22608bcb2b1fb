"""English inflections of single words: which lemma a form may be of, and the form of another lemma in its place.

Plural and third person (`s`), past and participle (`ed`), `ing`, comparative (`er`) and superlative (`est`). Irregular
forms come from WordNet's lists; what cannot be formed safely is not formed: a verb whose past and participle differ, a
long adjective, a final consonant that may or may not be doubled.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

PARTS = {"": "nvar", "s": "nv", "ed": "v", "ing": "v", "er": "ar", "est": "ar"}
"""The parts of speech that have an inflection: noun, verb, adjective, adverb."""

NOT_MEN = frozenset(("human", "ottoman", "shaman", "talisman", "caiman", "cayman", "hetman"))
"""Nouns in -man whose plural is not -men."""


class Reading(NamedTuple):
    """One way to read a form."""

    lemma: str
    part: str
    suffix: str


class Inflections:
    """Forms and lemmas of English.

    Args:
        irregular: (part of speech, form, lemma).
        is_lemma: Whether a word is a lemma of a part of speech.
    """

    def __init__(self, irregular: Iterable[tuple[str, str, str]], is_lemma: Callable[[str, str], bool]) -> None:
        self.is_lemma = is_lemma
        self.lemmas: dict[str, list[Reading]] = defaultdict(list)
        self.forms: dict[Reading, list[str]] = defaultdict(list)
        for part, form, lemma in irregular:
            reading = Reading(lemma, part, _irregular_suffix(part, form))
            self.lemmas[form].append(reading)
            self.forms[reading].append(form)

    def readings(self, form: str) -> list[Reading]:
        """Every lemma, part of speech and inflection that gives the lower-case `form`; rare ones may be missing."""
        found = [reading for reading in self.lemmas.get(form, ()) if self.is_lemma(reading.lemma, reading.part)]
        for suffix, parts in PARTS.items():
            for lemma in _stems(form, suffix):
                for part in parts:
                    if self.is_lemma(lemma, part) and self.inflect(lemma, part, suffix) == form:
                        reading = Reading(lemma, part, suffix)
                        found += [reading] if reading not in found else []
        return found

    def inflect(self, lemma: str, part: str, suffix: str) -> str | None:
        """The form of `lemma`, or None where it is not sure. In a phrase, verbs change at the front, nouns at the end.

        A phrase joins its words by `_`.
        """
        if not suffix:
            return lemma
        if "_" in lemma:
            first, _, rest = lemma.partition("_")
            start, _, last = lemma.rpartition("_")
            whole = {"v": (self.inflect(first, part, suffix), rest), "n": (start, self.inflect(last, part, suffix))}
            words = whole.get(part, (None, None))
            return None if None in words else "_".join(map(str, words))
        irregular = self.forms.get(Reading(lemma, part, suffix), ())
        if not irregular and part == "r":  # "good" is listed as an adjective alone
            irregular = self.forms.get(Reading(lemma, "a", suffix), ())
        if len(irregular) == 1 and suffix == "ed" and irregular[0].endswith("n") and not lemma.endswith("n"):
            return None  # WordNet lists "shown" alone, beside which "showed" is regular
        if irregular:
            return irregular[0] if len(irregular) == 1 else None
        return regular_form(lemma, part, suffix)


def regular_form(lemma: str, part: str, suffix: str) -> str | None:
    """The form that spelling rules give, or None where they do not settle it."""
    after_consonant = re.search(r"[^aeiou]$", lemma[:-1]) is not None
    if suffix == "s":
        if part == "n" and lemma.endswith("s") and not lemma.endswith("ss"):
            return None  # "arms" is a plural, "lens" is none
        if part == "n" and lemma.endswith("man") and lemma not in NOT_MEN:
            return lemma[:-2] + "en"
        if lemma.endswith("y") and after_consonant:
            return lemma[:-1] + "ies"
        sibilant = lemma.endswith(("s", "x", "z", "ch", "sh")) or (part == "v" and lemma.endswith("o"))
        return lemma + ("es" if sibilant else "s")
    if suffix in ("er", "est") and not _is_short(lemma):
        return None
    if re.fullmatch(r"(?:.*-)?[^aeiou]*[aeiou][^aeiouwxy]", lemma):
        return None  # "plan" doubles, "bus" may not: WordNet lists what doubles
    if suffix == "ing":
        if lemma.endswith("ie"):
            return lemma[:-2] + "ying"
        silent = lemma.endswith("e") and not lemma.endswith(("ee", "oe", "ye"))
        return (lemma[:-1] if silent else lemma) + "ing"
    if lemma.endswith("y") and after_consonant:
        return lemma[:-1] + "i" + suffix
    return lemma + suffix.removeprefix("e") if lemma.endswith("e") else lemma + suffix


def _is_short(adjective: str) -> bool:
    """Whether an adjective forms its comparative by -er: one syllable (a final e is none), or two that end in y."""
    syllables = len(re.findall(r"[aeiouy]+", adjective.removesuffix("e")))
    return syllables == 1 or (syllables == 2 and adjective.endswith("y"))


def _irregular_suffix(part: str, form: str) -> str:
    if part == "v":
        return "ing" if form.endswith("ing") else "s" if form.endswith(("s", "z")) else "ed"
    if part == "n":
        return "s"
    return "est" if form.endswith("st") else "er"


def _stems(form: str, suffix: str) -> list[str]:
    """What may stand before a regular suffix; `Inflections.inflect` has the last word."""
    if not suffix:
        return [form]
    if suffix == "s" and form.endswith("men"):
        return [form[:-2] + "an"]
    if not form.endswith(suffix):
        return []
    stem = form.removesuffix(suffix)
    if suffix == "s":
        return [stem, *([stem[:-2] + "y"] if stem.endswith("ie") else []), *([stem[:-1]] if stem.endswith("e") else [])]
    if suffix == "ing":
        return [stem, stem + "e", *([stem[:-1] + "ie"] if stem.endswith("y") else [])]
    return [stem, stem + "e", *([stem[:-1] + "y"] if stem.endswith("i") else [])]
