"""A task's tokenized rows as the table that lies on the device: training rows, their copies, then every dev split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bertjax.config import require
from bertjax.data.tokens import TokenizedSplit
from bertjax.train.state import Table
from bertjax.train.vocabulary import UsedVocabulary, used_vocabulary


@dataclass(frozen=True)
class TaskRows:
    """All rows of a task, and which of them are what."""

    input_ids: Int[np.ndarray, "row longest"]
    second_start: Int[np.ndarray, " row"]
    lengths: Int[np.ndarray, " row"]
    labels: np.ndarray
    train: range
    texts: range
    """Rows of the training set and of its augmented copies: text `c` of row `r` stands at `c * len(train) + r`."""
    dev: Mapping[str, range]
    """Rows of each dev split, the scoring one first."""
    vocabulary: UsedVocabulary

    @property
    def dev_rows(self) -> range:
        """Rows of all dev splits."""
        return range(len(self.texts), len(self.lengths))

    @property
    def longest_text(self) -> Int[np.ndarray, " train"]:
        """Tokens of each training row's longest text."""
        return self.lengths[: len(self.texts)].reshape(-1, len(self.train)).max(axis=0)

    def table(
        self, num_labels: int, teacher_logits: Float[np.ndarray, "texts labels"] | None = None
    ) -> Table[np.ndarray]:
        """The arrays of a program; dev rows and absent teachers have zeros as teacher outputs."""
        column = np.zeros((1, len(self.lengths), num_labels), np.float32)
        if teacher_logits is not None:
            column[0, : len(self.texts)] = teacher_logits
        ids = self.input_ids.astype(np.uint16 if len(self.vocabulary.ids) <= 2**16 else np.int32)
        return Table(ids, self.second_start, self.lengths, self.labels, column)


def task_rows(
    train: TokenizedSplit, dev: Mapping[str, TokenizedSplit], pad_token_id: int, vocab_size: int,
    copies: Sequence[TokenizedSplit] = (),
) -> TaskRows:
    """Joins the splits of a task and renumbers their token ids by the vocabulary they use.

    Raises:
        InputError: A token id is outside the model's vocabulary.
    """
    splits = [train, *copies, *dev.values()]
    tokens = np.concatenate([split.input_ids for split in splits])
    require(tokens.max() < vocab_size,
            f"the tokenizer's ids must be below the model's vocab_size {vocab_size}, got {tokens.max()}: "
            "use the tokenizer that belongs to the model")
    vocabulary = used_vocabulary(tokens, pad_token_id, vocab_size)
    longest = max(int(split.lengths.max()) for split in splits)
    ends = np.cumsum([len(split) for split in splits])[len(copies):].tolist()
    return TaskRows(
        input_ids=vocabulary.compact(np.concatenate([split.padded(longest, pad_token_id) for split in splits])),
        second_start=np.concatenate([split.second_start for split in splits]).astype(np.int32),
        lengths=np.concatenate([split.lengths for split in splits]).astype(np.int32),
        labels=np.concatenate([split.labels for split in splits]),
        train=range(len(train)), texts=range(ends[0]),
        dev={name: range(start, end) for name, start, end in zip(dev, ends[:-1], ends[1:], strict=True)},
        vocabulary=vocabulary,
    )
