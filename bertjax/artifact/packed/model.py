"""A packed model with all that it takes to run it but the tokenizer: what a `model.bertjax` holds."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bertjax.artifact.packed.file import file_bytes, read_packed
from bertjax.artifact.packed.pack import FloatType, Packed, pack
from bertjax.artifact.settings import checked_dtype
from bertjax.config import BertConfig, Dtype, InputError, QuantizeConfig, require
from bertjax.model.layout import param_shapes
from bertjax.model.products import activation_type
from bertjax.params import ENCODER_KERNELS, Params, nest, paths

PACKED_FILE = "model.bertjax"
"""The file in a packed model's folder; the tokenizer lies beside it."""


@dataclass(frozen=True)
class PackedModel:
    """A packed model and its settings, as `bertjax.artifact.load.Model` has them."""

    packed: Packed
    config: BertConfig
    quantize: QuantizeConfig
    regression: bool
    label_names: tuple[str, ...]
    """Names of the classes in order; empty for regression."""
    max_length: int
    dropped: int
    """Encoder weights that were zero before quantization, those that pruning dropped: rounding makes further zeros."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where a sweep made it: trial_id, task, methods, base_model, its licence if known, and scores."""
    dtype: Dtype = "float32"
    """Compute type of its activations."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What its file holds besides the parameters; equal models have equal text."""
        # Only where it is another: files of former versions had none, and stay as they are.
        other = {} if self.dtype == "float32" else {"dtype": self.dtype}
        return other | {"config": asdict(self.config), "quantize": asdict(self.quantize), "regression": self.regression,
                "label_names": list(self.label_names), "max_length": self.max_length, "dropped": self.dropped,
                "origin": dict(sorted(self.origin.items()))}

    @property
    def num_bytes(self) -> int:
        """Bytes of its file."""
        return file_bytes(self.packed, self.metadata)


def pack_model(
    params: Params, config: BertConfig, quantize: QuantizeConfig, *, label_names: Sequence[str], max_length: int,
    dropped: int | None = None, origin: Mapping[str, Any] | None = None, float_type: FloatType = "float32",
    entropy: bool = False, dtype: Dtype = "float32",
) -> PackedModel:
    """Packs a classifier; without `label_names` it predicts a number. For the others see `PackedModel` and `pack`.

    Args:
        params: What `pack` takes.
        config: Their shape.
        quantize: How products and tables are quantized.
        label_names: Names of the classes in order.
        max_length: Longest sequence in tokens.
        dropped: None counts the zeros of the encoder's kernels: `params` are those of before quantization.
        origin: Where the model is from.
        float_type: Of what is not quantized.
        entropy: Entropy-code where it saves.
        dtype: Compute type.

    Raises:
        InputError: What `pack` raises.
    """
    packed = pack(as_multiplied(params, quantize, dtype), quantize, float_type=float_type, entropy=entropy)
    if dropped is None:
        dropped = sum(leaf.size - int(np.count_nonzero(leaf)) for path, leaf in paths(params).items()
                      if re.fullmatch(ENCODER_KERNELS, path))
    return PackedModel(packed, config, quantize, not label_names, tuple(label_names), max_length, dropped, origin or {},
                       dtype)


def as_multiplied(params: Params, quantize: QuantizeConfig, dtype: Dtype) -> Params:
    """`params` with the matrices that are quantized in their products rounded to the compute type, as these are before:
    their codes are then those of the products."""
    computed = activation_type(dtype)
    if computed == np.float32 or quantize.weight_bits is None:
        return params
    return nest({path: np.asarray(leaf).astype(computed).astype(np.float32)
                 if re.fullmatch(ENCODER_KERNELS, path) else leaf for path, leaf in paths(params).items()})


def find_packed(source: str | os.PathLike[str]) -> Path | None:
    """The packed model at `source`: that file itself, or the one in this folder or its `packed/`; else None."""
    path = Path(source).expanduser()
    if path.is_file():
        return path
    found = (folder / PACKED_FILE for folder in (path, path / "packed"))
    return next((file for file in found if file.is_file()), None)


def read_packed_model(file: Path) -> PackedModel:
    """Reads a `model.bertjax`.

    Raises:
        InputError: What `read_packed` raises, or the file holds parameters without a model around them.
    """
    packed, metadata = read_packed(file)
    try:
        model = PackedModel(
            packed, BertConfig(**metadata["config"]), QuantizeConfig(**metadata["quantize"]), metadata["regression"],
            tuple(metadata["label_names"]), metadata["max_length"], metadata["dropped"], metadata["origin"],
            checked_dtype(str(file), metadata.get("dtype", "float32")))
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{file}: must hold a whole model to be used, and its metadata are not those of one "
                         f"({type(error).__name__}: {error}); make it by `bertjax pack`") from None
    shapes = param_shapes(model.config)
    got = {path: stored.scheme.shape for path, stored in packed.parameters.items()}
    wrong = sorted(path for path in shapes.keys() | got.keys() if shapes.get(path) != got.get(path))
    require(not wrong, f"{file}: the parameters must be those of its config; " + "; ".join(
        f"{path} must have shape {shapes.get(path, 'none')}, got {got.get(path, 'none')}" for path in wrong[:3]))
    return model
