"""A packed model: the codes of the one quantizer, the logits of the original, and bytes as arithmetic has them."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertjax.artifact.codes import code_bits
from bertjax.artifact.packed.file import write_packed
from bertjax.artifact.packed.pack import Packed, pack, packed_bytes, size_bytes_entropy, unpack
from bertjax.artifact.packed.storing import Stored, decode_codes
from bertjax.compress.quantize import dot_general, quantize_codes, quantize_embeddings
from bertjax.config import FLOAT, BertConfig, InputError, QuantizeConfig
from bertjax.model.bert import Inputs, logits_fn
from bertjax.model.layout import param_shapes
from bertjax.params import EMBEDDINGS, ENCODER_KERNELS, Params, nest, paths, select
from tests.small_model import CONFIG

TINY = BertConfig(vocab_size=11, hidden_size=6, num_hidden_layers=1, num_attention_heads=2, intermediate_size=9,
                  max_position_embeddings=2, num_labels=3)
SMALL = BertConfig(vocab_size=2000, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512,
                   max_position_embeddings=64)
BITS = st.sampled_from([None, 2, 7, 8])
codes_of = jax.jit(quantize_codes, static_argnums=(1, 2))
WORDS = "bert/embeddings/word_embeddings/embedding"
QUERY = "bert/encoder/layer/0/attention/self/query/kernel"


def random_params(config: BertConfig, sparsity: float, seed: int = 0) -> Params:
    """Normal weights, and that fraction of zeros in the encoder's kernels."""
    draw = np.random.default_rng(seed)
    shapes = param_shapes(config)
    params = nest({path: draw.normal(0, 0.1, shape).astype(np.float32) for path, shape in shapes.items()})
    return prune(params, sparsity, draw)


def prune(params: Params, sparsity: float, draw: np.random.Generator) -> Params:
    """Some weights of the encoder's kernels at zero."""
    return jax.tree.map(lambda leaf, pruned: np.where(pruned & (draw.random(leaf.shape) < sparsity), 0, leaf)
                        .astype(np.float32), params, select(params, ENCODER_KERNELS))


def flat(packed: Packed) -> dict[tuple[str, str], bytes]:
    """The bytes of every tensor by path and role."""
    return {(path, role): tensor.tobytes() for path, stored in packed.parameters.items()
            for role, tensor in stored.tensors.items()}


def bits_of(params: Params) -> dict[str, bytes]:
    """The bytes of every parameter."""
    return {path: np.asarray(leaf).tobytes() for path, leaf in paths(params).items()}


@settings(max_examples=15)
@given(st.integers(0, 2**32), BITS, BITS, st.sampled_from([0.0, 0.5, 0.99, 1.0]), st.booleans())
def test_codes_are_the_quantizers_and_come_back_with_their_scales(
    seed: int, weight_bits: int | None, embedding_bits: int | None, sparsity: float, entropy: bool
) -> None:
    params = random_params(TINY, sparsity, seed)
    quantize = QuantizeConfig(weight_bits, weight_bits, embedding_bits)
    packed = pack(params, quantize, entropy=entropy)
    restored = unpack(packed)
    for path, leaf in paths(params).items():
        found, stored = paths(restored)[path], packed.parameters[path]
        assert found.dtype == np.float32
        bits = code_bits(path, quantize)
        if bits is None:
            assert found.tobytes() == leaf.tobytes()
            continue
        axis = -1 if "embedding" in path else 0
        codes, scale = map(np.asarray, codes_of(leaf, bits, axis))
        again, scale_again = map(np.asarray, codes_of(found, bits, axis))
        np.testing.assert_array_equal(again, codes)
        some = codes.any(axis)
        np.testing.assert_array_equal(np.squeeze(scale_again, axis)[some], np.squeeze(scale, axis)[some])
        np.testing.assert_array_max_ulp(found, codes * scale, 1)
        if not stored.scheme.is_float:
            np.testing.assert_array_equal(decode_codes(stored), codes)
    # Packing what was restored is packing the same.
    assert flat(pack(restored, quantize, entropy=entropy)) == flat(packed)
    assert bits_of(unpack(pack(restored, quantize))) == bits_of(restored)


@pytest.mark.parametrize(("quantize", "sparsity"), [
    (FLOAT, 0.6), (QuantizeConfig(8, 8, 8), 0.6), (QuantizeConfig(7, 5, 7), 0.0)])
