"""A trained model for other programs: Hugging Face transformers, ONNX Runtime, or anything that runs StableHLO."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from bertjax.artifact.card import CARD, known_origin
from bertjax.artifact.exports.calibration import static_scales
from bertjax.artifact.exports.parity import Parity, check_parity, check_score, computed_by
from bertjax.artifact.exports.to_hf import hf_card, hf_program, weight_only, write_hf
from bertjax.artifact.exports.to_onnx import FILE, needs_unsigned, onnx_card, onnx_run, require_onnx, write_onnx
from bertjax.artifact.exports.to_stablehlo import require_flatbuffers, stablehlo_card, write_stablehlo
from bertjax.artifact.load import Model, load
from bertjax.artifact.packed.pack import require_finite
from bertjax.config import require
from bertjax.data.sources import TaskData
from bertjax.model.folder import new_folder, require_new
from bertjax.model.hf_config import write_config
from bertjax.params import paths
from bertjax.words import number_of

log = logging.getLogger(__name__)

Format = Literal["hf", "onnx", "stablehlo"]


@dataclass(frozen=True)
class Exported:
    """What an export left."""

    folder: Path
    """Holds the model in its format, its tokenizer, config.json and a README that says how to run it."""
    num_bytes: int
    """Of all files in the folder."""
    parity: Parity
    """With the model that was exported; for hf, with that model without quantized activations."""


def export(
    model: Model | str | os.PathLike[str],
    format: Format,
    output_dir: str | os.PathLike[str],
    data: TaskData | None = None,
    static_activations: bool = False,
    unsigned_weights: bool | None = None,
) -> Exported:
    """Writes a model in another format, runs what was written, and keeps it if its logits are the model's.

    Args:
        model: Loaded, or what `bertjax.artifact.load.load` takes.
        format: `hf`: transformers loads the folder (float32; of quantization only the weights' half). `onnx`:
            model.onnx with training's integer products. `stablehlo`: a program for CPUs, GPUs and TPUs, with weights.
        output_dir: New or empty. It appears whole, or not at all.
        data: The task of the model. Logits are compared on its dev rows, and scores stand in the README; without it,
            on made-up rows.
        static_activations: For `onnx`, of a model with 8-bit activations: they get fixed scales, measured on training
            rows of `data`, instead of one for each token. Another rounding than training's: its logits are
            compared with those of the file's operators one by one, and its score with the model's.
        unsigned_weights: For `onnx`, of a model with Q: whether its weights are stored as uint8, which every processor
            multiplies exactly, or as int8, which x86 without VNNI may not. None: as this machine needs it.

    Raises:
        InputError: `output_dir` is not empty or cannot be written, the model has diverged, a package is missing, the
            labels of `data` are not the model's, the logits of what was written are not the model's, or static
            activations cost more than a point of score.
    """
    require(not static_activations or format == "onnx" and data is not None,
            "static activations are for the format onnx, and need a task's rows to measure and to check; "
            f"got {format}{'' if data else ', no task'}")
    require(unsigned_weights is None or format == "onnx",
            f"unsigned_weights is about the weights of the format onnx, got {format}")
    require(format in get_args(Format), f"format must be one of {', '.join(get_args(Format))}, got {format!r}")
    target = Path(output_dir).expanduser()
    require_new(target)
    if format == "onnx":
        require_onnx()
    elif format == "stablehlo":
        require_flatbuffers()
    if not isinstance(model, Model):
        source, model = model, load(model)
        model = replace(model, origin=known_origin(source, model.origin))
    require(unsigned_weights is None or model.quantize.weight_bits is not None,
            "unsigned_weights is about the integer weights of a model with Q, and this model's are float")
    for path, leaf in paths(model.params).items():
        require_finite(path, np.asarray(leaf), "exported")
    model = replace(model, dtype="float32")  # what every format computes in, whatever the training did
    if unsigned_weights is None:
        unsigned_weights = format == "onnx" and needs_unsigned(model)
    if data is not None:
        model.columns_of(data.task)
    rows = None if data is None else sum(map(len, data.dev.values()))
    log.info("writing %s, and comparing it with the model on %s", format,
             "made-up rows" if rows is None else number_of("dev row", rows))
    with new_folder(target) as folder:
        parity, card = _write(model, format, folder, data, static_activations, unsigned_weights)
        (folder / CARD).write_text(card, encoding="utf-8", newline="\n")
        num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Exported(target, num_bytes, parity)


def _write(
    model: Model, format: Format, folder: Path, data: TaskData | None, static_activations: bool, unsigned: bool
) -> tuple[Parity, str]:
    """Fills the folder but for the card, which it returns."""
    if format == "hf":
        reference = weight_only(model)
        parity = check_parity(reference, write_hf(reference, folder), data)
        own_score = None if data is None else model.evaluate(data)["score"]
        return parity, hf_card(model, parity, own_score, hf_program())
    extras = {"max_length": model.max_length, "origin": dict(model.origin)}
    problem_type = "regression" if model.regression else "single_label_classification"
    write_config(folder / "config.json", model.config, model.label_names, problem_type, extras)
    model.tokenizer.save_pretrained(str(folder))
    if format == "onnx":
        if static_activations and data is not None:
            made = write_onnx(model, folder, unsigned, static_scales(model, data.train))
            check_parity(computed_by(model, onnx_run(folder / FILE, optimize=False)), made, data)
            parity = check_score(model, made, data)
        else:
            parity = check_parity(model, write_onnx(model, folder, unsigned), data)
        return parity, onnx_card(model, parity, unsigned, static_activations)
    parity = check_parity(model, write_stablehlo(model, folder), data)
    return parity, stablehlo_card(model, parity)
