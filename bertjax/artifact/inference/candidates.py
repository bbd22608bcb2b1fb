"""What an inference benchmark compares: a model in JAX, in ONNX Runtime and in PyTorch, as trained and quantized."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertjax.artifact.exports.calibration import STATIC_BITS, static_scales
from bertjax.artifact.exports.parity import computed_by
from bertjax.artifact.exports.to_hf import has_torch, load_transformers, save_hf, torch_run, weight_only
from bertjax.artifact.exports.to_onnx import FILE, needs_unsigned, onnx_run, write_onnx
from bertjax.artifact.inference.latency import JAX, ONNX, STATIC, TORCH
from bertjax.artifact.inference.post_training import SCHEMES, write_post_training
from bertjax.artifact.load import Model
from bertjax.config import FLOAT, BertConfig
from bertjax.data.examples import Examples
from bertjax.params import num_bytes

DEFAULT_SCHEME = "int8_dynamic"
"""What references are always quantized by: a user's first try."""


@dataclass(frozen=True)
class Candidate:
    """A model in a runtime."""

    artifact: str
    """Name of the trained model."""
    runtime: str
    """`JAX`, `ONNX` or `TORCH`, then the scheme if it was quantized without training."""
    model: Model
    """Computed by that runtime."""
    num_bytes: int
    """Of the ONNX file; elsewhere of the weights in memory."""
    reference: str
    """Name of the float model of the same shape; its `ONNX` is what this is compared with."""

    @property
    def name(self) -> str:
        """Unlike that of every other candidate."""
        return f"{self.artifact} · {self.runtime}"


@dataclass(frozen=True)
class Runtimes:
    """Makes candidates."""

    folder: Path
    """An existing folder for their files."""
    train: Examples
    """Rows to calibrate on."""
    threads: int
    """Of ONNX Runtime and PyTorch."""
    static: bool = True
    """Also give the activations of models with Q fixed scales."""

    def trained(self, name: str, model: Model, reference: str) -> list[Candidate]:
        """The model with the quantization that it was trained with."""
        made = [Candidate(name, JAX, model, num_bytes(model.params), reference), self.onnx(name, model, reference)]
        if self.static and model.quantize.activation_bits == STATIC_BITS:
            made.append(self.onnx(name, model, reference, static=True))
        return made

    def onnx(self, name: str, model: Model, reference: str, static: bool = False) -> Candidate:
        """The model as `bertjax export --format onnx` writes it, with or without --static-activations."""
        runtime = f"{ONNX} {STATIC}" if static else ONNX
        folder = self.folder / _file_name(f"{name} {runtime}")
        folder.mkdir()
        write_onnx(model, folder, needs_unsigned(model), static_scales(model, self.train) if static else None)
        made = computed_by(model, onnx_run(folder / FILE, self.threads))
        return Candidate(name, runtime, made, (folder / FILE).stat().st_size, reference)

    def post_trained(self, name: str, model: Model, reference: str, scheme: str) -> Candidate:
        """A float model quantized without training."""
        file = self.folder / f"{_file_name(name)}.{scheme}.onnx"
        made = write_post_training(model, scheme, file, self.train, self.threads)
        return Candidate(name, f"{ONNX} {scheme}", made, file.stat().st_size, reference)

    def torch(self, name: str, model: Model, reference: str) -> list[Candidate]:
        """A float model in transformers, and by PyTorch's own dynamic quantization of linear layers if it has it."""
        import torch

        torch.set_num_threads(self.threads)
        folder = self.folder / f"{_file_name(name)}.hf"
        folder.mkdir()
        save_hf(model, folder)
        eager = load_transformers(folder)
        made = [Candidate(name, TORCH, computed_by(model, torch_run(eager)), _torch_bytes(eager), reference)]
        if torch_quantizes():
            with warnings.catch_warnings():  # PyTorch says that it will drop this some day
                warnings.simplefilter("ignore")
                int8 = torch.ao.quantization.quantize_dynamic(eager, {torch.nn.Linear}, dtype=torch.qint8)
            made.append(Candidate(name, f"{TORCH} {DEFAULT_SCHEME}", computed_by(model, torch_run(int8)),
                                  _torch_bytes(int8), reference))
        return made


def candidates(models: Mapping[str, Model], runtimes: Runtimes, post_training: bool) -> list[Candidate]:
    """Every model in JAX and ONNX Runtime; and for each shape a float reference, also quantized and in PyTorch.

    The reference is the first float model of the shape; without any, the first model with the float values of its
    codes, under the name "<name> (float)".

    Args:
        post_training: Quantize every float model by all of `SCHEMES`, not only the references by `DEFAULT_SCHEME`.
    """
    shapes: dict[BertConfig, list[str]] = {}
    for name, model in models.items():
        shapes.setdefault(model.config, []).append(name)
    made = []
    for names in shapes.values():
        floats = {name: models[name] for name in names if models[name].quantize == FLOAT}
        bases = floats or {f"{names[0]} (float)": weight_only(models[names[0]])}
        reference, base = next(iter(bases.items()))
        for name in names:
            made += runtimes.trained(name, models[name], reference)
        if not floats:
            made.append(runtimes.onnx(reference, base, reference))
        if post_training:
            made += [runtimes.post_trained(name, model, reference, scheme)
                     for name, model in bases.items() for scheme in SCHEMES]
        else:
            made.append(runtimes.post_trained(reference, base, reference, DEFAULT_SCHEME))
        if has_torch():
            made += runtimes.torch(reference, base, reference)
    return made


def left_out() -> list[str]:
    """What is not measured because it is not installed, a line each."""
    if not has_torch():
        return ["PyTorch is not installed: pip install 'bertjax[torch]' adds it to the comparison"]
    if not torch_quantizes():
        return ["this version of PyTorch has no torch.ao.quantization.quantize_dynamic"]
    return []


def torch_quantizes() -> bool:
    """Whether the installed PyTorch still has dynamic quantization."""
    import torch

    return hasattr(getattr(getattr(torch, "ao", None), "quantization", None), "quantize_dynamic")


def _torch_bytes(made: Any) -> int:
    import torch

    stored = io.BytesIO()
    torch.save(made.state_dict(), stored)
    return stored.tell()


def _file_name(name: str) -> str:
    """A name without what a file's may not hold, another for every name."""
    kept = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
    return f"{kept[-60:]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