def test_a_packed_model_gives_the_same_logits(quantize: QuantizeConfig, sparsity: float) -> None:
    params = random_params(CONFIG, sparsity)
    ids = np.random.default_rng(1).integers(5, 40, (4, 12))
    inputs = Inputs(jnp.asarray(ids), jnp.asarray(ids % 2), jnp.asarray(ids > 7))
    model = logits_fn(CONFIG, dot_general(quantize))
    logits = jax.jit(lambda params: model(quantize_embeddings(params, quantize.embedding_bits), inputs, None))
    restored = unpack(pack(params, quantize))
    assert (bits_of(restored) != bits_of(params)) == (quantize != FLOAT)
    assert np.asarray(logits(restored)).tobytes() == np.asarray(logits(params)).tobytes()
    assert bits_of(unpack(pack(params, quantize, entropy=True))) == bits_of(restored)


def test_all_zero_and_constant_weights_are_packed() -> None:
    params = random_params(SMALL, 0.0)
    for value in (0.0, 0.7, -3e-38):  # the last one's scale has no reciprocal
        same = jax.tree.map(lambda leaf: np.full_like(leaf, value), params)  # noqa: B023
        for quantize in (FLOAT, QuantizeConfig()):
            packed = pack(same, quantize)
            restored = unpack(packed)
            assert flat(pack(restored, quantize)) == flat(packed)
            assert quantize != FLOAT or bits_of(restored) == bits_of(same)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("path", [WORDS, QUERY, "classifier/bias"])
def test_a_diverged_model_is_not_packed(bad: float, path: str) -> None:
    leaves = paths(random_params(TINY, 0.0))
    leaves[path].reshape(-1)[1] = bad
    with pytest.raises(InputError, match=f"{path} must be finite to be packed, got 1 of "):
        pack(nest(leaves), QuantizeConfig())


@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.complex64])
def test_what_is_no_float_of_32_bits_is_not_packed(dtype: type) -> None:
    with pytest.raises(InputError, match="a/b must hold floats of at most 32 bits"):
        pack({"a": {"b": np.zeros(3, dtype)}}, FLOAT)


def test_narrow_floats_are_packed_as_they_are() -> None:
    array = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)), jnp.bfloat16)
    packed = pack({"a": array, "b": jnp.asarray(array, jnp.float16) * 1.001}, FLOAT)
    assert [stored.scheme.values for stored in packed.parameters.values()] == ["bfloat16", "float16"]
    np.testing.assert_array_equal(unpack(packed)["a"], array.astype(jnp.float32))


@pytest.mark.parametrize("float_type", ["float16", "bfloat16"])
def test_only_what_is_not_quantized_is_rounded_where_asked(float_type: str) -> None:
    params, quantize = random_params(TINY, 0.6), QuantizeConfig()
    exact, rounded = paths(unpack(pack(params, quantize))), pack(params, quantize, float_type=float_type)
    for path, leaf in paths(unpack(rounded)).items():
        asked = exact[path].astype(jnp.dtype(float_type)).astype(np.float32)
        expected = exact[path] if code_bits(path, quantize) else asked
        assert leaf.tobytes() == expected.tobytes(), path
    assert all(stored.scheme.bits <= 16 for path, stored in rounded.parameters.items() if not code_bits(path, quantize))


def test_rounding_to_infinity_or_to_an_unknown_type_is_refused() -> None:
    with pytest.raises(InputError, match="a has numbers too large for float16"):
        pack({"a": np.float32([1, 65520])}, FLOAT, float_type="float16")
    with pytest.raises(InputError, match="float_type must be one of float32, float16, bfloat16"):
        pack({"a": np.float32([1])}, FLOAT, float_type="int8")


def arithmetic(params: Params, quantize: QuantizeConfig) -> int:
    """Bits of kept values, masks where weights were dropped, scales, and float32 for the rest, in bytes."""
    bits = 0
    for path, leaf in paths(params).items():
        width = code_bits(path, quantize)
        kept = np.count_nonzero(leaf)
        bits += (width or 32) * kept + (leaf.size if kept < 0.9 * leaf.size else 0)
        if width:
            bits += 32 * leaf.size // leaf.shape[-1 if path.endswith("embedding") else 0]
    return bits // 8


