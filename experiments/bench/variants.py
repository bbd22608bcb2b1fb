"""The sweep's step with a part left out, or made in another way: what `train_speed.py` puts in turns with it as it is.

A variant is timed, not trained with: the shapes of its work are what it would have, not always its results.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from bertjax.config import FLOAT, BertConfig, Dtype
from bertjax.model import attention, bert
from bertjax.model.dropout import DropoutKey
from bertjax.params import EMBEDDINGS, Params, select
from bertjax.study import TrialConfig
from bertjax.sweep.inputs import TaskInputs
from bertjax.train import step
from bertjax.train.optim import optimizer
from bertjax.train.state import Hparams, Losses, StepMetrics
from bertjax.train.vocabulary import UsedVocabulary


def _same(x: Any) -> Any:
    return x


@dataclass(frozen=True)
class Variant:
    """What is put in the place of a part of the sweep."""

    code: Callable[[], AbstractContextManager[Any]] = nullcontext
    """In force while the program is traced."""
    config: Callable[[BertConfig], BertConfig] = _same
    trial: Callable[[TrialConfig], TrialConfig] = _same
    inputs: Callable[[TaskInputs], TaskInputs] = _same
    parts: bool = True
    """Whether batches are computed in parts."""


def descend(params: Params, opt_state: Any, hparams: Hparams, grads: Params, losses: Losses, *, step: Any) -> Any:
    """Stands for `update_trial`: plain gradient descent, so that no gradient is optimized away."""
    params = jax.tree.map(lambda p, g: p - 1e-6 * g, params, grads)
    return params, opt_state, StepMetrics(losses.loss, losses.task_loss, losses.loss)


def one_vector(params: Params, opt_state: Any, hparams: Hparams, grads: Params, losses: Losses, *, step: Any) -> Any:
    """Stands for `update_trial`: all parameters are updated as one vector, which decays as a whole."""
    norm = optax.tree.norm(grads)
    flat, restore = ravel_pytree(params)
    moments = jax.tree.map(lambda tree: ravel_pytree(tree)[0] if isinstance(tree, dict) else tree, opt_state,
                           is_leaf=lambda tree: isinstance(tree, dict))
    updates, moments = optimizer(hparams, step).update(ravel_pytree(grads)[0], moments, flat)
    opt_state = jax.tree.map(lambda vector: restore(vector) if vector.ndim else vector, moments)
    flat = cast(jax.Array, optax.apply_updates(flat, updates))
    return restore(flat), opt_state, StepMetrics(losses.loss, losses.task_loss, norm)


def forward_only(loss: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
    """Stands for `jax.grad`: the parameters themselves, scaled, as gradients."""

    def gradients(params: Params, *rest: Any) -> Any:
        value, losses = loss(params, *rest)
        return jax.tree.map(lambda p: p * value, params), losses

    return gradients


def without_embedding_gradients(*args: Any, **kwargs: Any) -> Params:
    """Stands for `effective_params`."""
    params = _EFFECTIVE_PARAMS(*args, **kwargs)
    return jax.tree.map(lambda p, table: lax.stop_gradient(p) if table else p, params, select(params, EMBEDDINGS))


_EFFECTIVE_PARAMS = step.effective_params


def mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for `jax.vmap`: one trial after the other, in a loop."""
    return lambda *args: lax.map(lambda one: function(*one), args)


def unrolled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for `jax.vmap`: the same operations for each trial, side by side."""

    def each(*args: Any) -> Any:
        count = len(jax.tree.leaves(args)[0])
        made = [function(*jax.tree.map(lambda leaf, i=i: leaf[i], args)) for i in range(count)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)

    return each


def over_trials(vmap: Callable[..., Any]) -> AbstractContextManager[Any]:
    """Another `jax.vmap` for the step alone; models and AQT keep theirs."""
    return patch.object(step, "jax", SimpleNamespace(**{**vars(jax), "vmap": vmap}))


def jax_random(generator: str) -> Callable[..., Any]:
    """Stands for `dropout`: bits of one of JAX's generators."""

    def dropout(x: jax.Array, rate: float, key: DropoutKey | None, site: int) -> jax.Array:
        if key is None or rate == 0.0:
            return x
        own = jax.random.fold_in(jax.random.key(key.seed, impl=generator), site)
        return jnp.where(jax.random.bernoulli(own, 1 - rate, x.shape), x / (1 - rate), jnp.zeros_like(x))

    return dropout


