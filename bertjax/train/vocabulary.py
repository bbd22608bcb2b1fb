"""Training on the rows of the word embedding that a task uses.

A row that no text of the task uses gets no gradient: AdamW only shrinks it by its weight decay, the same factor for
every such row. So the program trains the used rows alone, and the others are put back with that factor. Equal to
training all of them but for float32 rounding; on a small model it saves most of the optimizer's memory and time.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bertjax.train.trial import TrialConfig, warmup_steps

ROUND_TO = 1024
"""Used rows are rounded up to a multiple of this, so that similar tasks have programs of one shape."""


@dataclass(frozen=True)
class UsedVocabulary:
    """The used token ids of a task, increasing, filled up with unused ones."""

    ids: Int[np.ndarray, " used"]
    vocab_size: int

    def compact(self, input_ids: Int[np.ndarray, "*shape"]) -> Int[np.ndarray, "*shape"]:
        """Token ids as positions in `ids`."""
        return np.searchsorted(self.ids, input_ids).astype(np.int32)

    def take(self, table: Float[np.ndarray, "vocab hidden"]) -> Float[np.ndarray, "used hidden"]:
        """The used rows of a word embedding."""
        return table[self.ids]

    def restore(
        self, table: Float[np.ndarray, "vocab hidden"], trained: Float[np.ndarray, "used hidden"], decay: float
    ) -> Float[np.ndarray, "vocab hidden"]:
        """The whole word embedding after training: used rows as `trained`, the others times `decay`."""
        whole = table * np.float32(decay)
        whole[self.ids] = trained
        return whole


def used_vocabulary(input_ids: Int[np.ndarray, " tokens"], pad_token_id: int, vocab_size: int) -> UsedVocabulary:
    """The ids that occur, the padding id included."""
    used = np.zeros(vocab_size, bool)
    used[input_ids] = True
    used[pad_token_id] = True
    missing = -int(used.sum()) % ROUND_TO
    used[np.flatnonzero(~used)[:missing]] = True
    return UsedVocabulary(np.flatnonzero(used).astype(np.int32), vocab_size)


def accumulated_decay(trial: TrialConfig, total_steps: int, taken: int | None = None) -> float:
    """The factor that AdamW puts on a weight without gradients: the product of 1 - rate * decay.

    Args:
        trial: Its learning rate, warm-up and weight decay count.
        total_steps: Steps of the schedule.
        taken: How many of them were taken; None takes all.
    """
    step = np.arange(total_steps if taken is None else taken, dtype=np.float64)
    warmup = warmup_steps(trial, total_steps)
    rate = np.where(step < warmup, step / max(warmup, 1), (total_steps - step) / max(total_steps - warmup, 1))
    return float(np.prod(1.0 - trial.learning_rate * rate * trial.train.weight_decay))
