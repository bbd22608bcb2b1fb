"""A graph of ONNX operators in the making, and the linear layers of a BERT in it, float or integer.

The integer product is `bertjax.compress.quantize`'s, operation by operation: an activation's codes are
round-half-even(x * (1 / scale)) with scale = max|x| * (1 / bound), but at least `smallest_scale`; int32 sums of
products; then times the weights' scale, times the activations' (training multiplies by these in the other order).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from onnx import NodeProto, TensorProto, helper, numpy_helper

from bertjax.artifact.codes import Codes
from bertjax.compress.quantize import inverse_bound, smallest_scale

ZERO_POINT = 128
"""Code 0 as stored in uint8. ONNX Runtime multiplies uint8 by int8 several times faster than int8 by int8."""

SMALL_TABLE = 1024
"""Rows of an embedding table that runtimes may hold as floats, which they make once, when they load: of positions and
types, not of words."""


class QuantizedActivation(NamedTuple):
    """Names of an activation's codes (uint8, `ZERO_POINT` is 0) and of its scales, one per token."""

    codes: str
    scale: str


def stored_codes(weight: Codes, unsigned: bool) -> tuple[np.ndarray, np.generic]:
    """A kernel's codes as the file holds them, and what stands there for 0."""
    if not unsigned:
        return weight.codes, np.int8(0)
    return (weight.codes.astype(np.int16) + ZERO_POINT).astype(np.uint8), np.uint8(ZERO_POINT)


class Graph:
    """Nodes and constants; each method adds something at a path and returns the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._names: set[str] = set()
        self._one: str | None = None

    def op(self, kind: str, *inputs: str, at: str, output: str | None = None, **attributes: Any) -> str:
        """An operator of ONNX with one result, named after its place and kind unless `output` says otherwise."""
        name, number = f"{at}/{kind}", 1
        while name in self._names:
            number += 1
            name = f"{at}/{kind}_{number}"
        self._names.add(name)
        self.nodes.append(helper.make_node(kind, inputs, [output or name], name=name, **attributes))
        return output or name

    def weight(self, name: str, array: np.ndarray) -> str:
        """A constant that the file stores under its own name."""
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def value(self, array: np.generic | np.ndarray) -> str:
        """A small constant, stored once however often it is used."""
        array = np.asarray(array)
        return self.weight(f"{array.dtype.name}{list(array.shape)}={array.tolist()}", array)

    def integers(self, *numbers: int) -> str:
        """A constant int64 vector."""
        return self.value(np.array(numbers, np.int64))

    def slice(self, x: str, end: str, axis: int, at: str) -> str:
        """`x[:end]` along an axis; `end` names an int64 vector of one element."""
        return self.op("Slice", x, self.integers(0), end, self.integers(axis), at=at)

    def first_token(self, x: str, at: str) -> str:
        """[seq, batch, ...] to [1, batch, ...]."""
        return self.slice(x, self.integers(1), 0, at)

    def quantize(self, x: str, bits: int, at: str, least_peak: float = 0.0) -> QuantizedActivation:
        """Codes and scales of an activation [seq, batch, features], one scale per token.

        Args:
            least_peak: Above 0 where no number is below minus this, see `bertjax.compress.quantize.quantize_codes`.
        """
        sizes = x if least_peak else self.op("Abs", x, at=at)
        peak = self.op("ReduceMax", sizes, at=at, axes=[-1], keepdims=1)
        scale = self.op("Mul", peak, self.value(inverse_bound(bits)), at=at)
        scale = self.op("Clip", scale, self.value(smallest_scale(bits, least_peak)), at=at)
        inverse = self.op("Reciprocal", scale, at=at)
        # By a scale of 1 the operator rounds half to even, shifts and stores in one pass. Were it given the real
        # scales it would divide, which gives other codes next to a rounding boundary.
        codes = self.op("QuantizeLinear", self.op("Mul", x, inverse, at=at), self.value(np.float32(1)),
                        self.value(np.uint8(ZERO_POINT)), at=at)
        return QuantizedActivation(codes, scale)

    def fake_quantize(self, x: str, scale: np.float32, at: str) -> str:
        """An activation rounded to 8-bit codes of a fixed scale and back; what exceeds 127 of it is cut off.

        Of this pair and a product with `dequantized` weights runtimes make one integer product.
        """
        scaling = self.value(scale), self.value(np.uint8(ZERO_POINT))
        return self.op("DequantizeLinear", self.op("QuantizeLinear", x, *scaling, at=at), *scaling, at=at)

    def dequantized(self, weight: Codes, unsigned: bool, at: str) -> str:
        """A kernel as the floats of its codes, which alone are stored.

        Args:
            unsigned: See `integer_product`.
        """
        codes, zero = stored_codes(weight, unsigned)
        scale = weight.scale.reshape(-1)
        return self.op("DequantizeLinear", self.weight(f"{at}/codes", codes), self.weight(f"{at}/scale", scale),
                       self.value(np.full(scale.shape, zero)), at=at, axis=1)

    def integer_product(self, x: QuantizedActivation, weight: Codes, unsigned: bool, at: str) -> str:
        """The product of codes, scaled to floats.

        Args:
            unsigned: Store the weights' codes as uint8 too, see `bertjax.artifact.exports.to_onnx.saturates`.
        """
        codes, zero = stored_codes(weight, unsigned)
        sums = self.op("MatMulInteger", x.codes, self.weight(f"{at}/codes", codes),
                       self.value(np.uint8(ZERO_POINT)), self.value(zero), at=at)
        # Of Mul(Cast(sums), Mul(a number, weights' scale)) ONNX Runtime (1.31) makes one operator with the product.
        # Given the tokens' scale in place of the number it does too, and leaves out the bias, so these come after.
        scale = self.op("Mul", self.one(x.codes), self.weight(f"{at}/scale", weight.scale.reshape(-1)), at=at)
        made = self.op("Mul", self.op("Cast", sums, at=at, to=TensorProto.FLOAT), scale, at=at)
        return self.op("Mul", made, x.scale, at=at)

    def one(self, x: str) -> str:
        """float32 [1] of 1, which runtimes know when they run alone: a constant they would fold with its product.

        Args:
            x: Of any batch; the first one's is taken.
        """
        if self._one is None:
            size = self.op("Shape", x, at="one", start=0, end=1)
            self._one = self.op("Cast", self.op("Equal", size, size, at="one"), at="one", to=TensorProto.FLOAT)
        return self._one

    def product(self, x: str, kernel: Float[np.ndarray, "inputs outputs"], at: str) -> str:
        """The float product."""
        return self.op("MatMul", x, self.weight(f"{at}/kernel", kernel), at=at)

    def rows(self, table: Float[np.ndarray, "rows hidden"] | Codes, take: Callable[[str], str], at: str) -> str:
        """Some rows of an embedding table, as floats.

        Args:
            take: Given a constant's name, adds what takes the rows from it.
        """
        if not isinstance(table, Codes):
            return take(self.weight(f"{at}/embedding", table))
        codes, scale = self.weight(f"{at}/codes", table.codes), self.weight(f"{at}/scale", table.scale)
        if len(table.codes) <= SMALL_TABLE:
            return take(self.op("Mul", self.op("Cast", codes, at=at, to=TensorProto.FLOAT), scale, at=at))
        return self.op("Mul", self.op("Cast", take(codes), at=at, to=TensorProto.FLOAT), take(scale), at=at)
