"""A task's tokenized rows as the table that lies on the device: training rows first, then every dev split."""

from collections.abc import Mapping
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
    dev: Mapping[str, range]
    """Rows of each dev split, the scoring one first."""
    vocabulary: UsedVocabulary

    @property
    def dev_rows(self) -> range:
        """Rows of all dev splits."""
        return range(len(self.train), len(self.lengths))

    def table(
        self, num_labels: int, teacher_logits: Float[np.ndarray, "train labels"] | None = None
    ) -> Table[np.ndarray]:
        """The arrays of a program; dev rows and absent teachers have zeros as teacher outputs."""
        column = np.zeros((1, len(self.lengths), num_labels), np.float32)
        if teacher_logits is not None:
            column[0, : len(self.train)] = teacher_logits
        ids = self.input_ids.astype(np.uint16 if len(self.vocabulary.ids) <= 2**16 else np.int32)
        return Table(ids, self.second_start, self.lengths, self.labels, column)


def task_rows(
    train: TokenizedSplit, dev: Mapping[str, TokenizedSplit], pad_token_id: int, vocab_size: int
) -> TaskRows:
    """Joins the splits of a task and renumbers their token ids by the vocabulary they use.

    Raises:
        InputError: A token id is outside the model's vocabulary.
    """
    splits = [train, *dev.values()]
    tokens = np.concatenate([split.input_ids for split in splits])
    require(tokens.max() < vocab_size,
            f"the tokenizer's ids must be below the model's vocab_size {vocab_size}, got {tokens.max()}: "
            "use the tokenizer that belongs to the model")
    vocabulary = used_vocabulary(tokens, pad_token_id, vocab_size)
    longest = max(int(split.lengths.max()) for split in splits)
    ends = np.cumsum([len(split) for split in splits]).tolist()
    return TaskRows(
        input_ids=vocabulary.compact(np.concatenate([split.padded(longest, pad_token_id) for split in splits])),
        second_start=np.concatenate([split.second_start for split in splits]).astype(np.int32),
        lengths=np.concatenate([split.lengths for split in splits]).astype(np.int32),
        labels=np.concatenate([split.labels for split in splits]),
        train=range(ends[0]),
        dev={name: range(start, end) for name, start, end in zip(dev, ends[:-1], ends[1:], strict=True)},
        vocabulary=vocabulary,
    )