@contextmanager
def everywhere(name: str, function: Any) -> Any:
    """Another function of that name in the model."""
    with ExitStack() as stack:
        for module in (bert, attention):
            stack.enter_context(patch.object(module, name, function))
        yield


def scanned(self: bert.LayerStack, hidden: jax.Array, attention_mask: jax.Array, key: DropoutKey | None) -> jax.Array:
    """Stands for the layers of the encoder: all but the last, which computes one token, in one loop."""
    layer = bert.Layer(self.config, self.dot_general, self.dtype, parent=None)
    params, last = self.variables["params"], self.config.num_hidden_layers - 1
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[params[str(i)] for i in range(last)])

    def one(hidden: jax.Array, of_layer: tuple[Params, jax.Array]) -> tuple[jax.Array, None]:
        return cast(jax.Array, layer.apply({"params": of_layer[0]}, hidden, attention_mask, key, of_layer[1])), None

    hidden, _ = lax.scan(one, hidden, (stacked, 1 + 3 * jnp.arange(last)))
    return cast(jax.Array, layer.apply({"params": params[str(last)]}, hidden, attention_mask, key, 1 + 3 * last, 1))


class LibraryAttention(attention.SelfAttention):
    """JAX's own attention, which has no dropout of its probabilities."""

    @nn.compact
    def __call__(
        self, hidden: jax.Array, attention_mask: jax.Array, key: DropoutKey | None = None, site: int = 0,
        needed: int | None = None,
    ) -> jax.Array:
        c = self.config
        query, key_, value = (
            attention.dense(c.hidden_size, c, self.dot_general, self.dtype, name)(x).reshape(
                *x.shape[:2], c.num_attention_heads, -1)
            for x, name in ((hidden[:, :needed], "query"), (hidden, "key"), (hidden, "value")))
        made = jax.nn.dot_product_attention(query, key_, value, mask=attention_mask[:, None, None, :])
        return made.reshape(*query.shape[:2], c.hidden_size)


def whole_vocabulary(inputs: TaskInputs) -> TaskInputs:
    """Every row of the word embedding is trained."""
    size = inputs.config.vocab_size
    return replace(inputs, rows=replace(inputs.rows, vocabulary=UsedVocabulary(np.arange(size, dtype=np.int32), size)))


def no_dropout(config: BertConfig) -> BertConfig:
    """Of no activation."""
    return replace(config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def computed_in(trial: TrialConfig, dtype: Dtype) -> TrialConfig:
    """In another type."""
    return replace(trial, train=replace(trial.train, dtype=dtype))


VARIANTS = {
    # A part left out, by putting something cheaper in its place.
    "backward": Variant(lambda: patch.object(jax, "grad", forward_only)),
    "optimizer": Variant(lambda: patch.object(step, "update_trial", descend)),
    "dropout": Variant(config=no_dropout),
    "attention dropout": Variant(config=lambda config: replace(config, attention_probs_dropout_prob=0.0)),
    "exact gelu": Variant(lambda: patch.object(bert, "gelu", partial(jax.nn.gelu, approximate=True))),
    "embedding gradients": Variant(lambda: patch.object(step, "effective_params", without_embedding_gradients)),
    "mask application": Variant(lambda: patch.object(step, "apply_masks", lambda params, masks: params)),
    "mask updates": Variant(trial=lambda trial: replace(trial, sparsity=0.0)),
    "quantization": Variant(trial=lambda trial: replace(trial, quantize=FLOAT)),
    # A part made in another way.
    "trials in a loop": Variant(lambda: over_trials(mapped)),
    "trials unrolled": Variant(lambda: over_trials(unrolled)),
    "layers in a loop": Variant(lambda: patch.object(bert.LayerStack, "__call__", scanned)),
    "whole batches": Variant(parts=False),
    "one vector": Variant(lambda: patch.object(step, "update_trial", one_vector)),
    "whole vocabulary": Variant(inputs=whole_vocabulary),
    "threefry dropout": Variant(lambda: everywhere("dropout", jax_random("threefry2x32"))),
    "rbg dropout": Variant(lambda: everywhere("dropout", jax_random("rbg"))),
    "erfc gelu": Variant(lambda: patch.object(bert, "gelu", partial(jax.nn.gelu, approximate=False))),
    "dot_product_attention": Variant(lambda: patch.object(attention, "SelfAttention", LibraryAttention)),
    "bfloat16": Variant(trial=partial(computed_in, dtype="bfloat16")),
    "bfloat16 products": Variant(trial=partial(computed_in, dtype="bfloat16_products")),
}
"""By name."""
AS_IT_IS = Variant()
