"""The folder of a packed model: the file, its tokenizer, and a model card."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bertjax.artifact.card import AFTER_TRAINING, CARD, known_origin, packed_card
from bertjax.artifact.load import Model, load
from bertjax.artifact.packed.file import write_packed
from bertjax.artifact.packed.model import PACKED_FILE, PackedModel, pack_model
from bertjax.artifact.packed.pack import FloatType
from bertjax.config import FLOAT, QuantizeConfig, require
from bertjax.model.folder import MODEL_FILES, new_folder, require_new

FOLDER_FILES = (MODEL_FILES - {"model.safetensors", "config.json"}) | {PACKED_FILE, CARD}
"""What such a folder may hold. `write_packed_folder` never replaces one that holds anything else."""


def write_packed_folder(
    directory: str | os.PathLike[str], model: PackedModel, tokenizer: Any, scores: str | None = None,
    licence: str | None = None,
) -> int:
    """Writes a packed model's folder at once or not at all; the bytes of its `model.bertjax`.

    Args:
        directory: Made with its parents. An empty folder, or one of a packed model, is replaced.
        model: The model.
        tokenizer: Saved beside it.
        scores: For the card: what the model scores, and how that was measured; None takes those of its origin.
        licence: For the card: of the base model; None takes that of the model's origin.

    Raises:
        InputError: The directory is a file, holds other files, or cannot be written.
    """
    with new_folder(directory, FOLDER_FILES) as folder:
        write_packed(folder / PACKED_FILE, model.packed, model.metadata)
        num_bytes = (folder / PACKED_FILE).stat().st_size
        tokenizer.save_pretrained(str(folder))
        (folder / CARD).write_text(packed_card(model, num_bytes, scores, licence), encoding="utf-8", newline="\n")
    return num_bytes


def pack_folder(
    source: str | os.PathLike[str], output_dir: str | os.PathLike[str], *, quantize: bool = False,
    float_type: FloatType = "float32", entropy: bool = False,
) -> int:
    """Packs a model into a new folder; the bytes of its `model.bertjax`.

    Args:
        source: What `load` takes. What files beside the model say of its licence and scores stands in the card.
        output_dir: New or empty.
        quantize: Of a float model: by bertjax's own scheme in 8 bits, as Q trains it, without that training.
        float_type: Rounds what is not quantized to this type. Only float32 keeps the model's logits.
        entropy: Entropy-code codes and masks where it saves (extra `entropy`).

    Raises:
        InputError: What `load` and `pack` raise, the model is quantized already, or the output is not empty or cannot
            be written.
    """
    target = Path(output_dir).expanduser()
    require_new(target)
    model = load(source)
    known = known_origin(source, model.origin)
    require(not quantize or model.quantize == FLOAT,
            f"to quantize without training takes a float model, and {source} is one with "
            f"{model.quantize.weight_bits}-bit weights")
    if quantize or float_type != "float32":  # another model, with scores of its own
        known.pop("scores", None)
        model = replace(model, origin={name: value for name, value in model.origin.items() if name != "scores"})
    if quantize:
        model = replace(model, quantize=QuantizeConfig(), origin={**model.origin, AFTER_TRAINING: True})
    packed = pack_loaded(model, float_type=float_type, entropy=entropy)
    return write_packed_folder(target, packed, model.tokenizer, known.get("scores"), known.get("licence"))


def pack_loaded(model: Model, *, float_type: FloatType = "float32", entropy: bool = False) -> PackedModel:
    """Packs a loaded model; see `bertjax.artifact.packed.pack.pack`, also for what is raised."""
    return pack_model(
        jax.tree.map(np.asarray, model.params), model.config, model.quantize, label_names=model.label_names,
        max_length=model.max_length, dropped=model.dropped, origin=model.origin, float_type=float_type, entropy=entropy,
        dtype=model.dtype)
