"""Texts to token ids, by the model's own fast tokenizer, cached on disk by content."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertjax.config import InputError
from bertjax.data.examples import Examples
from bertjax.files import npz, write_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CACHE_VERSION = 1
"""Raise it whenever equal texts and tokenizer would give other arrays."""


@dataclass(frozen=True)
class TokenizedSplit:
    """The rows of one split as token ids, end to end without padding."""

    input_ids: np.ndarray
    """[tokens] int32."""
    offsets: np.ndarray
    """[rows + 1] int64: row r is `input_ids[offsets[r]:offsets[r + 1]]`."""
    second_start: np.ndarray
    """[rows] int32: position in the row at which token type 1 begins; the row's length for single texts."""
    labels: np.ndarray
    """[rows]: int32 classes or float32 scores."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """[rows] int32: tokens per row, special tokens included."""
        return np.diff(self.offsets).astype(np.int32)

    def padded(self, width: int, pad_token_id: int) -> np.ndarray:
        """[rows, width] int32, padded at the end; raises ValueError if a row is longer than `width`."""
        lengths = self.lengths
        if len(self) and lengths.max() > width:
            raise ValueError(f"width must be at least the longest row, {lengths.max()} tokens; got {width}")
        table = np.full((len(self), width), pad_token_id, np.int32)
        table[np.arange(width) < lengths[:, None]] = self.input_ids
        return table

    def content_hash(self) -> str:
        """SHA-256 of the four arrays, as hexadecimal text."""
        digest = hashlib.sha256()
        for array in (self.input_ids, self.offsets, self.second_start, self.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_tokenizer(name_or_dir: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model: hub name or local folder.

    A folder with nothing but `vocab.txt` gives BERT's tokenizer, which lower-cases unless the vocabulary holds words
    with capital letters.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

    folder = Path(name_or_dir)
    vocabulary = folder / "vocab.txt"
    bare = vocabulary.is_file() and not (folder / "tokenizer.json").is_file()
    if folder.is_dir() and not vocabulary.is_file() and not (folder / "tokenizer.json").is_file():
        raise InputError(f"the model folder {folder} must hold tokenizer.json or vocab.txt; got neither")
    try:
        if bare and not (folder / "tokenizer_config.json").is_file():
            return BertTokenizer.from_pretrained(name_or_dir, do_lower_case=not _is_cased(vocabulary))
        tokenizer = AutoTokenizer.from_pretrained(name_or_dir, use_fast=True)
    except Exception as error:  # tokenizers raises bare Exception, transformers OSError, ValueError, KeyError and more
        reason = (str(error) or type(error).__name__).split("\n")[0]
        raise InputError(f"no tokenizer could be loaded from {name_or_dir} ({reason}); it must be a hub name or a "
                         "folder with tokenizer.json or vocab.txt") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise InputError(f"the tokenizer of {name_or_dir} must be a fast one (tokenizer.json); got "
                         f"{type(tokenizer).__name__}")
    return tokenizer


def tokenize(examples: Examples, tokenizer: PreTrainedTokenizerFast, max_length: int,
             cache_dir: Path | None) -> TokenizedSplit:
    """Token ids of every row, at most `max_length` long; of a pair the longer text is cut first.

    With `cache_dir` the arrays are kept there, named by a hash of the texts, the tokenizer and `max_length`; a file
    that cannot be read is made anew.
    """
    if cache_dir is None:
        return TokenizedSplit(*_encode(examples, tokenizer, max_length), examples.labels)
    path = cache_dir / f"tokens-{_cache_key(examples, tokenizer, max_length)}.npz"
    arrays = _read_cache(path, len(examples))
    if arrays is None:
        arrays = _encode(examples, tokenizer, max_length)
        _write_cache(path, arrays)
    return TokenizedSplit(*arrays, examples.labels)


def _encode(examples: Examples, tokenizer: PreTrainedTokenizerFast,
            max_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    encoded = tokenizer(examples.first, examples.second, truncation="longest_first", max_length=max_length,
                        padding=False, return_attention_mask=False, return_token_type_ids=True)
    lengths = np.fromiter(map(len, encoded["input_ids"]), np.int64, len(examples))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    input_ids = np.fromiter((token for row in encoded["input_ids"] for token in row), np.int32, offsets[-1])
    second_lengths = np.fromiter(map(sum, encoded["token_type_ids"]), np.int64, len(examples))
    return input_ids, offsets, (lengths - second_lengths).astype(np.int32)


def _cache_key(examples: Examples, tokenizer: PreTrainedTokenizerFast, max_length: int) -> str:
    digest = hashlib.sha256()
    # The backend's truncation and padding are left over from its last call, so they are no part of its identity.
    backend = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    texts = [examples.first, examples.second]
    for part in (CACHE_VERSION, max_length, backend, texts):
        digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _read_cache(path: Path, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = stored["input_ids"], stored["offsets"], stored["second_start"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    input_ids, offsets, second_start = arrays
    whole = offsets.shape == (rows + 1,) and second_start.shape == (rows,) and input_ids.shape == (offsets[-1],)
    return arrays if whole else None


def _write_cache(path: Path, arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, npz(False, input_ids=arrays[0], offsets=arrays[1], second_start=arrays[2]))


def _is_cased(vocabulary: Path) -> bool:
    words = vocabulary.read_text(encoding="utf-8").split("\n")
    return any(word != word.lower() for word in words if not word.startswith("["))
