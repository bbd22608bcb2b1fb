"""Multi-head self-attention of BERT (arXiv:1810.04805), with an injected product for its linear layers."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bertjax.config import BertConfig
from bertjax.model.dropout import DropoutKey, dropout

DotGeneral = Callable[..., Array]
"""A function with the arguments of `jax.lax.dot_general`, and `least_peak` (0 by default), for a product to which it
matters: no number of its left operand is below minus this, and the largest of a token counts as at least this."""


def dense(
    features: int, config: BertConfig, dot_general: DotGeneral | None, dtype: jnp.dtype, name: str
) -> Callable[[Array], Array]:
    """A linear layer with float32 parameters, BERT's initialization and the injected product (None: a float one).

    Its product sees all axes but the last as one: for two, XLA's CPU transposes what the weights' gradient contracts.
    """
    layer = nn.Dense(features, dtype=dtype, dot_general=dot_general, name=name,
                     kernel_init=nn.initializers.normal(config.initializer_range))
    return lambda x: layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], features)


def layer_norm(config: BertConfig, dtype: jnp.dtype, name: str) -> nn.LayerNorm:
    """LayerNorm with the config's epsilon; the variance is taken around the mean, as PyTorch does."""
    return nn.LayerNorm(epsilon=config.layer_norm_eps, dtype=dtype, use_fast_variance=False, name=name)


class Part(nn.Module):
    """What every part of the model is told."""

    config: BertConfig
    dot_general: DotGeneral | None = None
    """The product of its linear layers; None is `jax.lax.dot_general`."""
    dtype: jnp.dtype = jnp.float32
    """Compute type of activations."""


@jax.custom_vjp
def query_key_products(
    query: Float[Array, "batch q heads size"], key: Float[Array, "batch k heads size"]
) -> Float[Array, "batch heads q k"]:
    """QKᵀ of every head.

    Its own gradient is JAX's, but for the order of the operands in that of the keys: as JAX writes it, XLA's CPU
    multiplies the heads one by one.
    """
    return jnp.einsum("bqhd,bkhd->bhqk", query, key)


def _query_key_backward(saved: tuple[Array, Array], grads: Array) -> tuple[Array, Array]:
    query, key = saved
    return jnp.einsum("bhqk,bkhd->bqhd", grads, key), jnp.einsum("bhqk,bqhd->bkhd", grads, query)


query_key_products.defvjp(lambda query, key: (query_key_products(query, key), (query, key)), _query_key_backward)


class SelfAttention(Part):
    """Softmax(QKᵀ/√d)V for the first `needed` tokens (None: all); QKᵀ and PV stay float whatever `dot_general` is."""

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "batch seq hidden"],
        attention_mask: Bool[Array, "batch seq"],
        key: DropoutKey | None = None,
        site: int = 0,
        needed: int | None = None,
    ) -> Float[Array, "batch needed hidden"]:
        c = self.config
        heads, size = c.num_attention_heads, c.hidden_size // c.num_attention_heads

        def projected(x: Float[Array, "batch tokens hidden"], name: str) -> Float[Array, "batch tokens heads size"]:
            made = dense(c.hidden_size, c, self.dot_general, self.dtype, name)(x)
            return made.reshape(*x.shape[:2], heads, size)

        query = projected(hidden[:, :needed], "query")
        key_, value = projected(hidden, "key"), projected(hidden, "value")
        scores = query_key_products(query / jnp.sqrt(size).astype(self.dtype), key_)
        scores = jnp.where(attention_mask[:, None, None, :], scores.astype(jnp.float32), jnp.finfo(jnp.float32).min)
        probs = nn.softmax(scores, axis=-1).astype(self.dtype)
        probs = dropout(probs, c.attention_probs_dropout_prob, key, site)
        return jnp.einsum("bhqk,bkhd->bqhd", probs, value).reshape(*query.shape[:2], c.hidden_size)


class AttentionOutput(Part):
    """Linear layer, dropout, residual and LayerNorm; also the second half of the feed-forward block."""

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "batch seq inner"],
        residual: Float[Array, "batch seq hidden"],
        key: DropoutKey | None = None,
        site: int = 0,
    ) -> Float[Array, "batch seq hidden"]:
        c = self.config
        hidden = dense(c.hidden_size, c, self.dot_general, self.dtype, "dense")(hidden)
        hidden = dropout(hidden, c.hidden_dropout_prob, key, site)
        return layer_norm(c, self.dtype, "LayerNorm")(hidden + residual)


class Attention(Part):
    """Self-attention with its output layer, for the first `needed` tokens (None: all)."""

    @nn.compact
    def __call__(
        self,
        hidden: Float[Array, "batch seq hidden"],
        attention_mask: Bool[Array, "batch seq"],
        key: DropoutKey | None = None,
        site: int = 0,
        needed: int | None = None,
    ) -> Float[Array, "batch needed hidden"]:
        parts = (self.config, self.dot_general, self.dtype)
        made = SelfAttention(*parts, name="self")(hidden, attention_mask, key, site, needed)
        return AttentionOutput(*parts, name="output")(made, hidden[:, :needed], key, site + 1)
