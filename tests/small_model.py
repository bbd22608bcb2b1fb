"""A BERT small enough to run whole studies in seconds, in a folder like a downloaded one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from transformers import BertTokenizerFast

from bertjax.config import BertConfig
from bertjax.model.bert import init_params
from bertjax.model.hf import save_pretrained

WORDS = ("red", "green", "blue", "circle", "square", "line", "big", "small", "near", "far")
CONFIG = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                    max_position_embeddings=16, initializer_range=0.2, num_labels=3)


def make_model_dir(folder: Path, words: Sequence[str] = WORDS) -> Path:
    """Random weights with a head for three classes, and a tokenizer of whole words."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    vocab = folder.parent / "vocab.txt"
    vocab.write_text("\n".join(vocabulary + [f"[unused{i}]" for i in range(40 - len(vocabulary))]) + "\n")
    params = jax.tree.map(np.asarray, init_params(CONFIG))
    save_pretrained(folder, CONFIG, params, problem_type="single_label_classification",
                    tokenizer=BertTokenizerFast(str(vocab)))
    return folder
