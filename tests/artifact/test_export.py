"""Exports as a user makes them: whole folders that compute what the model does, or nothing at all."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from jax.export import deserialize
from safetensors.numpy import load_file

import bertjax.artifact.exports.export as exports
from bertjax.artifact.exports import parity, to_hf, to_onnx, to_stablehlo
from bertjax.artifact.exports.export import export
from bertjax.artifact.exports.parity import made_up_batches
from bertjax.artifact.exports.to_onnx import onnx_run
from bertjax.artifact.load import Model, load
from bertjax.config import InputError, QuantizeConfig
from bertjax.data.sources import Examples, TaskData
from bertjax.data.tasks import Task
from bertjax.model.hf_config import read_extras, read_label_names

FORMATS = ("hf", "onnx", "stablehlo")
OWN_FILES = {"hf": {"model.safetensors"}, "onnx": {"model.onnx"}, "stablehlo": {"model.safetensors", "model.stablehlo"}}
COMMON_FILES = {"README.md", "config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(autouse=True)
def small_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results must not depend on whether PyTorch is installed; and each made-up length costs a compilation."""
    monkeypatch.setattr(to_hf, "has_torch", lambda: False)
    monkeypatch.setattr(parity, "LENGTHS", ())


@pytest.fixture(scope="module")
def floats(quantized: Model) -> Model:
    """The quantized model as transformers computes it."""
    return to_hf.weight_only(quantized)


def data_of(labels: tuple[str, ...]) -> TaskData:
    """Four rows."""
    rows = Examples(["red", "blue circle", "green", "far"], None, np.array([0, 1, 2, 1], np.int32))
    return TaskData(Task("t", ("text",), labels, ("validation",), ("accuracy",), ""), rows, {"validation": rows})


def run_exported(format: str, folder: Path) -> Callable[..., np.ndarray]:
    """What computes the logits with an export, as its README does."""
    if format == "onnx":
        return onnx_run(folder / "model.onnx")
    if format == "hf":
        return load(folder).logits
    _, block, _ = re.split(r"```\w*\n", (folder / "README.md").read_text())
    scope: dict = {}
    exec("\n".join(block.splitlines()[:3]).replace('"model.', f'"{folder}/model.'), scope)
    return lambda *batch: np.asarray(scope["program"](scope["weights"], *batch))


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_holds_all_that_running_it_takes(
    quantized: Model, floats: Model, format: str, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "out"
    made = export(quantized, format, folder, data_of(("a", "b", "c")))
    assert {path.name for path in folder.iterdir()} == COMMON_FILES | OWN_FILES[format]
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    assert made.folder == folder and made.num_bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert read_label_names(folder / "config.json") == ("a", "b", "c")
    assert read_extras(folder / "config.json")["max_length"] == quantized.max_length
    reference = floats if format == "hf" else quantized
    score = reference.evaluate(data_of(("a", "b", "c")))["score"]
    assert made.parity.scores == (score, score) and f"{score:.2f}" in (folder / "README.md").read_text()
    batch = made_up_batches(quantized.config, quantized.max_length)[0]
    difference = np.abs(run_exported(format, folder)(*batch) - reference.logits(*batch))
    assert np.median(difference) < 1e-5
    assert format == "onnx" or difference.max() == 0  # the others have the same compiler


def test_transformers_gets_the_score_without_quantized_activations(quantized: Model, tmp_path: Path) -> None:
    export(quantized, "hf", tmp_path / "unmeasured")
    card = (tmp_path / "unmeasured" / "README.md").read_text()
    assert "weight-only quantization**, which was not measured" in card
    assert "quantize" not in json.loads((tmp_path / "unmeasured" / "config.json").read_text())["bertjax"]
    kernel = load_file(tmp_path / "unmeasured" / "model.safetensors")["bert.encoder.layer.0.output.dense.weight"]
    for channel in kernel:  # [out, in]
        codes = channel / (np.abs(channel).max() / 127)
        np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)


