"""Tokens: what the tokenizer says row by row, whatever the cache and the batch; damaged caches are made anew."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bertjax.config import InputError
from bertjax.data.examples import Examples, unlabelled
from bertjax.data.tokens import TokenizedSplit, load_tokenizer, tokenize

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d", "##d", "it", "'", "!"]
PAIRS = [("a b", "c"), ("a", "b c d a b c d"), ("a b c d a b c", "d"), ("it's", "!"), ("", "a")]


def write_vocabulary(folder, words=WORDS):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(write_vocabulary(tmp_path_factory.mktemp("model")))


def assert_equal(left: TokenizedSplit, right: TokenizedSplit) -> None:
    assert left.content_hash() == right.content_hash()
    for name in ("input_ids", "offsets", "second_start", "labels"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
        assert getattr(left, name).dtype == getattr(right, name).dtype


@pytest.mark.parametrize("max_length", [8, 128])
@pytest.mark.parametrize("texts", [PAIRS, [first for first, _ in PAIRS]], ids=["pairs", "single"])
def test_rows_are_what_the_tokenizer_gives_one_by_one(tokenizer, texts, max_length):
    split = tokenize(unlabelled(texts), tokenizer, max_length, None)
    assert len(split) == len(texts) and split.lengths.max() <= max_length
    for row, text in enumerate(texts):
        alone = tokenizer(*([text] if isinstance(text, str) else text), truncation="longest_first",
                          max_length=max_length)
        tokens = split.input_ids[split.offsets[row]:split.offsets[row + 1]]
        np.testing.assert_array_equal(tokens, alone["input_ids"])
        types = np.arange(len(tokens)) >= split.second_start[row]
        np.testing.assert_array_equal(types, alone["token_type_ids"])
    assert [array.dtype for array in (split.input_ids, split.offsets, split.second_start, split.lengths)] == [
        np.int32, np.int64, np.int32, np.int32]
    if isinstance(texts[0], str):
        np.testing.assert_array_equal(split.second_start, split.lengths)


def test_of_a_pair_the_longer_text_is_cut(tokenizer):
    split = tokenize(unlabelled(PAIRS), tokenizer, 8, None)
    assert split.second_start[1] == 3 and split.lengths[1] == 8  # [CLS] a [SEP] b c d a [SEP]
    assert split.second_start[2] == 6 and split.lengths[2] == 8  # [CLS] a b c d [SEP] d [SEP]


def test_padding_adds_only_the_pad_token_at_the_end(tokenizer):
    split = tokenize(unlabelled(PAIRS), tokenizer, 128, None)
    for width in (int(split.lengths.max()), 40):
        table = split.padded(width, 77)
        assert table.shape == (len(PAIRS), width) and table.dtype == np.int32
        for row, length in enumerate(split.lengths):
            np.testing.assert_array_equal(table[row, :length],
                                          split.input_ids[split.offsets[row]:split.offsets[row + 1]])
            assert (table[row, length:] == 77).all()
    with pytest.raises(ValueError, match="width must be at least"):
        split.padded(int(split.lengths.max()) - 1, 0)


def test_the_cache_changes_nothing_and_is_read(tokenizer, tmp_path, monkeypatch):
    examples = Examples(*map(list, zip(*PAIRS, strict=True)), np.arange(len(PAIRS), dtype=np.float32))
    fresh = tokenize(examples, tokenizer, 16, None)
    assert_equal(tokenize(examples, tokenizer, 16, tmp_path / "cache"), fresh)
    (path,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr("bertjax.data.tokens._encode", None)  # would fail: the file must be used
    assert_equal(tokenize(examples, tokenizer, 16, tmp_path / "cache"), fresh)
    relabelled = Examples(examples.first, examples.second, examples.labels + 1)
    np.testing.assert_array_equal(tokenize(relabelled, tokenizer, 16, tmp_path / "cache").labels, relabelled.labels)
    assert path.suffix == ".npz"


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "other rows", "pickled", "lost array"])
def test_a_damaged_cache_is_made_anew(tokenizer, tmp_path, damage):
    examples = unlabelled([("a b c d " * 40, "c")] * 5)
    fresh = tokenize(examples, tokenizer, 100, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage in ("empty", "half", "flipped"):
        middle = len(whole) // 2
        path.write_bytes({"empty": b"", "half": whole[:middle],
                          "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1:]}[damage])
    else:
        arrays = dict(np.load(path))
        arrays |= {"offsets": arrays["offsets"][:-1]} if damage == "other rows" else {}
        arrays |= {"offsets": arrays["offsets"].astype(object)} if damage == "pickled" else {}
        if damage == "lost array":
            del arrays["second_start"]
        np.savez(path, **arrays)
    assert_equal(tokenize(examples, tokenizer, 100, tmp_path), fresh)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == whole


def test_the_cache_knows_texts_pairs_lengths_and_tokenizers(tokenizer, tmp_path):
    other = load_tokenizer(write_vocabulary(tmp_path / "other", [*WORDS, "e"]))
    cache = tmp_path / "cache"
    tokenize(unlabelled(PAIRS), tokenizer, 16, cache)
    for number, (texts, chosen, length) in enumerate([(PAIRS, tokenizer, 17), (PAIRS, other, 16),
                                                      (PAIRS[:4], tokenizer, 16),
                                                      ([first for first, _ in PAIRS], tokenizer, 16)], start=2):
        tokenize(unlabelled(texts), chosen, length, cache)
        assert len(list(cache.iterdir())) == number
    tokenizer("a b c", truncation=True, max_length=3, padding="max_length")  # leaves its settings in the backend
    tokenize(unlabelled(PAIRS), tokenizer, 16, cache)
    assert len(list(cache.iterdir())) == 5


def test_the_content_hash_sees_every_array(tokenizer):
    split = tokenize(unlabelled(PAIRS), tokenizer, 16, None)
    hashes = {split.content_hash()}
    for name in ("input_ids", "offsets", "second_start", "labels"):
        changed = getattr(split, name).copy()
        changed[0] += 1
        hashes.add(TokenizedSplit(**{**vars(split), name: changed}).content_hash())
    assert len(hashes) == 5


def test_a_folder_with_only_a_vocabulary_has_a_tokenizer(tmp_path):
    lower = load_tokenizer(write_vocabulary(tmp_path / "lower"))
    assert lower.is_fast and lower("A It")["input_ids"] == [2, 5, 10, 3]
    cased = load_tokenizer(write_vocabulary(tmp_path / "cased", [*WORDS, "It"]))
    assert cased("It a")["input_ids"] == [2, 13, 5, 3]


def test_a_saved_tokenizer_loads_equal(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded(PAIRS[1][0], PAIRS[1][1])["input_ids"] == tokenizer(PAIRS[1][0], PAIRS[1][1])["input_ids"]


def test_a_missing_or_broken_tokenizer_is_one_line(tmp_path):
    with pytest.raises(InputError, match="must hold tokenizer.json or vocab.txt; got neither"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    with pytest.raises(InputError, match="no tokenizer could be loaded") as raised:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="no tokenizer could be loaded from no/such-model"):
        load_tokenizer("no/such-model")
