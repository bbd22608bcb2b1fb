"""The script of the bundled samples, on a small made-up tree of nouns in WordNet's format."""

from __future__ import annotations

from bertjax.data.samples.build import (
    close_pairs,
    common_depth,
    definition,
    distance,
    read_nouns,
    sense_rows,
    similarity_rows,
)

LICENCE = "  1 This software and database is being provided to you  "


def line(offset, parent, gloss, lexicographer_file=5, symbol="@"):
    pointers = f"001 {symbol} {parent:08d} n 0000" if parent is not None else "000"
    return f"{offset:08d} {lexicographer_file:02d} n 01 word 0 {pointers} | {gloss}  "


def tree():
    """A root, 10 families of 10 parents of 6 children: 660 synsets below the root."""
    lines = [LICENCE, line(1, None, "the root of all made up nouns", 3)]
    for family in range(10):
        lines.append(line(100 + family, 1, f"the made up family number {family}"))
        for parent in range(10):
            offset = 1000 + 10 * family + parent
            lines.append(line(offset, 100 + family, f"the made up parent number {offset}"))
            lines += [line(10 * offset + child, offset, f"the made up child number {10 * offset + child}")
                      for child in range(6)]
    return lines


def test_a_definition_has_no_examples():
    assert definition('a thing; with parts; "he has a  thing"; "no"  ') == "a thing; with parts"


def test_nouns_are_read_with_their_path_and_without_doubles_instances_and_roots():
    nouns = read_nouns([LICENCE, line(1, None, "the root of all nouns", 3), line(2, 1, "a thing with four words"),
                        line(3, 2, 'the same gloss as another; "x"', 20), line(4, 2, "The same gloss as another"),
                        line(5, 2, "a single person with name", symbol="@i"), line(6, 2, "too short"),
                        line(7, 2, "far too long " * 5), line(8, 3, "a good gloss of five words", 20)])
    assert [(noun.offset, noun.lexicographer_class, noun.gloss, noun.path) for noun in nouns] == [
        (2, "animal", "a thing with four words", (2, 1)),
        (8, "plant", "a good gloss of five words", (8, 3, 2, 1))]
    assert (distance(*nouns), common_depth(*nouns)) == (2, 2)


def test_close_pairs_are_disjoint_and_at_most_two_steps_apart():
    pairs = close_pairs(read_nouns(tree()), 1)
    assert len(pairs) > 200
    assert all(1 <= distance(a, b) <= 2 for a, b in pairs)
    assert len({noun.offset for pair in pairs for noun in pair}) == 2 * len(pairs)


def test_sense_rows_are_half_and_half_use_each_gloss_once_and_are_far_apart_when_unrelated():
    nouns = {noun.gloss: noun for noun in read_nouns(tree())}
    rows = sense_rows(list(nouns.values()), 200, 1)
    assert [sum(row[2] == label for row in rows) for label in ("close", "unrelated")] == [100, 100]
    assert len({gloss for row in rows for gloss in row[:2]}) == 400
    assert all((distance(nouns[first], nouns[second]) > 4) == (label == "unrelated") for first, second, label in rows)
    assert rows == sense_rows(list(nouns.values()), 200, 1) != sense_rows(list(nouns.values()), 200, 2)


def test_similarity_is_wu_and_palmers():
    nouns = {noun.gloss: noun for noun in read_nouns(tree())}
    rows = similarity_rows(list(nouns.values()), 100, 1)
    assert len({gloss for row in rows for gloss in row[:2]}) == 200
    for first, second, score in rows:
        a, b = nouns[first], nouns[second]
        shared = next(depth for depth in range(len(a.path), 0, -1) if a.path[-depth] in b.path)
        assert float(score) == round(10 * shared / (len(a.path) + len(b.path)), 2)