def test_a_float_model_is_exported_as_it_is(model: Model, folder: Path, tmp_path: Path) -> None:
    export(folder, "hf", tmp_path / "hf")
    ours, theirs = load_file(folder / "model.safetensors"), load_file(tmp_path / "hf" / "model.safetensors")
    assert ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)
    assert "weight-only" not in (tmp_path / "hf" / "README.md").read_text()
    assert export(model, "onnx", tmp_path / "onnx").parity.max_difference < 1e-5
    assert "VNNI" not in (tmp_path / "onnx" / "README.md").read_text()


def test_a_score_is_exported_as_a_score(model: Model, tmp_path: Path) -> None:
    head = {name: leaf[..., :1] for name, leaf in model.params["classifier"].items()}
    scores = replace(model, config=replace(model.config, num_labels=1), regression=True, label_names=(),
                     params={**model.params, "classifier": head})
    made = export(scores, "onnx", tmp_path / "out")
    assert made.parity.max_difference < 1e-5 and made.parity.disagreeing == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["problem_type"] == "regression"


def test_where_int8_products_would_overflow_weights_are_stored_as_uint8(
    quantized: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_onnx, "saturates", lambda: True)
    assert not to_onnx.needs_unsigned(replace(quantized, quantize=QuantizeConfig(7, 8, 8)))
    export(quantized, "onnx", tmp_path / "out")
    assert "uint8: it is exact everywhere" in (tmp_path / "out" / "README.md").read_text()
    kinds = Counter(made.data_type for made in onnx.load(tmp_path / "out" / "model.onnx").graph.initializer
                    if len(made.dims) == 2)
    assert kinds[onnx.TensorProto.UINT8] == 6 * quantized.config.num_hidden_layers


