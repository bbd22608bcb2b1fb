"""Quantization without training: smaller files that ONNX Runtime runs, near the model, and sparse where it is."""

from __future__ import annotations

import logging
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bertjax.artifact.exports.to_onnx import write_onnx
from bertjax.artifact.inference.post_training import BLOCK, SCHEMES, write_post_training
from bertjax.artifact.load import Model
from bertjax.config import InputError, QuantizeConfig
from bertjax.data.sources import Examples, TaskData
from bertjax.data.tasks import Task
from bertjax.model.bert import init_params
from bertjax.params import ENCODER_KERNELS, nest, paths

ROWS = Examples(["red line", "blue circle near", "green", "far"], None, np.array([0, 1, 2, 1], np.int32))
DATA = TaskData(Task("t", ("text",), ("a", "b", "c"), ("validation",), ("accuracy",), ""), ROWS, {"validation": ROWS})
BITS = {"int8_weight_only": 8, "int4_weight_only": 4}


@pytest.fixture(scope="module")
def sparse(model: Model) -> Model:
    """Wide enough that its weights are what its file weighs; half of the encoder's are zeros."""
    config = replace(model.config, hidden_size=64, intermediate_size=128)
    leaves = {path: np.asarray(leaf) for path, leaf in paths(init_params(config)).items()}
    for path, leaf in leaves.items():
        if re.fullmatch(ENCODER_KERNELS, path):
            leaves[path] = np.where(np.abs(leaf) < np.median(np.abs(leaf)), np.float32(0), leaf)
    return replace(model, config=config, params=nest(leaves), label_names=("a", "b", "c"))


@pytest.fixture(scope="module")
def made(sparse: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Model]]:
    """The float export and every scheme, as files and as what runs them."""
    folder = tmp_path_factory.mktemp("schemes")
    float_export = write_onnx(sparse, folder)
    files = {scheme: folder / f"{scheme}.onnx" for scheme in SCHEMES}
    found = {scheme: (file, write_post_training(sparse, scheme, file, ROWS)) for scheme, file in files.items()}
    assert sorted(folder.iterdir()) == sorted([folder / "model.onnx", *files.values()])
    return {"float": (folder / "model.onnx", float_export), **found}


def distance(made: dict[str, tuple[Path, Model]], scheme: str) -> float:
    """Root mean square of what a scheme does to the logits of the rows it was calibrated on, over that of the logits.

    Other rows leave the ranges that were measured, whatever the bits.
    """
    ours, theirs = (made[name][1].task_logits(DATA.task, ROWS) for name in ("float", scheme))
    return float(np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(ours**2)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_gives_a_smaller_file_near_the_model(
    made: dict[str, tuple[Path, Model]], scheme: str
) -> None:
    file, model = made[scheme]
    assert file.stat().st_size < 0.8 * made["float"][0].stat().st_size
    assert 0 <= model.evaluate(DATA)["score"] <= 100
    assert 0 < distance(made, scheme) < 0.3


def test_more_bits_are_nearer(made: dict[str, tuple[Path, Model]]) -> None:
    assert 3 * distance(made, "int16_static") < distance(made, "int8_static")
    assert 3 * distance(made, "int8_weight_only") < distance(made, "int4_weight_only")
    sizes = {scheme: file.stat().st_size for scheme, (file, _) in made.items()}
    assert sizes["int8_static"] < sizes["int16_static"] and sizes["int4_weight_only"] < sizes["int8_weight_only"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pruned_weights_stay_zero(sparse: Model, made: dict[str, tuple[Path, Model]], scheme: str) -> None:
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(made[scheme][0]).graph.initializer}
    kernels = {path: np.asarray(leaf) for path, leaf in paths(sparse.params).items()
               if re.fullmatch(ENCODER_KERNELS, path)}
    for path, kernel in kernels.items():
        codes = codes_of(stored, path, kernel.shape, BITS.get(scheme))
        assert codes.any() and not codes[kernel == 0].any()


def test_weight_only_schemes_leave_the_embeddings_in_float(made: dict[str, tuple[Path, Model]]) -> None:
    for scheme, (file, _) in made.items():
        kinds = {tensor.data_type for tensor in onnx.load(file).graph.initializer
                 if "word_embeddings" in tensor.name and len(tensor.dims) == 2 and tensor.dims[1] > 1}
        integers = {"int16_static": onnx.TensorProto.INT16}.get(scheme, onnx.TensorProto.INT8)
        is_float = scheme in ("float", *BITS)
        assert kinds <= {onnx.TensorProto.FLOAT} if is_float else kinds <= {integers, onnx.TensorProto.UINT8}
        assert kinds


def codes_of(stored: dict[str, np.ndarray], path: str, shape: tuple[int, int], bits: int | None) -> np.ndarray:
    """Integers of a kernel in a file, 0 for a weight of zero.

    Args:
        bits: Of MatMulNBits' format, in which a column is in blocks and zero is in the middle; None: of any other.
    """
    at = path.removesuffix("/kernel")
    if bits is None:
        (name,) = (name for name in (f"{at}/codes", f"{path}_quantized") if name in stored)
        zero = stored.get(f"{path}_zero_point", np.uint8(128) if stored[name].dtype == np.uint8 else np.int8(0))
        assert np.all(zero == 0) or stored[name].dtype == np.uint8
        return stored[name].astype(np.int32) - np.int32(zero)
    (name,) = (name for name in stored if name.startswith(f"{path}_Q"))
    blob = stored[name]  # [columns, blocks, bytes]
    codes = blob if bits == 8 else np.stack([blob & 15, blob >> 4], axis=-1).reshape(*blob.shape[:2], BLOCK)
    return codes.reshape(shape[1], -1)[:, :shape[0]].T.astype(np.int32) - 2 ** (bits - 1)


def test_only_float_models_and_known_schemes_are_taken(quantized: Model, model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a float model .* got one with 8-bit weights"):
        write_post_training(quantized, "int8_dynamic", tmp_path / "out.onnx", ROWS)
    with pytest.raises(InputError, match="a scheme must be one of int8_dynamic, .* got 'int2'"):
        write_post_training(replace(model, quantize=QuantizeConfig(None, None, None)), "int2", tmp_path / "o", ROWS)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_and_nothing_is_left(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization.matmul_nbits_quantizer", raising=False)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(InputError, match=r"needs onnx_ir, .*pip install 'bertjax\[onnx\]'"):
        write_post_training(model, "int4_weight_only", tmp_path / "out.onnx", ROWS)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime, .*pip install 'bertjax\[onnx\]'"):
        write_post_training(model, "int8_dynamic", tmp_path / "out.onnx", ROWS)
    assert list(tmp_path.iterdir()) == []


def test_the_quantizers_log_nothing_and_leave_logging_as_it_was(
    model: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # as in a user's process: the import then adds one
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization.matmul_nbits_quantizer", raising=False)
    before = list(root.handlers), root.level, root.manager.disable
    for scheme in ("int8_static", "int16_static", "int4_weight_only"):
        write_post_training(model, scheme, tmp_path / f"{scheme}.onnx", ROWS)
    assert (list(root.handlers), root.level, root.manager.disable) == before
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
