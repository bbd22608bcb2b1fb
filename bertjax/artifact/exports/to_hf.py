"""A model for Hugging Face transformers: float32 weights with the values of their codes, activations in float.

transformers has no product that quantizes activations as training does, so a quantized model's score there is that of
weight-only quantization, which is another one. The card states it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from bertjax.artifact.card import about, card_head, of_pairs
from bertjax.artifact.codes import model_codes
from bertjax.artifact.exports.parity import Parity, Run, computed_by
from bertjax.artifact.load import Model, load
from bertjax.config import FLOAT
from bertjax.model.hf import save_pretrained
from bertjax.params import nest, paths


def weight_only(model: Model) -> Model:
    """The model with its quantized matrices at the float values of their codes, and its activations in float.

    The scores of a quantized model are not those of this one.
    """
    if model.quantize == FLOAT:
        return model
    origin = {name: value for name, value in model.origin.items() if name != "scores"}
    codes = model_codes(model.params, model.quantize)
    leaves = {path: jnp.asarray(codes[path].codes * codes[path].scale) if path in codes else leaf
              for path, leaf in paths(model.params).items()}
    return replace(model, params=nest(leaves), quantize=FLOAT, origin=origin)


def write_hf(model: Model, folder: Path) -> Model:
    """Writes a weight-only model into an existing empty folder and reads it back.

    By transformers where PyTorch is installed, else by bertjax.
    """
    save_hf(model, folder)
    return computed_by(model, transformers_run(folder)) if has_torch() else load(folder)


def save_hf(model: Model, folder: Path) -> None:
    """Writes a weight-only model into an existing empty folder."""
    save_pretrained(
        folder, model.config, model.params, label_names=model.label_names, tokenizer=model.tokenizer,
        problem_type="regression" if model.regression else "single_label_classification",
        bertjax={"max_length": model.max_length, "origin": dict(model.origin)})


def hf_program() -> str:
    """What `write_hf` reads a folder back with, and measures it by."""
    return "transformers" if has_torch() else "bertjax (PyTorch was not installed)"


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def transformers_run(folder: Path) -> Run:
    """What computes the logits of a batch with PyTorch."""
    return torch_run(load_transformers(folder))


def load_transformers(folder: Path) -> Any:
    """The classifier of a folder in PyTorch, without dropout."""
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return AutoModelForSequenceClassification.from_pretrained(folder).eval()
    finally:
        if shown:
            logging.enable_progress_bar()


def torch_run(made: Any) -> Run:
    """What computes the logits of a batch with a classifier of transformers."""
    import torch

    def run(ids: np.ndarray, mask: np.ndarray, types: np.ndarray) -> np.ndarray:
        named = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        with torch.no_grad():
            return made(**{name: torch.as_tensor(array.astype(np.int64)) for name, array in named.items()}
                        ).logits.numpy()

    return run


def hf_card(model: Model, parity: Parity, own_score: float | None, program: str) -> str:
    """What stands in the folder's README, which the hub shows as the model's card.

    Args:
        model: With its quantization, of which the folder holds the weights' half.
        own_score: The score in points of `model` as it was trained, on the dev rows that `parity` was measured on.
        program: What computed the folder's logits and score, see `hf_program`.
    """
    quantize, scores, before = model.quantize, parity.scores, model.origin.get("scores")
    text = "A BERT classifier exported by bertjax: float32 weights for transformers."
    if quantize.weight_bits is not None:
        text += (f"\n\nIt was trained with {quantize.weight_bits}-bit weights and {quantize.activation_bits}-bit "
                 "activations. The weights here have the values of their codes; **transformers computes the "
                 "activations in float, so its score is that of weight-only quantization**")
        text += (f": {scores[1]:.2f} points on the task's dev rows, measured by {program}. With quantized activations, "
                 f"as trained, bertjax measures {own_score:.2f}." if scores is not None else
                 ", which was not measured for this export.")
    elif scores is not None:
        text += f"\n\nIts score on the task's dev rows is {scores[1]:.2f} points, measured by {program}."
    if scores is None and before:
        text += f"\n\nAs trained, measured by bertjax: {before}"
    same = before if quantize == FLOAT else None
    pair = '{"text": "a text", "text_pair": "its second text"}'
    texts = f"[{pair}]" if of_pairs(model.origin) else '["a text", "another one"]'
    return f"""{card_head(model.origin, same)}
# {model.config.num_hidden_layers}-layer BERT classifier

{text}

{about(model.origin)}

Computed by {program} and compared with bertjax, both on {parity}.

```python
from transformers import pipeline
classify = pipeline("text-classification", model=".", truncation=True, max_length={model.max_length})
print(classify({texts}))
```
"""
