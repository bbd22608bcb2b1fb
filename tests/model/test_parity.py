"""BERT against Hugging Face's PyTorch: part by part to 1e-5, logits to 1e-4, float32 at precision `highest`.

The stored outputs (tests/golden) stand in where there is no torch.
"""

import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bertjax.model.attention import Attention, AttentionOutput, SelfAttention
from bertjax.model.bert import Embeddings, Encoder, Inputs, Intermediate, Layer, Pooler, logits_fn
from bertjax.model.hf import from_pretrained, load_config, save_pretrained
from bertjax.params import nest

GOLDEN = Path(__file__).parents[1] / "golden"


def _load_maker():
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


make_golden = _load_maker()
PARTS = ("embeddings", "self_attention", "attention", "intermediate", "output", "layer", "encoder", "pooler", "logits")


@pytest.fixture(scope="module", params=sorted(make_golden.CASES))
def case(request):
    return request.param, make_golden.CASES[request.param]


@pytest.fixture(scope="module")
def ours(case):
    """Each part of our model fed with the drawn hidden states."""
    config, params = case[1].config, nest(make_golden.draw_params(case[1]))
    drawn = make_golden.draw_inputs(case[1])
    hidden, inner, mask = drawn["hidden"], drawn["inner"], drawn["attention_mask"]
    inputs = Inputs(drawn["input_ids"], drawn["token_type_ids"], mask)
    bert, layer = params["bert"], params["bert"]["encoder"]["layer"]["0"]

    def apply(module, weights, *args):
        return jax.jit(module.apply)({"params": weights}, *args)

    with jax.default_matmul_precision("highest"):
        return {
            "embeddings": apply(Embeddings(config), bert["embeddings"], inputs),
            "self_attention": apply(SelfAttention(config), layer["attention"]["self"], hidden, mask),
            "attention": apply(Attention(config), layer["attention"], hidden, mask),
            "intermediate": apply(Intermediate(config), layer["intermediate"], hidden),
            "output": apply(AttentionOutput(config), layer["output"], inner, hidden),
            "layer": apply(Layer(config), layer, hidden, mask),
            "encoder": apply(Encoder(config), bert["encoder"], hidden, mask, None),
            "pooler": apply(Pooler(config), bert["pooler"], hidden),
            "logits": jax.jit(logits_fn(config))(params, inputs, None),
        }


def assert_same(part, ours, theirs):
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 if part == "logits" else 1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_the_stored_one(case, ours, part):
    with np.load(GOLDEN / f"{case[0]}.npz") as stored:
        assert_same(part, make_golden.thin(np.asarray(ours[part])), stored[part])


@pytest.mark.parity
def test_every_part_is_pytorchs(case, ours):
    pytest.importorskip("torch")
    theirs = make_golden.torch_outputs(case[1])
    assert set(theirs) == set(PARTS) == set(ours)
    for part in PARTS:
        assert_same(part, np.asarray(ours[part]), theirs[part])


@pytest.mark.parity
def test_huggingface_loads_what_we_save(case, ours, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import BertForSequenceClassification

    drawn = make_golden.draw_inputs(case[1])
    config = case[1].config
    problem = "regression" if config.num_labels == 1 else "single_label_classification"
    save_pretrained(tmp_path / "m", config, nest(make_golden.draw_params(case[1])), problem_type=problem,
                    bertjax={"max_length": 8})
    model, info = BertForSequenceClassification.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert not any(info.values()), info
    assert model.dtype == torch.float32 and model.config.problem_type == problem
    with torch.no_grad():
        theirs = model.eval()(**{name: torch.from_numpy(drawn[name]).long() for name in Inputs._fields}).logits
    assert_same("logits", np.asarray(ours["logits"]), theirs.numpy())


@pytest.mark.parity
def test_our_config_is_huggingfaces(case, tmp_path):
    pytest.importorskip("torch")
    from transformers import BertConfig

    config = case[1].config
    BertConfig(**vars(config)).save_pretrained(tmp_path)
    assert load_config(tmp_path) == config


@pytest.mark.parity
@pytest.mark.realdata
def test_a_real_model_gives_pytorchs_logits(data_dir, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import BertForSequenceClassification

    loaded = from_pretrained(data_dir / "models" / "minilm-l6-h384-uncased", num_labels=2, reinit_pooler=True)
    # Its own pooler is near zero and a new head is small: logits of 0.05 would meet 1e-4 whatever the encoder did.
    loaded.params["classifier"]["kernel"] *= 50
    random = np.random.default_rng(0)
    mask = np.arange(64) < np.array([64, 33, 5, 1])[:, None]
    drawn = Inputs(random.integers(1000, 30000, mask.shape), random.integers(0, 2, mask.shape), mask)
    with jax.default_matmul_precision("highest"):
        logits = jax.jit(logits_fn(loaded.config))(loaded.params, drawn, None)
    save_pretrained(tmp_path / "m", loaded.config, loaded.params, problem_type="single_label_classification")
    model = BertForSequenceClassification.from_pretrained(tmp_path / "m").eval()
    with torch.no_grad():
        theirs = model(**{name: torch.from_numpy(array).long() for name, array in drawn._asdict().items()}).logits
    assert np.abs(theirs.numpy()).max() > 1
    assert_same("logits", np.asarray(logits), theirs.numpy())
