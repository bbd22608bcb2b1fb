"""A packed model taken apart: nothing is counted twice or left out, and every size is its convention's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax.artifact.inspection import inspect_model, layer_rows
from bertjax.artifact.load import Model
from bertjax.artifact.named_sizes import named_sizes
from bertjax.artifact.packed.model import PACKED_FILE, PackedModel
from bertjax.artifact.packed.pack import pack, packed_bytes, size_bytes_entropy
from bertjax.artifact.packed_folder import pack_folder, pack_loaded, write_packed_folder
from bertjax.artifact.size import encoder_ratio, size_bytes_paper, size_bytes_xtc
from bertjax.config import FLOAT, BertConfig, InputError, QuantizeConfig
from bertjax.model.layout import param_shapes
from bertjax.model.sizes import encoder_linear_count, param_count
from bertjax.params import ENCODER_KERNELS, Params, nest, paths, select

BASE = BertConfig(vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=128,
                  max_position_embeddings=16)


def rows_of(kept: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`kept`, repeated: of one axis for whole rows."""
    return np.resize(kept, shape) if kept.ndim == 2 else np.resize(kept, shape[0])[:, None]


def packed_of(
    quantize: QuantizeConfig, kept: np.ndarray, entropy: bool = False, config: BertConfig = BASE
) -> PackedModel:
    """A random model, of whose encoder's weights those at the repeated places of `kept` stay."""
    draw = np.random.default_rng(0)
    params: Params = nest({path: draw.normal(size=shape).astype(np.float32)
                           for path, shape in param_shapes(config).items()})
    params = jax.tree.map(
        lambda leaf, pruned: np.where(rows_of(kept, leaf.shape), leaf, np.float32(0)) if pruned else leaf,
        params, select(params, ENCODER_KERNELS))
    dropped = sum(int((leaf == 0).sum()) for path, leaf in paths(params).items() if path.endswith("kernel"))
    return PackedModel(pack(params, quantize, entropy=entropy), config, quantize, False, ("a", "b"), 16, dropped)


