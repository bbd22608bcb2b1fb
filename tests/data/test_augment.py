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
    ("movies", "films"), ("said", "stated"), ("leading", "directing"), ("biggest", "largest"), ("children", "kids"),
])
def test_synonyms_take_the_inflection_of_the_word(word, synonym):
    assert synonym in [other for sense in wordnet().synonyms(word) for other in sense]


def test_frequent_senses_come_first_and_phrases_only_when_asked_for():
    assert "movies" in wordnet().synonyms("films")[0]
    assert not any(" " in other for sense in wordnet().synonyms("films") for other in sense)
    assert "motion pictures" in wordnet(multiword=True).synonyms("films")[0]


def test_case_and_everything_between_words_stay():
    text = 'Movies ,  "MOVIES"\tand movies!'
    (made,) = augment_texts([text], 1, ALWAYS)
    words, new = WORD.findall(text), WORD.findall(made)
    assert made != text
    assert WORD.split(made) == WORD.split(text)
    assert [(w.isupper(), w.islower()) for w in new] == [(w.isupper(), w.islower()) for w in words]


def test_function_words_negations_numbers_and_names_are_never_replaced():
    text = "it was not the best of two movies , said Film Director Jury ; I never have 3 children"
    made = [copy for number in range(1, 30) for copy in augment_texts([text], number, ALWAYS)]
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
