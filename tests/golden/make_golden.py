"""Makes tests/golden/*.npz: what Hugging Face's PyTorch BERT computes, part by part, for parameters drawn from a seed.

Run `python tests/golden/make_golden.py` where torch and transformers are installed. The tests draw the same parameters
and inputs with numpy, so the files hold PyTorch's outputs alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertjax.config import BertConfig
from bertjax.model.layout import is_transposed, param_shapes, torch_name

FOLDER = Path(__file__).parent

EVERY = 37
"""Of sequences longer than this, one token in `EVERY` is stored, to keep the files small."""


@dataclass(frozen=True)
class Case:
    """One model with one batch."""

    config: BertConfig
    lengths: tuple[int, ...]
    """Tokens of each row; the longest is the padded length."""
    seed: int


def _config(layers: int, hidden: int, heads: int, ffn: int, **other) -> BertConfig:
    return BertConfig(vocab_size=101, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                      intermediate_size=ffn, **other)


CASES = {
    "one-layer": Case(_config(1, 64, 4, 256), (9, 5), seed=1),
    "hidden-96-heads-3": Case(_config(3, 96, 3, 130, num_labels=3), (21, 1, 8), seed=2),
    "type-vocabulary-1": Case(_config(2, 48, 4, 96, type_vocab_size=1, num_labels=1), (7, 6), seed=3),
    "sequence-1": Case(_config(2, 96, 3, 96), (1, 1, 1), seed=4),
    "sequence-512": Case(_config(2, 32, 2, 128), (512, 300), seed=5),
    "large-epsilon": Case(_config(2, 40, 5, 64, layer_norm_eps=1e-2, max_position_embeddings=16), (16, 11), seed=6),
}


def draw_params(case: Case) -> dict[str, np.ndarray]:
    """Parameters by path, spread wider than an initialization so that every one of them matters."""
    random = np.random.default_rng(case.seed)
    leaves = {}
    for path, shape in sorted(param_shapes(case.config).items()):
        drawn = random.standard_normal(shape, dtype=np.float32) * np.float32(0.15)
        leaves[path] = drawn + np.float32(path.endswith("scale"))
    return leaves


def draw_inputs(case: Case) -> dict[str, np.ndarray]:
    """A padded batch, and hidden states to feed to single parts: of the encoder's width and of the FFN's."""
    random = np.random.default_rng((case.seed, 1))
    config, shape = case.config, (len(case.lengths), max(case.lengths))
    return {
        "input_ids": random.integers(0, config.vocab_size, shape, dtype=np.int32),
        "token_type_ids": random.integers(0, config.type_vocab_size, shape, dtype=np.int32),
        "attention_mask": np.arange(shape[1]) < np.array(case.lengths)[:, None],
        "hidden": random.standard_normal((*shape, config.hidden_size), dtype=np.float32),
        "inner": random.standard_normal((*shape, config.intermediate_size), dtype=np.float32),
    }


def torch_outputs(case: Case) -> dict[str, np.ndarray]:
    """What PyTorch computes: each part from the drawn hidden states, and the whole model's logits."""
    import torch

    model, inputs = _torch_model(case), {name: torch.from_numpy(array) for name, array in draw_inputs(case).items()}
    hidden, inner, mask = inputs["hidden"], inputs["inner"], inputs["attention_mask"]
    added = torch.where(mask[:, None, None, :], 0.0, torch.finfo(torch.float32).min)
    bert, layer = model.bert, model.bert.encoder.layer[0]
    with torch.no_grad():
        outputs = {
            "embeddings": bert.embeddings(input_ids=inputs["input_ids"], token_type_ids=inputs["token_type_ids"]),
            "self_attention": layer.attention.self(hidden, added),
            "attention": layer.attention(hidden, added),
            "intermediate": layer.intermediate(hidden),
            "output": layer.output(inner, hidden),
            "layer": layer(hidden, added),
            "encoder": bert.encoder(hidden, added).last_hidden_state[:, :1],  # all that is read
            "pooler": bert.pooler(hidden),
            "logits": model(input_ids=inputs["input_ids"], token_type_ids=inputs["token_type_ids"],
                            attention_mask=mask.long()).logits,
        }
    return {name: (made[0] if isinstance(made, tuple) else made).numpy() for name, made in outputs.items()}


def thin(output: np.ndarray) -> np.ndarray:
    """The stored part of an output [batch, (seq,) features]."""
    return output[:, ::EVERY] if output.ndim == 3 and output.shape[1] > EVERY else output


def _torch_model(case: Case):
    import torch
    from transformers import BertConfig as TorchConfig
    from transformers import BertForSequenceClassification

    fields = {name: value for name, value in vars(case.config).items() if name != "initializer_range"}
    model = BertForSequenceClassification(TorchConfig(**fields, attn_implementation="eager")).eval()
    state = {torch_name(path): torch.from_numpy(np.ascontiguousarray(leaf.T if is_transposed(path) else leaf))
             for path, leaf in draw_params(case).items()}
    model.load_state_dict(state, strict=True)
    return model


if __name__ == "__main__":
    for name, case in CASES.items():
        np.savez_compressed(FOLDER / f"{name}.npz", **{part: thin(out) for part, out in torch_outputs(case).items()})
