"""Latency, throughput and score of trained models in several runtimes, measured in turns on the same batches."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bertjax.artifact.exports.to_onnx import require_onnx
from bertjax.artifact.inference.candidates import ONNX, Candidate, Runtimes, candidates, left_out
from bertjax.artifact.inference.latency import Latency, latency, take_turns
from bertjax.artifact.load import Batch, Model, padded_batches
from bertjax.artifact.machine import cpu_count, cpu_name, versions
from bertjax.config import require
from bertjax.data.sources import TaskData
from bertjax.data.tokens import TokenizedSplit, tokenize

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchSettings:
    """How it is measured."""

    threads: int = 1
    """Of ONNX Runtime and PyTorch; JAX has those that `bertjax.artifact.machine.limit_cpus` leaves it."""
    rounds: int = 5
    """Rounds that count; one more warms up."""
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    batches: int = 40
    """At most so many of each size, evenly spaced among the dev rows in the order of their lengths."""
    post_training: bool = False
    """Quantize float models by every scheme of `bertjax.artifact.inference.post_training`."""
    static: bool = True
    """Also measure models with Q with fixed scales for their activations."""

    def __post_init__(self) -> None:
        for name in ("threads", "rounds", "batches"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        require(bool(self.batch_sizes) and min(self.batch_sizes) >= 1 and
                len(set(self.batch_sizes)) == len(self.batch_sizes),
                f"batch_sizes must be different numbers of at least 1, got {self.batch_sizes}")


def bench_inference(models: Mapping[str, Model], data: TaskData, settings: BenchSettings) -> dict[str, Any]:
    """Measures every candidate, see `bertjax.artifact.inference.candidates.candidates`.

    Returns:
        What it ran on and `rows`, one for each candidate and batch size: `artifact`, `runtime`, `batch_size`, the
        fields of `Latency`, `speedup` (rows per second over those of its float reference in ONNX Runtime), `score` in
        points on the dev rows, `num_bytes`. Fit for JSON.

    Raises:
        InputError: A package is missing, or the models are not all of the task or read its rows as other tokens.
    """
    require_onnx()
    tokens = _tokens(models, data)
    pad = next(iter(models.values())).config.pad_token_id
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with tempfile.TemporaryDirectory() as folder:
        chosen = candidates(models, Runtimes(Path(folder), data.train, settings.threads, settings.static),
                            settings.post_training)
        scores = {}
        for candidate in chosen:
            scores[candidate.name] = candidate.model.evaluate(data)["score"]
            log.info("%s: score %.2f, %.1f MB", candidate.name, scores[candidate.name], candidate.num_bytes / 1e6)
        rows = []
        for size in settings.batch_sizes:
            batches = spread(padded_batches(tokens, pad, size), settings.batches)
            log.info("batch %d: %d candidates take turns on %d batches", size, len(chosen), len(batches))
            rows += _rows(chosen, scores, size, _measured(chosen, batches, settings.rounds))
    return {
        "task": data.task.name, "cpu": cpu_name(), "threads": settings.threads, "jax_cpus": cpu_count(),
        "jax_device": jax.devices()[0].device_kind, "load_before": load, "rounds": settings.rounds,
        "batches": settings.batches, "versions": versions(), "left_out": left_out(), "rows": rows,
    }


def spread(batches: list[Batch], most: int) -> list[Batch]:
    """At most so many of the batches, evenly spaced, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(batches) - 1, min(most, len(batches))).round().astype(int))
    return [batches[i] for i in chosen]


def _tokens(models: Mapping[str, Model], data: TaskData) -> TokenizedSplit:
    """The dev rows as all of the models read them."""
    examples, first = next(iter(data.dev.values())), ""
    found: TokenizedSplit | None = None
    for name, model in models.items():
        model.columns_of(data.task)
        tokens = tokenize(examples, model.tokenizer, model.max_length, None)
        require(found is None or tokens.content_hash() == found.content_hash(),
                f"models that are compared must read the same tokens; those of {name} are not those of {first}: "
                "measure them one by one")
        found, first = found or tokens, first or name
    require(found is not None, "there is no model to measure")
    assert found is not None
    return found


def _measured(chosen: list[Candidate], batches: list[Batch], rounds: int) -> dict[str, Latency]:
    def call(model: Model) -> Any:
        return lambda batch: model.logits(batch.input_ids, batch.attention_mask, batch.token_type_ids)

    seconds = take_turns({candidate.name: call(candidate.model) for candidate in chosen}, batches, rounds)
    counts = [len(batch.rows) for batch in batches]
    return {name: latency(taken, counts) for name, taken in seconds.items()}


def _rows(
    chosen: list[Candidate], scores: Mapping[str, float], size: int, found: Mapping[str, Latency]
) -> list[dict[str, Any]]:
    """Of one batch size."""
    throughput = {(candidate.artifact, candidate.runtime): found[candidate.name].rows_per_second
                  for candidate in chosen}
    return [
        {"artifact": candidate.artifact, "runtime": candidate.runtime, "batch_size": size,
         **found[candidate.name]._asdict(),
         "speedup": found[candidate.name].rows_per_second / throughput[candidate.reference, ONNX],
         "score": float(scores[candidate.name]), "num_bytes": candidate.num_bytes}
        for candidate in chosen
    ]
