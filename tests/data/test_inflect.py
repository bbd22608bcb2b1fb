"""Forms and lemmas."""

from __future__ import annotations

import pytest

from bertjax.data.augment import wordnet
from bertjax.data.inflect import Inflections, Reading, regular_form

IRREGULAR = [("v", "took", "take"), ("v", "taken", "take"), ("v", "bought", "buy"), ("v", "planned", "plan"),
             ("v", "planning", "plan"), ("n", "knives", "knife"), ("a", "bigger", "big"), ("a", "better", "good")]
LEMMAS = {("take", "v"), ("buy", "v"), ("plan", "v"), ("knife", "n"), ("big", "a"), ("good", "a"), ("good", "r"),
          ("story", "n"), ("plane", "v"), ("die", "v"), ("make", "v"), ("woman", "n"), ("class", "n"), ("happy", "a"),
          ("watch", "n"), ("watch", "v"), ("look_at", "v"), ("motion_picture", "n")}
ENGLISH = Inflections(IRREGULAR, lambda lemma, part: (lemma, part) in LEMMAS)


@pytest.mark.parametrize(("lemma", "part", "suffix", "form"), [
    ("story", "n", "s", "stories"), ("day", "n", "s", "days"), ("class", "n", "s", "classes"),
    ("photo", "n", "s", "photos"), ("echo", "v", "s", "echoes"), ("watch", "v", "s", "watches"),
    ("woman", "n", "s", "women"), ("human", "n", "s", "humans"), ("make", "v", "ing", "making"),
    ("agree", "v", "ing", "agreeing"), ("die", "v", "ing", "dying"), ("die", "v", "ed", "died"),
    ("try", "v", "ed", "tried"), ("play", "v", "ed", "played"), ("look", "v", "ed", "looked"),
    ("happy", "a", "er", "happier"), ("large", "a", "est", "largest"), ("simple", "a", "er", "simpler"),
])
def test_spelling_rules(lemma, part, suffix, form):
    assert regular_form(lemma, part, suffix) == form


@pytest.mark.parametrize(("lemma", "part", "suffix"), [
    ("terrible", "a", "er"),  # "more terrible"
    ("beautiful", "a", "est"),
    ("hop-skip", "v", "ed"),
    ("stop", "v", "ed"),  # doubles its consonant, which the rules do not know
])
def test_what_rules_do_not_settle_is_not_formed(lemma, part, suffix):
    assert regular_form(lemma, part, suffix) is None


def test_irregular_forms_are_found_and_formed():
    assert ENGLISH.readings("knives") == [Reading("knife", "n", "s")]
    assert ENGLISH.inflect("buy", "v", "ed") == "bought"
    assert ENGLISH.inflect("plan", "v", "ing") == "planning"
    assert ENGLISH.readings("taken") == [Reading("take", "v", "ed")]


def test_a_verb_whose_past_and_participle_differ_is_not_formed():
    assert ENGLISH.inflect("take", "v", "ed") is None
    assert ENGLISH.inflect("take", "v", "ing") == "taking"


def test_an_irregular_word_has_no_regular_form_and_adverbs_follow_their_adjective():
    assert ENGLISH.readings("buyed") == []
    assert ENGLISH.inflect("good", "r", "er") == "better"


@pytest.mark.parametrize(("lemma", "form"), [
    ("hurt", "hurt"), ("read", "read"), ("spread", "spread"), ("upset", "upset"), ("offset", "offset"),
    ("burst", "burst"), ("cost", "cost"),  # unchanged
    ("beat", None), ("run", None), ("come", None), ("become", None),  # the past and the participle differ
    ("show", None), ("prove", None), ("bet", None), ("take", None), ("win", "won"), ("spin", "spun"), ("ask", "asked"),
])
def test_past_and_participle_in_the_table_are_one_form_or_none(lemma, form):
    assert wordnet().inflections.inflect(lemma, "v", "ed") == form


def test_an_unchanged_past_has_both_readings():
    suffixes = [reading.suffix for reading in wordnet().inflections.readings("hurt") if reading.part == "v"]
    assert sorted(suffixes) == ["", "ed"]
    assert wordnet().inflections.inflect("arms", "n", "s") is None
    assert wordnet().inflections.inflect("aircraft", "n", "s") == "aircraft"


def test_a_form_has_every_reading_that_gives_it():
    assert ENGLISH.readings("watches") == [Reading("watch", "n", "s"), Reading("watch", "v", "s")]
    assert ENGLISH.readings("planed") == [Reading("plane", "v", "ed")]
    assert ENGLISH.readings("stories") == [Reading("story", "n", "s")]
    assert ENGLISH.readings("dying") == [Reading("die", "v", "ing")]
    assert ENGLISH.readings("happiest") == [Reading("happy", "a", "est")]
    assert ENGLISH.readings("women") == [Reading("woman", "n", "s")]
    assert ENGLISH.readings("storys") == []


def test_phrases_change_at_the_verb_or_at_the_noun():
    assert ENGLISH.inflect("look_at", "v", "ed") == "looked_at"
    assert ENGLISH.inflect("motion_picture", "n", "s") == "motion_pictures"
    assert ENGLISH.inflect("take_away", "v", "ed") is None
