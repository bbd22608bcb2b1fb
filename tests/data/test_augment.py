"""Copies of rows with synonyms: deterministic, grammatical where that can be known, and safe for the labels."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertjax.config import AugmentConfig, InputError
from bertjax.data.augment import KEPT, WORD, augment_texts, augmented, wordnet
from bertjax.data.examples import Examples
from bertjax.data.sources import load_sample
from bertjax.data.tasks import find_task

ALWAYS = AugmentConfig(rate=1.0)
GLOSSES = load_sample(find_task("gloss-class")).train.first[:300]


@pytest.mark.parametrize(("word", "synonym"), [
    ("movies", "films"), ("tried", "attempted"), ("trying", "attempting"), ("biggest", "largest"), ("children", "kids"),
])
def test_synonyms_take_the_inflection_of_the_word(word, synonym):
    assert synonym in wordnet().synonyms(word)


def test_phrases_stand_in_only_when_asked_for():
    assert wordnet().synonyms("films") == ["movies"]
    assert "motion pictures" in wordnet(multiword=True).synonyms("films")


def test_quantities_and_times_are_never_replaced():
    amounts = re.findall(r"\w+", """thousands hundreds millions billions tens dozens halves double doubled triple
        seconds minutes hours days weeks months years decades centuries fewest greater percent monday second times""")
    assert {word: wordnet().synonyms(word) for word in amounts} == {word: [] for word in amounts}


@pytest.mark.parametrize(("word", "other"), [
    ("bad", "big"), ("bad", "tough"), ("worst", "biggest"), ("great", "big"), ("high", "eminent"), ("sick", "sickish"),
    ("john", "lavatory"), ("cat", "guy"), ("screen", "test"), ("despite", "contempt"),
])
def test_a_word_stays_unless_the_synonym_has_what_both_mostly_mean(word, other):
    assert other not in wordnet().synonyms(word)


def test_no_synonym_is_a_kept_word_or_means_something_else_mostly():
    thesaurus = wordnet()
    others = {other for word, _ in list(thesaurus.senses)[::5] for other in thesaurus.synonyms(word)}
    assert len(others) > 500
    assert others.isdisjoint(KEPT)
    for other in others:
        lemmas = {reading[:2] for reading in thesaurus.inflections.readings(other)}
        senses = [thesaurus.senses[lemma, part] for lemma, part in lemmas]
        assert max(sense.first for sense in senses) >= 0.5 * sum(sense.all for sense in senses)


@pytest.mark.parametrize("rest", ["terrible film", "huge film", "dreadful movie", "enormous movie"])
def test_an_article_stays_right(rest):
    made = {copy for number in range(40) for article in ("a", "A", "an", '"a')
            for copy in augment_texts([f"{article} {rest}"], number, ALWAYS)}
    assert any(copy.split()[1] != rest.split()[0] for copy in made)
    for copy in made:
        article, word = re.findall(r"[A-Za-z]+", copy)[:2]
        assert word == rest.split()[0] or (word[0] in "aeiou") == (article.lower() == "an"), copy


def test_case_and_everything_between_words_stay():
    text = 'Movies ,  "MOVIES"\tand movies!'
    (made,) = augment_texts([text], 1, ALWAYS)
    words, new = WORD.findall(text), WORD.findall(made)
    assert made != text
    assert WORD.split(made) == WORD.split(text)
    assert [(w.isupper(), w.islower()) for w in new] == [(w.isupper(), w.islower()) for w in words]


def test_function_words_negations_numbers_and_names_are_never_replaced():
    text = "it was not the best of two movies , said Film Director Jury ; I never have 3 children in big cars"
    made = [copy for number in range(1, 30) for copy in augment_texts([text], number, AugmentConfig(rate=0.5))]
    assert len(set(made)) > 5
    for copy in made:
        assert re.findall(r"\b(?:it|was|not|the|of|two|Film|Director|Jury|I|never|have|3)\b", copy) == re.findall(
            r"\b(?:it|was|not|the|of|two|Film|Director|Jury|I|never|have|3)\b", text)
    assert all(wordnet().synonyms(word) == [] for word in KEPT)


def test_a_copy_depends_on_its_text_number_and_seed_alone():
    whole = augment_texts(GLOSSES, 1, AugmentConfig())
    assert augment_texts(GLOSSES, 1, AugmentConfig()) == whole
    assert augment_texts(GLOSSES[::-1], 1, AugmentConfig()) == whole[::-1]
    assert [augment_texts([text], 1, AugmentConfig())[0] for text in GLOSSES[:20]] == whole[:20]
    assert augment_texts(GLOSSES, 2, AugmentConfig()) != whole
    assert augment_texts(GLOSSES, 1, AugmentConfig(seed=1)) != whole


def test_the_rate_is_the_share_of_drawn_words():
    def changed(rate):
        made = augment_texts(GLOSSES, 1, AugmentConfig(rate=rate))
        return sum(a != b for old, new in zip(GLOSSES, made, strict=True)
                   for a, b in zip(old.split(), new.split(), strict=True))

    assert changed(0.0) == 0
    assert changed(0.25) == pytest.approx(changed(1.0) / 4, rel=0.15)


def test_labels_stay_and_both_texts_of_a_pair_change():
    labels = np.arange(len(GLOSSES), dtype=np.float32)
    made = augmented(Examples(GLOSSES, GLOSSES[::-1], labels), 1, ALWAYS)
    assert made.labels is labels
    assert made.first != GLOSSES
    assert made.second == made.first[::-1]


@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_text_keeps_what_is_no_word(texts):
    for text, made in zip(texts, augment_texts(texts, 1, ALWAYS), strict=True):
        assert WORD.split(made) == WORD.split(text)


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_rate_outside_its_range_is_refused(rate):
    with pytest.raises(InputError, match=r"rate must be in \[0, 1\]"):
        AugmentConfig(rate=rate)
