"""The parameters that trials start from: a checkpoint's, with what it lacks drawn by the trial's seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bertjax.config import InputError
from bertjax.model.hf import Pretrained, from_pretrained
from bertjax.params import Params
from bertjax.study import TrialConfig
from bertjax.sweep.experiments import model_source
from bertjax.sweep.inputs import TaskInputs


@dataclass
class Starts:
    """The parameters that trials start from; trials of equal seed share them."""

    inputs: TaskInputs
    loaded: dict[int, Pretrained]

    def whole(self, trial: TrialConfig) -> Params:
        """All parameters."""
        if trial.seed not in self.loaded:
            self.loaded[trial.seed] = load_start(trial, self.inputs)
        return self.loaded[trial.seed].params

    def used(self, trial: TrialConfig) -> Params:
        """The parameters with the rows of the word embedding that the task uses."""
        return with_word_embeddings(self.whole(trial), self.inputs.rows.vocabulary.take)


def load_start(trial: TrialConfig, inputs: TaskInputs) -> Pretrained:
    """The checkpoint that a trial starts from, a stored head's outputs in the order of the task's labels.

    Raises:
        InputError: It cannot be loaded, or its head is for other labels than the task's.
    """
    task, own = inputs.data.task, not trial.fine_tuned
    found = from_pretrained(
        model_source(trial.model), num_labels=inputs.config.num_labels, num_hidden_layers=trial.num_hidden_layers,
        seed=trial.seed, reinit_pooler=trial.train.reinit_pooler and own, reinit_head=trial.train.reinit_head and own)
    if found.label_names is None or task.regression or not own:
        return found
    try:
        columns = task.columns_of(found.label_names)
    except InputError as error:
        raise InputError(f"{trial.model}: {error}; ask for a new task head (--reinit-head True)") from error
    head = {name: np.asarray(leaf)[..., columns] for name, leaf in found.params["classifier"].items()}
    return replace(found, params={**found.params, "classifier": head}, label_names=task.label_names)


def with_word_embeddings(params: Params, change: Callable[[np.ndarray], np.ndarray]) -> Params:
    """`params` with another word embedding."""
    bert = params["bert"]
    words = {"embedding": change(bert["embeddings"]["word_embeddings"]["embedding"])}
    return params | {"bert": bert | {"embeddings": bert["embeddings"] | {"word_embeddings": words}}}