@pytest.mark.parametrize("quantize", [FLOAT, QuantizeConfig(8, 8, 8), QuantizeConfig(4, 8, 8), QuantizeConfig(2, 8, 4)])
@pytest.mark.parametrize("sparsity", [0.0, 0.6, 0.95])
def test_files_have_the_size_of_the_arithmetic(tmp_path: Path, quantize: QuantizeConfig, sparsity: float) -> None:
    params = random_params(SMALL, sparsity)
    packed = pack(params, quantize)
    write_packed(tmp_path / "model", packed, {"max_length": 64})
    size, expected = (tmp_path / "model").stat().st_size, arithmetic(params, quantize)
    assert size <= 1.02 * expected + 65536
    if quantize.weight_bits != 2:  # a code of 2 bits takes 1.6 in five trits, or one beside a mask
        assert size >= 0.98 * expected
    assert 0 < size - sum(found.total for found in packed_bytes(packed).values()) < 32768
    assert size < 4 * sum(leaf.size for leaf in jax.tree.leaves(params)) + 32768


@pytest.mark.parametrize("quantize", [FLOAT, QuantizeConfig(8, 8, 8), QuantizeConfig(2, 8, 4)])
@pytest.mark.parametrize("sparsity", [0.0, 0.6, 0.95])
def test_entropy_coding_comes_near_the_empirical_entropy(quantize: QuantizeConfig, sparsity: float) -> None:
    params = random_params(SMALL, sparsity)
    plain, coded = pack(params, quantize), pack(params, quantize, entropy=True)
    least = size_bytes_entropy(coded)
    assert abs(least - size_bytes_entropy(plain)) <= 1
    total = sum(found.total for found in packed_bytes(coded).values())
    assert least <= total <= 1.03 * least + 65536
    large = {path: stored for path, stored in coded.parameters.items() if stored.scheme.coded}
    assert bool(large) == (quantize != FLOAT or sparsity > 0)
    for path, stored in large.items():
        # The coded stream alone, without the floats and scales that would hide its excess.
        role = "mask" if stored.scheme.is_float else "values"
        others = sum(tensor.nbytes for name, tensor in stored.tensors.items() if name not in (role, "frequencies"))
        assert stored.tensors[role].nbytes <= 1.03 * (size_bytes_entropy(Packed({path: stored})) - others) + 8


def test_the_parts_are_told_apart() -> None:
    params = random_params(SMALL, 0.6)
    found = packed_bytes(pack(params, QuantizeConfig()))
    rows = SMALL.vocab_size + SMALL.max_position_embeddings + SMALL.type_vocab_size
    # The segments' table has two rows, LayerNorm's vectors are floats; both belong to the embeddings.
    assert found["embeddings"] == (128 * rows + 2 * 4 * 128, 0, 4 * rows)
    linear = {path: leaf for path, leaf in paths(params).items() if paths(select(params, ENCODER_KERNELS))[path]}
    assert found["encoder kernels"].places == sum(leaf.size for leaf in linear.values()) // 8
    assert found["encoder kernels"].scales == 4 * sum(leaf.shape[1] for leaf in linear.values())
    assert found["rest"].values == 4 * sum(leaf.size for path, leaf in paths(params).items()
                                           if path not in linear and "bert/embeddings" not in path)


def test_dropped_embedding_bits_leave_the_tables_exact() -> None:
    params = random_params(TINY, 0.5)
    restored = bits_of(unpack(pack(params, QuantizeConfig(8, 8, None))))
    tables = [path for path, found in paths(select(params, EMBEDDINGS)).items() if found]
    assert len(tables) == 3 and all(restored[path] == bits_of(params)[path] for path in tables)


@pytest.mark.parametrize("role", ["values", "mask", "scale"])
@pytest.mark.parametrize("change", ["missing", "short"])
def test_tensors_that_are_not_the_schemes_are_refused(role: str, change: str) -> None:
    params = random_params(SMALL, 0.6)
    packed = pack(params, QuantizeConfig())
    scheme, tensors = packed.parameters[QUERY]
    changed = {name: tensor[:-1] if name == role else tensor for name, tensor in tensors.items()
               if change == "short" or name != role}
    with pytest.raises(InputError, match=f"{QUERY}: its tensors are not those of its scheme, mask . int8"):
        unpack(Packed({QUERY: Stored(scheme, changed)}))
