"""BERT (arXiv:1810.04805) as a function of its parameters: post-norm, exact gelu, a classification or regression head.

Submodules carry the names of Hugging Face's former Flax BERT, so its checkpoints map one to one. The rest of bertjax
sees `logits_fn` alone.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bertjax.config import BertConfig
from bertjax.model.attention import Attention, AttentionOutput, DotGeneral, Part, dense, layer_norm
from bertjax.model.dropout import DropoutKey, dropout
from bertjax.params import Params


class Inputs(NamedTuple):
    """One padded batch."""

    input_ids: Int[Array, "batch seq"]
    token_type_ids: Int[Array, "batch seq"]
    attention_mask: Bool[Array, "batch seq"]
    """True where there is a token."""


LogitsFn = Callable[[Params, Inputs, DropoutKey | None], Float[Array, "batch labels"]]


class Embeddings(Part):
    """Sum of word, position and type embeddings, LayerNorm, dropout."""

    @nn.compact
    def __call__(self, inputs: Inputs, key: DropoutKey | None = None) -> Float[Array, "batch seq hidden"]:
        c = self.config

        def table(rows: int, name: str) -> nn.Embed:
            return nn.Embed(rows, c.hidden_size, dtype=self.dtype, name=name,
                            embedding_init=nn.initializers.normal(c.initializer_range))

        positions = jnp.arange(inputs.input_ids.shape[1])
        hidden = table(c.vocab_size, "word_embeddings")(inputs.input_ids)
        hidden += table(c.type_vocab_size, "token_type_embeddings")(inputs.token_type_ids)
        hidden += table(c.max_position_embeddings, "position_embeddings")(positions)
        return dropout(layer_norm(c, self.dtype, "LayerNorm")(hidden), c.hidden_dropout_prob, key, site=0)


GELU_DEPTH = 0.1875
"""No gelu is below minus this, nor as it is rounded in bfloat16: its minimum is -0.16997."""


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact gelu by erf, as PyTorch computes it: `jax.nn.gelu` takes erfc, which costs a CPU more."""
    return 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5)))


class Intermediate(Part):
    """The first half of the feed-forward block: linear layer and exact (erf) gelu."""

    @nn.compact
    def __call__(self, hidden: Float[Array, "batch seq hidden"]) -> Float[Array, "batch seq inner"]:
        made = dense(self.config.intermediate_size, self.config, self.dot_general, self.dtype, "dense")(hidden)
        return gelu(made)


class Layer(Part):
    """One encoder layer: attention and feed-forward, each followed by residual and LayerNorm.

    Computes the outputs of the first `needed` tokens (None: all) from all tokens.
    """

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "batch seq hidden"],
        attention_mask: Bool[Array, "batch seq"],
        key: DropoutKey | None = None,
        site: int = 1,
        needed: int | None = None,
    ) -> Float[Array, "batch needed hidden"]:
        parts = (self.config, self.dot_general, self.dtype)
        hidden = Attention(*parts, name="attention")(hidden, attention_mask, key, site, needed)
        inner = Intermediate(*parts, name="intermediate")(hidden)
        product = None if self.dot_general is None else partial(self.dot_general, least_peak=GELU_DEPTH)
        return AttentionOutput(self.config, product, self.dtype, name="output")(inner, hidden, key, site + 2)


class LayerStack(Part):
    """The encoder layers, named by number.

    The last one computes the first token alone, which is all that the pooler reads: of a layer's products for the other
    tokens it needs the keys and values, 2 of 12 (with a feed-forward block 4 times as wide).
    """

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "batch seq hidden"], attention_mask: Bool[Array, "batch seq"], key: DropoutKey | None
    ) -> Float[Array, "batch 1 hidden"]:
        last = self.config.num_hidden_layers - 1
        for i in range(last + 1):
            layer = Layer(self.config, self.dot_general, self.dtype, name=str(i))
            hidden = layer(hidden, attention_mask, key, site=1 + 3 * i, needed=1 if i == last else None)
        return hidden


class Encoder(Part):
    """Holds the stack under the name that checkpoints use."""

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "batch seq hidden"], attention_mask: Bool[Array, "batch seq"], key: DropoutKey | None
    ) -> Float[Array, "batch 1 hidden"]:
        return LayerStack(self.config, self.dot_general, self.dtype, name="layer")(hidden, attention_mask, key)


class Pooler(Part):
    """Linear layer and tanh on the first token. Never quantized or pruned (arXiv:2208.09684 counts it as dense)."""

    @nn.compact
    def __call__(self, hidden: Float[Array, "batch tokens hidden"]) -> Float[Array, "batch hidden"]:
        return jnp.tanh(dense(self.config.hidden_size, self.config, None, self.dtype, "dense")(hidden[:, 0]))


class Bert(Part):
    """Embeddings, encoder and pooler."""

    @nn.compact
    def __call__(self, inputs: Inputs, key: DropoutKey | None = None) -> Float[Array, "batch hidden"]:
        hidden = Embeddings(self.config, dtype=self.dtype, name="embeddings")(inputs, key)
        hidden = Encoder(self.config, self.dot_general, self.dtype, name="encoder")(hidden, inputs.attention_mask, key)
        return Pooler(self.config, dtype=self.dtype, name="pooler")(hidden)


class BertForSequenceClassification(Part):
    """BERT with a linear task head: `num_labels` logits, or one score for regression."""

    @nn.compact
    def __call__(self, inputs: Inputs, key: DropoutKey | None = None) -> Float[Array, "batch labels"]:
        c = self.config
        pooled = Bert(c, self.dot_general, self.dtype, name="bert")(inputs, key)
        pooled = dropout(pooled, c.head_dropout_prob, key, site=1 + 3 * c.num_hidden_layers)
        return dense(c.num_labels, c, None, self.dtype, "classifier")(pooled).astype(jnp.float32)


def logits_fn(config: BertConfig, dot_general: DotGeneral | None = None, dtype: jnp.dtype = jnp.float32) -> LogitsFn:
    """The model as a pure function `(params, inputs, key) -> logits`.

    Args:
        config: The model's shape.
        dot_general: The product of the encoder's linear layers; None is `jax.lax.dot_general`.
        dtype: Compute type of activations; parameters, softmax and logits are float32.

    Returns:
        A function of the parameters, a padded batch and a dropout key (None turns dropout off).
    """
    model = BertForSequenceClassification(config, dot_general, dtype)

    def logits(params: Params, inputs: Inputs, key: DropoutKey | None = None) -> Float[Array, "batch labels"]:
        return cast(Array, model.apply({"params": params}, inputs, key))

    return logits


def init_params(config: BertConfig, seed: int = 0) -> Params:
    """Random parameters in BERT's initialization."""
    one = jnp.zeros((1, 1), jnp.int32)
    model = BertForSequenceClassification(config)
    return cast(Params, model.init(jax.random.key(seed), Inputs(one, one, one == 0))["params"])
