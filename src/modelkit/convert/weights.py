"""The weights by which images are resized, written as nodes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from modelkit.convert.preprocess import Preprocess

CUBIC = -0.5  # the coefficient that PIL has, and torch where it antialiases
NEAR = (CUBIC + 2, -(CUBIC + 3), 0.0, 1.0)  # of the cubic below a distance of 1
FAR = (CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC)  # and from there to 2
PREFIX = "preprocess"


@dataclass
class Writer:
    """Nodes on their way into a graph, and their constants."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, name: str, *inputs: str, **settings: Any) -> str:
        """Add an operator of one result; gives the name of the result."""
        result = f"{PREFIX}_{len(self.nodes)}"
        node = helper.make_node(name, inputs, [result], **settings)
        self.nodes.append(node)
        return result

    def held(self, value: Any, dtype: Any) -> str:
        """Add a constant; gives its name."""
        name = f"{PREFIX}_constant_{len(self.constants)}"
        array = np.asarray(value, dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def double(self, value: float) -> str:
        """A number of float64."""
        return self.held(value, np.float64)

    def whole(self, value: Any) -> str:
        """Integers."""
        return self.held(value, np.int64)

    def cast(self, name: str, dtype: Any) -> str:
        """The same numbers in another dtype."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.op("Cast", name, to=kind)


def weights_along(
    writer: Writer, given: str, wanted: str, kept: str | None, steps: Preprocess
) -> str:
    """The weights of the pixels along an axis for each new pixel: (new, old) of float32.

    `given` is the number of pixels, `wanted` that of all new ones, and `kept` that of those in the
    centre which are asked for; None for all.
    """
    length = writer.cast(given, np.float64)
    total = writer.cast(wanted, np.float64)
    ratio = writer.op("Div", length, total)
    new = _places(writer, kept or wanted, [-1, 1])
    if kept is not None:
        new = writer.op("Add", new, _start(writer, total, kept))
    centre = writer.op("Mul", new, ratio)
    spread = writer.double(1.0)
    if steps.antialias:
        spread = writer.op("Max", ratio, spread)
    else:
        centre = _inside(writer, centre, length)
    old = _places(writer, given, [1, -1])
    apart = writer.op("Sub", old, centre)
    apart = writer.op("Div", apart, spread)
    apart = writer.op("Abs", apart)
    bicubic = steps.interpolation == "bicubic"
    weights = _cubic(writer, apart) if bicubic else _triangle(writer, apart)
    shares = writer.op("Div", weights, _sums(writer, weights, given))
    return writer.cast(shares, np.float32)


def _inside(writer: Writer, centre: str, length: str) -> str:
    """Centres no further out than those of the first and of the last pixel, which go on beyond."""
    half = writer.double(0.5)
    last = writer.op("Sub", length, half)
    centre = writer.op("Max", centre, half)
    return writer.op("Min", centre, last)


def _sums(writer: Writer, weights: str, given: str) -> str:
    """The sum of each row, as a column."""
    one = writer.whole([1])
    rows = writer.op("Reshape", given, one)
    shape = writer.op("Concat", rows, one, axis=0)
    filled = numpy_helper.from_array(np.ones(1))
    ones = writer.op("ConstantOfShape", shape, value=filled)
    return writer.op("MatMul", weights, ones)


def _start(writer: Writer, total: str, kept: str) -> str:
    """The first pixel of the centre."""
    centre = writer.cast(kept, np.float64)
    rest = writer.op("Sub", total, centre)
    half = writer.op("Mul", rest, writer.double(0.5))
    return writer.op("Round", half)


def _places(writer: Writer, count: str, shape: Sequence[int]) -> str:
    """The centres of pixels, 0.5, 1.5, 2.5 and so on, of float64."""
    counted = writer.op("Range", writer.whole(0), count, writer.whole(1))
    counted = writer.op("Reshape", counted, writer.whole(shape))
    counted = writer.cast(counted, np.float64)
    return writer.op("Add", counted, writer.double(0.5))


def _triangle(writer: Writer, apart: str) -> str:
    below = writer.op("Sub", writer.double(1.0), apart)
    return writer.op("Max", below, writer.double(0.0))


def _cubic(writer: Writer, apart: str) -> str:
    """Keys' cubic of distances, which is 0 from 2 on."""
    near = _polynomial(writer, apart, NEAR)
    far = _polynomial(writer, apart, FAR)
    inside = writer.op("Less", apart, writer.double(1.0))
    reached = writer.op("Less", apart, writer.double(2.0))
    beyond = writer.op("Where", reached, far, writer.double(0.0))
    return writer.op("Where", inside, near, beyond)


def _polynomial(writer: Writer, x: str, coefficients: Sequence[float]) -> str:
    """By Horner's rule, the coefficient of the highest power first."""
    first, *others = coefficients
    value = writer.double(first)
    for coefficient in others:
        product = writer.op("Mul", value, x)
        value = writer.op("Add", product, writer.double(coefficient))
    return value
