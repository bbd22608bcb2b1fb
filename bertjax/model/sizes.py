"""The six BERT sizes of arXiv:2208.09684 by name, and parameter counts as arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from bertjax.config import SIZES as SIZE_NAMES
from bertjax.config import BertConfig, require


@dataclass(frozen=True)
class Size:
    """A named size: its shape and where the hub keeps its pretrained weights."""

    config: BertConfig
    hub_name: str


def _bert(layers: int, hidden: int) -> BertConfig:
    # All six keep 64 features per head and four times as many hidden units in the FFN.
    return BertConfig(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // 64,
                      intermediate_size=4 * hidden)


SIZES: dict[str, Size] = {
    "tiny": Size(_bert(2, 128), "google/bert_uncased_L-2_H-128_A-2"),
    "mini": Size(_bert(4, 256), "google/bert_uncased_L-4_H-256_A-4"),
    "small": Size(_bert(4, 512), "google/bert_uncased_L-4_H-512_A-8"),
    "medium": Size(_bert(8, 512), "google/bert_uncased_L-8_H-512_A-8"),
    "base": Size(_bert(12, 768), "google-bert/bert-base-uncased"),
    "large": Size(_bert(24, 1024), "google-bert/bert-large-uncased"),
}
"""Google's BERT miniatures (arXiv:1908.08962) and the two original sizes (arXiv:1810.04805), all uncased."""


def size_config(name: str) -> BertConfig:
    """The shape of a named size. Raises `InputError` for a name that is not one of the six."""
    return _size(name).config


def hub_name(name: str) -> str:
    """The hub name of a named size's pretrained weights. Raises `InputError` for a name that is not one of the six."""
    return _size(name).hub_name


def size_name(config: BertConfig) -> str:
    """One of the six names when layers, hidden, heads and FFN are that size's, else "L<layers>H<hidden>"."""
    for name, size in SIZES.items():
        if _shape(size.config) == _shape(config):
            return name
    return f"L{config.num_hidden_layers}H{config.hidden_size}"


def encoder_linear_count(config: BertConfig) -> int:
    """Scalars in the six weight matrices of all encoder layers, biases not counted: what Q and P compress."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    return config.num_hidden_layers * (4 * hidden * hidden + 2 * hidden * ffn)


def word_embedding_count(config: BertConfig) -> int:
    """Scalars in the word embedding, the table that a text's tokens are looked up in."""
    return config.vocab_size * config.hidden_size


def param_count(config: BertConfig, num_labels: int | None = None) -> int:
    """Scalars in the model with its pooler; `num_labels` adds a task head of that many outputs."""
    hidden, ffn = config.hidden_size, config.intermediate_size
    layer_norm = 2 * hidden
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    layer_vectors = 4 * hidden + ffn + hidden + 2 * layer_norm
    total = rows * hidden + layer_norm + encoder_linear_count(config) + config.num_hidden_layers * layer_vectors
    total += hidden * hidden + hidden
    return total if num_labels is None else total + hidden * num_labels + num_labels


def _size(name: str) -> Size:
    require(name in SIZES, f"unknown size {name!r}; the sizes are {', '.join(SIZE_NAMES)}")
    return SIZES[name]


def _shape(config: BertConfig) -> tuple[int, ...]:
    return (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size)
