"""A trained model to use: from a trial's folder, a packed model, a Hugging Face folder, or the hub."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bertjax.artifact.packed.model import find_packed, read_packed_model
from bertjax.artifact.packed.pack import unpack
from bertjax.artifact.settings import read_settings
from bertjax.compress.quantize import dot_general, quantize_embeddings
from bertjax.config import BertConfig, Dtype, InputError, QuantizeConfig, require
from bertjax.data.batches import choose_edges, eval_batches
from bertjax.data.sources import Examples, TaskData, unlabelled
from bertjax.data.tasks import Task, unnamed
from bertjax.data.tokens import TokenizedSplit, load_tokenizer, tokenize
from bertjax.metrics import glue_score, score_predictions
from bertjax.model.bert import Inputs, logits_fn
from bertjax.model.hf import from_pretrained, load_config
from bertjax.model.hf_config import read_label_names
from bertjax.model.products import activation_type
from bertjax.model.source import find_file
from bertjax.params import Params

BATCH_SIZE = 32
MAX_EDGES = 4
"""Batch lengths compiled for one call of `predict` at most."""


@dataclass(frozen=True)
class Model:
    """A fine-tuned BERT with its tokenizer; it computes what its trial's evaluation computed."""

    config: BertConfig
    params: Params
    quantize: QuantizeConfig
    """How its products and tables are quantized; all None for a float model."""
    regression: bool
    label_names: tuple[str, ...]
    """Names of the classes in order; empty for regression."""
    tokenizer: Any
    max_length: int
    """Longest sequence in tokens; longer texts are truncated."""
    dropped: int | None = field(default=None, kw_only=True)
    """Encoder weights that pruning dropped, of a model that was packed; None: those that are zero."""
    origin: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """Where a sweep made it: trial_id, task, methods, base_model, its licence if known, and scores."""
    dtype: Dtype = field(default="float32", kw_only=True)
    """Compute type of its activations; its parameters and logits are float32."""

    @property
    def unnamed(self) -> bool:
        """Whether its classes have no names, but LABEL_0, LABEL_1 and so on."""
        return unnamed(self.label_names)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of own files that it is scored on, which need not hold every one of them; empty where its
        outputs have no names, and the classes are those of the file, in the order of their names."""
        return () if self.unnamed else self.label_names

    def logits(
        self,
        input_ids: Int[np.ndarray, "batch seq"],
        attention_mask: Int[np.ndarray, "batch seq"] | None = None,
        token_type_ids: Int[np.ndarray, "batch seq"] | None = None,
    ) -> Float[np.ndarray, "batch labels"]:
        """Logits (or scores, one column) of a padded batch; each new shape compiles once.

        Args:
            input_ids: Token ids.
            attention_mask: Nonzero where there is a token; None: everywhere.
            token_type_ids: 0 in the first text, 1 in the second; None: 0 everywhere.

        Raises:
            InputError: Shapes that differ, ids that are no integers or outside the vocabulary, or rows without a token
                or longer than the model's positions.
        """
        ids = _array("input_ids", input_ids)
        mask = np.ones(ids.shape, bool) if attention_mask is None else _array("attention_mask", attention_mask) != 0
        types = np.zeros(ids.shape, np.int32) if token_type_ids is None else _array("token_type_ids", token_type_ids)
        self._check(ids, mask, types)
        return self._compute(ids.astype(np.int32), mask, types.astype(np.int32))

    def _compute(
        self, ids: Int[np.ndarray, "batch seq"], mask: Bool[np.ndarray, "batch seq"],
        types: Int[np.ndarray, "batch seq"],
    ) -> Float[np.ndarray, "batch labels"]:
        """The logits of a batch that was checked."""
        forward = _forward(self.config, self.quantize, self.dtype)
        return np.asarray(forward(self.params, Inputs(*map(jnp.asarray, (ids, types, mask)))))

    def predict(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """For each text or pair its `label` and `probabilities` by class name, or its `score` for regression.

        Raises:
            InputError: Not a list of texts or of pairs of them.
        """
        texts = _checked_texts(texts)
        if not texts:
            return []
        logits = self._logits_of(tokenize(unlabelled(texts), self.tokenizer, self.max_length, None))
        if self.regression:
            return [{"score": float(score)} for score in logits[:, 0]]
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = shifted / shifted.sum(axis=1, keepdims=True)
        return [
            {"label": self.label_names[row.argmax()],
             "probabilities": dict(zip(self.label_names, row.tolist(), strict=True))}
            for row in probabilities
        ]

    def evaluate(self, data: TaskData) -> dict[str, float]:
        """Metrics in points on the task's dev rows, `score` first; a second dev split's carry its name.

        Raises:
            InputError: The task's labels are not the model's.
        """
        result: dict[str, float] = {}
        for split, examples in data.dev.items():
            metrics = score_predictions(data.task, self.task_logits(data.task, examples), examples.labels)
            if not result:
                result = {"score": glue_score(data.task, metrics), **metrics}
            else:
                result |= {f"{name}_{split.removeprefix('validation_')}": value for name, value in metrics.items()}
        return result

    def task_logits(self, task: Task, examples: Examples) -> Float[np.ndarray, "row labels"]:
        """Logits of a task's rows with a column for each of the task's labels, in its order; for regression the score.

        Raises:
            InputError: The task's labels are not the model's.
        """
        columns = self.columns_of(task)
        return self._logits_of(tokenize(examples, self.tokenizer, self.max_length, None))[:, columns]

    def columns_of(self, task: Task) -> list[int]:
        """For each of the task's labels its column in the logits, see `Task.columns_of`.

        Raises:
            InputError: The task's labels are not the model's.
        """
        require(task.regression == self.regression and task.num_labels == self.config.num_labels,
                f"the model must fit the task {task.name}, which has "
                f"{'a score' if task.regression else f'{task.num_labels} labels'}; the model gives "
                f"{'a score' if self.regression else f'{self.config.num_labels} labels'}")
        return task.columns_of(self.label_names)

    def _logits_of(self, tokens: TokenizedSplit) -> Float[np.ndarray, "row labels"]:
        made = np.zeros((len(tokens), self.config.num_labels), np.float32)
        for batch in padded_batches(tokens, self.config.pad_token_id):
            logits = self.logits(batch.input_ids, batch.attention_mask, batch.token_type_ids)
            made[batch.rows] = logits[:len(batch.rows)]
        return made

    def _check(self, ids: np.ndarray, mask: Bool[np.ndarray, "batch seq"], types: np.ndarray) -> None:
        require(ids.ndim == 2 and ids.shape == mask.shape == types.shape,
                f"input_ids, attention_mask and token_type_ids must all be [batch, seq], "
                f"got {ids.shape}, {mask.shape}, {types.shape}")
        require(ids.shape[1] >= 1, f"rows must hold at least one token, got {ids.shape}")
        require(ids.shape[1] <= self.config.max_position_embeddings,
                f"rows must be at most {self.config.max_position_embeddings} tokens long, got {ids.shape[1]}")
        for name, values, bound in (("input_ids", ids, self.config.vocab_size),
                                    ("token_type_ids", types, self.config.type_vocab_size)):
            require(values.dtype.kind in "biu", f"{name} must be integers, got {values.dtype}")
            require(values.size == 0 or (values.min() >= 0 and values.max() < bound),
                    f"{name} must be in [0, {bound}), got values up to {values.max(initial=0)}")


def _array(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:
        raise InputError(f"{name} must be [batch, seq], got rows of different lengths: pad them") from None


def _checked_texts(texts: Any) -> list[str] | list[tuple[str, str]]:
    """The texts or pairs as a list. Raises `InputError` unless they are."""
    what = "predict takes a list of texts, or of pairs of texts"
    require(not isinstance(texts, str), f"{what}; got one text: put it into a list")
    require(isinstance(texts, Iterable) and not isinstance(texts, bytes | Mapping),
            f"{what}; got {type(texts).__name__}")
    checked = list(texts)
    for number, text in enumerate(checked):
        pair = isinstance(text, tuple | list) and len(text) == 2 and all(isinstance(part, str) for part in text)
        require(isinstance(text, str) or pair, f"{what}; number {number} of the list is {_short(text)}")
    return checked


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:60] + "…"


class Batch(NamedTuple):
    """Rows of about one length, padded to the length of the batch."""

    input_ids: Int[np.ndarray, "batch seq"]
    attention_mask: Bool[np.ndarray, "batch seq"]
    token_type_ids: Bool[np.ndarray, "batch seq"]
    rows: Int[np.ndarray, " real"]
    """Which rows these are; what follows them fills up the batch."""


def padded_batches(tokens: TokenizedSplit, pad_token_id: int, batch_size: int = BATCH_SIZE) -> list[Batch]:
    """Every row once, shortest first, in batches of at most `MAX_EDGES` lengths."""
    edges = choose_edges(tokens.lengths, MAX_EDGES, batch_size)
    padded, made = tokens.padded(edges[-1], pad_token_id), []
    for length, rows, weight in eval_batches(tokens.lengths, edges, batch_size):
        at = np.arange(length)
        mask = at < tokens.lengths[rows, None]
        types = mask & (at >= tokens.second_start[rows, None])
        made.append(Batch(padded[rows, :length], mask, types, rows[weight > 0]))
    return made


@functools.lru_cache(maxsize=16)
def _forward(config: BertConfig, quantize: QuantizeConfig, dtype: Dtype) -> Any:
    """The compiled model; models of one shape share it."""
    model = logits_fn(config, dot_general(quantize, dtype), activation_type(dtype))
    bits = quantize.embedding_bits
    return jax.jit(lambda params, inputs: model(quantize_embeddings(params, bits), inputs, None))


def load(source: str | os.PathLike[str]) -> Model:
    """Loads a trial's folder, a packed model (`model.bertjax` or its folder), a Hugging Face BERT classifier's folder,
    or one from the hub. Of a trial's folder it takes `model/` where that was kept, else `packed/`.

    Raises:
        InputError: Nothing to load, a packed model that is damaged or newer than this bertjax, or a model without a
            task head.
    """
    folder = Path(source).expanduser()
    if (folder / "model" / "config.json").is_file():
        source = folder / "model"
    elif (packed := find_packed(folder)) is not None:
        return _load_packed(packed)
    elif (folder / "result.json").is_file():
        raise InputError(f"{folder} must hold a model; {_why_none(folder / 'result.json')}")
    elif (folder / "trials").is_dir():
        raise InputError(f"{folder} must hold a model, and is a run directory: name one of the folders in its trials/")
    return _load_pretrained(source)


def _why_none(result: Path) -> str:
    """Why a trial has no model."""
    try:
        status = json.loads(result.read_text(encoding="utf-8"))["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"there is none, and {result.name} is damaged"
    return "this trial's was not kept (sweep with --keep-models all)" if status == "done" else \
        f"this trial has none, as it {status}"


def _load_packed(file: Path) -> Model:
    found = read_packed_model(file)
    try:
        params = unpack(found.packed)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    return Model(
        config=found.config, params=jax.tree.map(jnp.asarray, params), quantize=found.quantize,
        regression=found.regression, label_names=found.label_names, tokenizer=load_tokenizer(str(file.parent)),
        max_length=found.max_length, dropped=found.dropped, origin=found.origin, dtype=found.dtype,
    )


def _load_pretrained(source: str | os.PathLike[str]) -> Model:
    config = load_config(source)
    file = find_file(source, "config.json")
    pretrained = from_pretrained(source, num_labels=config.num_labels)
    require(not any(note.startswith("task head initialized") for note in pretrained.notes),
            f"{source} must have a fine-tuned task head (classifier.weight), got a model without one")
    names = read_label_names(file) or tuple(f"LABEL_{i}" for i in range(config.num_labels))
    regression = config.num_labels == 1
    own = read_settings(file)
    return Model(
        config=pretrained.config, params=jax.tree.map(jnp.asarray, pretrained.params),
        quantize=own.quantize, regression=regression,
        label_names=() if regression else names, tokenizer=load_tokenizer(str(source)),
        max_length=min(own.max_length or config.max_position_embeddings, config.max_position_embeddings),
        origin=own.origin, dtype=own.dtype,
    )
