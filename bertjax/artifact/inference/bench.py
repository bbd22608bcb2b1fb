"""Latency, throughput and score of trained models in several runtimes, measured in turns on the same batches."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bertjax.artifact.exports.to_onnx import require_onnx
from bertjax.artifact.inference.candidates import Candidate, Runtimes, candidates, left_out
from bertjax.artifact.inference.latency import JAX, ONNX, TORCH, Latency, latency, take_turns
from bertjax.artifact.load import MAX_EDGES, Batch, Model
from bertjax.artifact.machine import cpu_count, cpu_name, versions
from bertjax.config import require
from bertjax.data.batches import choose_edges
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
    """At most so many of each size, evenly spaced among the dev rows in the order of their lengths. Each is as long as
    its longest row; for JAX, which compiles a program for each length, up to the next of `MAX_EDGES` lengths."""
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
            where = "in memory" if candidate.runtime.split()[0] in (JAX, TORCH) else "in the ONNX file"
            log.info("%s: score %.2f, %.1f MB %s", candidate.name, scores[candidate.name], candidate.num_bytes / 1e6,
                     where)
        rows = []
        for size in settings.batch_sizes:
            batches = dev_batches(tokens, pad, size, settings.batches)
            log.info("batch %d: %d candidates take turns on %d batches", size, len(chosen), len(batches))
            rows += _rows(chosen, scores, size, _measured(chosen, batches, settings.rounds))
    return {
        "task": data.task.name, "cpu": cpu_name(), "threads": settings.threads, "jax_cpus": cpu_count(),
        "jax_device": jax.devices()[0].device_kind, "load_before": load, "rounds": settings.rounds,
        "batches": settings.batches, "versions": versions(), "left_out": left_out(), "rows": rows,
    }


class Padded(NamedTuple):
    """One batch twice."""

    own: Batch
    """As long as its longest row."""
    compiled: Batch
    """As long as `bertjax.load(...).predict` makes it, which compiles few lengths: what JAX gets."""


def dev_batches(tokens: TokenizedSplit, pad_token_id: int, size: int, most: int) -> list[Padded]:
    """Whole batches of rows in the order of their lengths.

    Args:
        size: Rows of a batch; all rows where there are not so many.
        most: Batches at most, evenly spaced, the first and the last among them.
    """
    edges = np.array(choose_edges(tokens.lengths, MAX_EDGES, size))
    order = np.argsort(tokens.lengths, kind="stable")
    starts = range(0, max(len(order) - size, 0) + 1, size)  # whole batches
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(most, len(starts))).round().astype(int))
    padded, made = tokens.padded(int(tokens.lengths.max()), pad_token_id), []
    for start in (starts[i] for i in chosen):
        rows = order[start:start + size]
        longest = int(tokens.lengths[rows].max())
        at = np.arange(edges[np.searchsorted(edges, longest)])
        mask = at < tokens.lengths[rows, None]
        ids, types = padded[rows][:, :len(at)], mask & (at >= tokens.second_start[rows, None])
        made.append(Padded(Batch(ids[:, :longest], mask[:, :longest], types[:, :longest], rows),
                           Batch(ids, mask, types, rows)))
    return made


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


def _measured(chosen: list[Candidate], batches: list[Padded], rounds: int) -> dict[str, Latency]:
    def call(candidate: Candidate) -> Any:
        def run(batch: Padded) -> Any:
            read = batch.compiled if candidate.runtime == JAX else batch.own
            return candidate.model.logits(read.input_ids, read.attention_mask, read.token_type_ids)

        return run

    seconds = take_turns({candidate.name: call(candidate) for candidate in chosen}, batches, rounds)
    counts = [len(batch.own.rows) for batch in batches]
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