@pytest.mark.parametrize("name", ["model", "quantized"])
def test_every_byte_and_parameter_is_counted_once(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(name)
    write_packed_folder(tmp_path / "new", pack_loaded(model), model.tokenizer)
    found = inspect_model(tmp_path / "new")
    assert found.file_bytes == (tmp_path / "new" / PACKED_FILE).stat().st_size
    assert found.parts == packed_bytes(found.model.packed)
    stored = sum(row.bytes.total for row in found.rows)
    assert stored == sum(part.total for part in found.parts.values()) == found.file_bytes - found.header_bytes
    assert sum(row.count for row in found.rows) == param_count(model.config, model.config.num_labels)
    layers = list(dict.fromkeys(row.layer for row in found.rows))
    assert layers == ["embeddings", "layer 0", "layer 1", "pooler", "task head"]
    assert {row.scheme for row in found.rows if row.name == "kernels" and row.layer[:5] == "layer"} == {
        "int8" if name == "quantized" else "float32"}


def test_a_folder_is_packed_in_memory_to_the_same(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "new")
    ours, theirs = inspect_model(folder), inspect_model(tmp_path / "new" / PACKED_FILE)
    assert (ours.rows, ours.sizes, ours.file_bytes) == (theirs.rows, theirs.sizes, theirs.file_bytes)
    assert "in memory" in ours.where and "in memory" not in theirs.where


def test_of_a_trials_folder_the_packed_one_is_inspected(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "packed", float_type="float16")
    (tmp_path / "model").symlink_to(folder)
    assert inspect_model(tmp_path).where == str(tmp_path / "packed" / PACKED_FILE)


@pytest.mark.parametrize("quantize", [FLOAT, QuantizeConfig(8, 8, 8), QuantizeConfig(4, 8, 8)])
@pytest.mark.parametrize("kept", [np.ones(1), np.array([0, 1, 0, 0, 0, 1, 1, 1])], ids=["dense", "half"])
def test_the_sizes_are_those_of_their_functions(quantize: QuantizeConfig, kept: np.ndarray) -> None:
    model, bits = packed_of(quantize, kept), quantize.weight_bits
    total, linear = param_count(BASE), encoder_linear_count(BASE)
    assert model.dropped == linear * (1 - kept.mean())
    sizes = named_sizes(model, 123_456)
    texts = {size.name.split(" (")[0] + size.name.partition(")")[2]: size.text for size in sizes}
    exact = {name: int(text.split("(")[1].split()[0].replace(",", ""))
             for name, text in texts.items() if "byte" in text}
    assert exact == {
        "float32": 4 * total, "file on disk": 123_456, "entropy": size_bytes_entropy(model.packed),
        "paper": size_bytes_paper(total, linear, bits, 1 - kept.mean())}
    assert texts["XTC"] == f"{size_bytes_xtc(total, bits) / 2**20:.2f} MiB"
    pattern = (8, 4) if len(kept) > 1 else ()
    assert texts["encoder ratio"] == f"{100 * encoder_ratio(bits, *pattern):.2f} %"
    words = model.packed.parameters["bert/embeddings/word_embeddings/embedding"].tensors
    stored = sum(tensor.nbytes for path, one in model.packed.parameters.items() if "classifier" not in path
                 for tensor in one.tensors.values())
    assert texts["percent of BERT-base, w/ emb"] == f"{100 * stored / (4 * 109_482_240):.2f} %"
    without = stored - sum(tensor.nbytes for tensor in words.values())
    assert texts["percent of BERT-base, w/o emb"] == f"{100 * without / (4 * (109_482_240 - 30522 * 768)):.2f} %"


def test_the_task_head_counts_in_the_file_and_its_entropy_only() -> None:
    wide = packed_of(FLOAT, np.ones(1), config=replace(BASE, num_labels=50_000))  # 13 MB, 3 % of BERT-base
    small, large = (named_sizes(model, model.num_bytes) for model in (packed_of(FLOAT, np.ones(1)), wide))
    differing = {ours.name for ours, theirs in zip(small, large, strict=True) if ours != theirs}
    assert differing == {"file on disk", "entropy"}


def test_an_n_to_m_pattern_counts_with_and_without_its_index() -> None:
    size = named_sizes(packed_of(QuantizeConfig(4, 8, 8), np.array([0, 1, 0, 0])), 1)[5]
    assert size.text == f"{100 * encoder_ratio(4, 4, 1):.2f} %" == "4.69 %"
    assert "1:4 at 4 bits" in size.convention and "(3.12 % without indices)" in size.convention


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "4:16"])
@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("bits", [None, 4, 8])
def test_a_pattern_counts_however_it_is_stored(pattern: str, entropy: bool, bits: int | None) -> None:
    n, m = map(int, pattern.split(":"))
    # No smaller group has the pattern.
    kept = np.array([1] * (n - 1) + [0] * (m - n) + [1]) if m > 4 else np.array([1, 0, 0, 1])
    quantize = QuantizeConfig(bits, bits and 8, 8)
    model = packed_of(quantize, kept, entropy)
    schemes = {stored.scheme.name for path, stored in model.packed.parameters.items() if "layer/" in path
               and path.endswith("kernel")}
    if bits is None and not entropy:  # of 4:8 a mask is smaller, of the others as large
        assert schemes == {"mask + float32" if pattern == "4:8" else f"{pattern} + float32"}
    size = named_sizes(model, 1)[5]
    assert f"{pattern} at {bits or 32} bits" in size.convention
    assert size.text == f"{100 * encoder_ratio(bits, m, n):.2f} %"


@pytest.mark.parametrize("quantize", [FLOAT, QuantizeConfig()])
@pytest.mark.parametrize("sparsity", [0.05, 0.3, 0.5, 0.9, 0.97])
def test_zeros_anywhere_are_no_pattern(sparsity: float, quantize: QuantizeConfig) -> None:
    kept = np.random.default_rng(1).random((128, 128)) >= sparsity
    assert "do not make up N:M" in named_sizes(packed_of(quantize, kept), 1)[5].convention


def test_zeros_are_counted_in_every_scheme() -> None:
    for quantize in (FLOAT, QuantizeConfig(8, 8, 8)):
        for kept in (np.array([0, 1, 0, 1]), np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.ones(1)):
            for entropy in (False, True):
                model = packed_of(quantize, kept, entropy)
                every = layer_rows(model.packed)
                assert sum(row.bytes.total for row in every) == sum(
                    part.total for part in packed_bytes(model.packed).values())
                rows = [row for row in every if row.name == "kernels" and "layer" in row.layer]
                zeros = sum(row.zeros for row in rows)
                assert zeros >= model.dropped and zeros - model.dropped < 0.03 * encoder_linear_count(BASE)
                assert quantize != FLOAT or zeros == model.dropped


def test_a_model_with_all_weights_dropped_has_sizes() -> None:
    model = packed_of(QuantizeConfig(), np.zeros(1))
    assert "100.0 %" in named_sizes(model, 1)[3].convention


@pytest.mark.parametrize("content", [b"", b"x" * 500])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(InputError, match="no packed model of bertjax"):
        inspect_model(tmp_path / "other")