@pytest.mark.parametrize("format", FORMATS)
def test_what_does_not_compute_the_model_is_not_kept(
    model: Model, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = getattr(exports, f"write_{format}")

    def wrong(model: Model, *rest: object) -> Model:
        head = {name: leaf + 0.001 for name, leaf in model.params["classifier"].items()}
        return write(replace(model, params={**model.params, "classifier": head}), *rest)

    monkeypatch.setattr(exports, f"write_{format}", wrong)
    with pytest.raises(InputError, match="the exported model's logits must be at most 0.0001"):
        export(model, format, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_diverged_model_is_refused(model: Model, format: str, number: float, tmp_path: Path) -> None:
    params = jax.tree.map(np.array, model.params)
    params["bert"]["encoder"]["layer"]["1"]["output"]["dense"]["kernel"][3, 4] = number
    for quantize in (model.quantize, QuantizeConfig()):
        with pytest.raises(InputError, match="layer/1/output/dense/kernel must be finite to be exported, got 1 of 512 "
                                             "numbers that are not: the model has diverged"):
            export(replace(model, params=params, quantize=quantize), format, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_are_stored_as_asked(
    quantized: Model, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seven = replace(quantized, quantize=QuantizeConfig(7, 8, 8))  # exact as int8 too on every machine
    for needed in (True, False):
        monkeypatch.setattr(exports, "needs_unsigned", lambda _, needed=needed: needed)
        for asked in (None, True, False):
            out = tmp_path / f"{needed} {asked}"
            export(seven, "onnx", out, unsigned_weights=asked)
            kinds = {made.data_type for made in onnx.load(out / "model.onnx").graph.initializer if len(made.dims) == 2}
            unsigned = needed if asked is None else asked
            assert (onnx.TensorProto.UINT8 in kinds) == unsigned
            assert ("uint8: it is exact everywhere" in (out / "README.md").read_text()) == unsigned
    with pytest.raises(InputError, match="unsigned_weights is about the weights of the format onnx, got hf"):
        export(quantized, "hf", tmp_path / "hf", unsigned_weights=True)
    with pytest.raises(InputError, match="unsigned_weights is about the integer weights of a model with Q, and this"):
        export(model, "onnx", tmp_path / "float", unsigned_weights=True)
    export(model, "onnx", tmp_path / "float")
    assert "VNNI" not in (tmp_path / "float" / "README.md").read_text()


def test_a_model_trained_in_bfloat16_is_exported_in_float32(model: Model, tmp_path: Path) -> None:
    made = export(replace(model, dtype="bfloat16"), "onnx", tmp_path / "out")
    assert made.parity.max_difference < 1e-5


@pytest.mark.parametrize("format", FORMATS)
def test_only_a_new_or_empty_folder_is_filled(model: Model, format: str, tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "model.safetensors").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, said in (("held", "holds model.safetensors"), ("file", "is a file")):
        with pytest.raises(InputError, match=f"must be a new or empty folder, and .*{name} {said}"):
            export(model, format, tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "held", "model.safetensors"]


def test_an_empty_folder_is_filled(model: Model, tmp_path: Path) -> None:
    export(model, "hf", tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize(("format", "package", "extra"), [
    ("onnx", "onnx", "onnx"), ("onnx", "onnxruntime", "onnx"), ("stablehlo", "flatbuffers", "stablehlo")])
def test_a_missing_package_is_named(
    model: Model, format: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}, .*pip install 'bertjax\[{extra}\]'"):
        export(model, format, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_another_tasks_data_and_unknown_formats_are_refused(quantized: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the model's labels must be those of t"):
        export(quantized, "onnx", tmp_path / "out", data_of(("x", "y", "z")))
    with pytest.raises(InputError, match="format must be one of hf, onnx, stablehlo, got 'torch'"):
        export(quantized, "torch", tmp_path / "out")
    with pytest.raises(InputError, match="nowhere"):
        export(tmp_path / "nowhere", "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_stablehlo_export_is_int8_and_gives_the_models_very_logits(model: Model, tmp_path: Path) -> None:
    quantized = replace(model, quantize=QuantizeConfig(3, 4, 2))
    weights = to_stablehlo.stored_weights(quantized)
    kinds = {path: array.dtype.name for path, array in weights.items()}
    integers = [path for path, kind in kinds.items() if kind == "int8"]
    assert len(integers) == 6 * model.config.num_hidden_layers + 3 and set(kinds.values()) == {"int8", "float32"}
    assert all(path.endswith("/codes") and f"{path[:-6]}/scale" in weights for path in integers)
    made = to_stablehlo.write_stablehlo(quantized, tmp_path)
    batch = made_up_batches(model.config, model.max_length)[-1]
    np.testing.assert_array_equal(made.logits(*batch), quantized.logits(*batch))


def test_one_stablehlo_program_serves_every_platform_with_integer_products(quantized: Model) -> None:
    weights = to_stablehlo.stored_weights(quantized)
    read = deserialize(bytearray(to_stablehlo.serialized(quantized.config, quantized.quantize, weights)))
    assert read.platforms == ("cpu", "cuda", "tpu")
    assert [str(aval.shape) for aval in read.in_avals[-3:]] == ["(batch, seq)"] * 3
    products = re.findall(r"dot_general.* : \(tensor<\S*x(\w+)>, tensor<\S*x(\w+)>\) -> tensor<\S*x(\w+)>",
                          read.mlir_module())
    layers = quantized.config.num_hidden_layers
    counts = Counter(products)
    copies = counts["f32", "f32", "f32"] // (2 * layers + 2)  # of each product, one for each platform
    assert counts == {("i8", "i8", "i32"): copies * 6 * layers, ("f32",) * 3: copies * (2 * layers + 2)}


@pytest.mark.parity
def test_transformers_gives_the_weight_only_logits(quantized: Model, floats: Model, tmp_path: Path) -> None:
    export(quantized, "hf", tmp_path)
    run = to_hf.transformers_run(tmp_path)
    for batch in made_up_batches(quantized.config, quantized.max_length):
        np.testing.assert_allclose(run(*batch), floats.logits(*batch), atol=1e-4)
