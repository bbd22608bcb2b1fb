"""A model as a StableHLO program for CPUs, GPUs and TPUs, serialized by `jax.export`, with its weights beside it.

The weights are arguments. Within the program a quantized model is as small (measured: 18.15 MB of a MiniLM with 3
layers, as 0.10 MB and 18.05 MB of weights), but XLA then folds the integers into float constants when it compiles,
which takes seconds and four times the memory; and arguments are read by anything that reads safetensors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array, Float, Int
from safetensors.numpy import load_file, save_file

from bertjax.artifact.card import about
from bertjax.artifact.codes import model_codes
from bertjax.artifact.exports.parity import Parity, computed_by, measured
from bertjax.artifact.load import Model
from bertjax.compress.quantize import quantize_codes
from bertjax.config import BertConfig, InputError, QuantizeConfig
from bertjax.model.attention import DotGeneral
from bertjax.model.bert import Inputs, logits_fn
from bertjax.model.layout import param_shapes
from bertjax.params import ENCODER_KERNELS, nest, paths

PROGRAM, WEIGHTS = "model.stablehlo", "model.safetensors"
PLATFORMS = ("cpu", "cuda", "tpu")

Weights = dict[str, Array]
"""By path: a parameter, or of a quantized matrix its int8 codes (PATH/codes) and their scales (PATH/scale)."""


def write_stablehlo(model: Model, folder: Path) -> Model:
    """Writes `PROGRAM` and `WEIGHTS` into an existing folder and reads them back: the model, computed by the program.

    Raises:
        InputError: flatbuffers, by which `jax.export` serializes, is not installed.
    """
    require_flatbuffers()
    weights = stored_weights(model)
    save_file(weights, folder / WEIGHTS)
    (folder / PROGRAM).write_bytes(serialized(model.config, model.quantize, weights))
    program = jax.jit(export.deserialize(bytearray((folder / PROGRAM).read_bytes())).call)
    read = jax.tree.map(jnp.asarray, load_file(folder / WEIGHTS))
    return computed_by(model, lambda *batch: np.asarray(program(read, *(jnp.int32(part) for part in batch))))


def require_flatbuffers() -> None:
    """Raises `InputError` where flatbuffers is not installed."""
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise InputError("a StableHLO export needs flatbuffers, which is not installed: "
                         "pip install 'bertjax[stablehlo]'") from None


def stored_weights(model: Model) -> dict[str, np.ndarray]:
    """What the program takes as its first argument, see `Weights`."""
    made = {path: np.asarray(leaf) for path, leaf in paths(model.params).items()}
    for path, (codes, scale, _) in model_codes(model.params, model.quantize).items():
        del made[path]
        made |= {f"{path}/codes": codes, f"{path}/scale": scale}
    return {path: np.ascontiguousarray(array) for path, array in made.items()}


def serialized(config: BertConfig, quantize: QuantizeConfig, weights: dict[str, np.ndarray]) -> bytes:
    """The program for any batch and length: `(weights, input_ids, attention_mask, token_type_ids) -> logits`."""
    def logits(
        weights: Weights, input_ids: Int[Array, "batch seq"], attention_mask: Int[Array, "batch seq"],
        token_type_ids: Int[Array, "batch seq"],
    ) -> Float[Array, "batch labels"]:
        leaves, product = _leaves_and_product(config, quantize, weights)
        return logits_fn(config, product)(nest(leaves), Inputs(input_ids, token_type_ids, attention_mask != 0), None)

    batch, seq = export.symbolic_shape("batch, seq")
    rows = jax.ShapeDtypeStruct((batch, seq), jnp.int32)
    stored = {path: jax.ShapeDtypeStruct(array.shape, array.dtype) for path, array in weights.items()}
    return bytes(export.export(jax.jit(logits), platforms=PLATFORMS)(stored, rows, rows, rows).serialize())


def _leaves_and_product(
    config: BertConfig, quantize: QuantizeConfig, weights: Weights
) -> tuple[dict[str, Array], DotGeneral | None]:
    """The parameters by path, and the encoder's product with them; None is the float one.

    A layer passes its product the kernel's values alone, which are here the bare codes: an array that the product knows
    again, and has the scales of. AQT's own product would find codes and scales anew in every call, at twice the time.
    """
    leaves: dict[str, Array] = {}
    kernels: dict[int, tuple[Array, Array]] = {}
    for path in param_shapes(config):
        if path in weights:
            leaves[path] = weights[path]
            continue
        codes, scale = weights[f"{path}/codes"], weights[f"{path}/scale"]
        if re.fullmatch(ENCODER_KERNELS, path):
            leaves[path] = codes.astype(jnp.float32)
            kernels[id(leaves[path])] = codes, scale
        else:
            leaves[path] = codes * scale
    bits = quantize.activation_bits
    if bits is None:
        return leaves, None

    def product(x: Array, kernel: Array, dimensions: Any, least_peak: float = 0.0, **_: Any) -> Array:
        (x_codes, x_scale), (codes, scale) = quantize_codes(x, bits, -1, least_peak), kernels[id(kernel)]
        sums = jax.lax.dot_general(x_codes, codes, dimensions, preferred_element_type=jnp.int32)
        return sums.astype(jnp.float32) * x_scale * scale

    return leaves, product


def stablehlo_card(model: Model, parity: Parity) -> str:
    """What stands in the folder's README."""
    quantized = ("Quantized matrices are stored as int8 codes with float32 scales and multiplied as integers.\n"
                 if model.quantize.weight_bits is not None else "")
    return f"""# {PROGRAM}

A BERT classifier exported by bertjax with jax {jax.__version__}: a StableHLO program for {", ".join(PLATFORMS)},
any batch, up to {model.config.max_position_embeddings} tokens. Its weights are its first argument.
{quantized}Compared with bertjax, both on {parity}.
{measured(model.origin, parity)}
{about(model.origin)}

```python
import jax.export, numpy, pathlib, safetensors.numpy
program = jax.jit(jax.export.deserialize(bytearray(pathlib.Path("{PROGRAM}").read_bytes())).call)
weights = safetensors.numpy.load_file("{WEIGHTS}")
ids = numpy.int32([[101, 2023, 102]])  # of the tokenizer beside this file
print(program(weights, ids, numpy.ones_like(ids), numpy.zeros_like(ids)))  # mask, token types
```

The names of the outputs stand in config.json (`id2label`).
"""
