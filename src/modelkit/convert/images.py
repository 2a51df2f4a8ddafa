"""Write a Preprocess in front of a graph, in operators that every set from 11 on has.

Images are resized by two products with matrices, one an axis, whose rows are the weights of the
pixels that a new pixel is made of. The matrices are computed from the size of the image in float64.
That is the definition of what PIL and torch do; onnxruntime's Resize differs from it by up to 20 of
255 near the edges where it antialiases, and rounds its coordinates to float32 where it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelkit.convert.preprocess import Preprocess, numbers, sides
from modelkit.convert.roles import rename_values
from modelkit.errors import ConversionError
from modelkit.spec import TensorSpec

OLDEST = 11  # the operator set that Range and the inputs of Clip came with
CUBIC = -0.5  # the coefficient that PIL has, and torch where it antialiases
CHANNELS_LAST = [0, 2, 3, 1]
CHANNELS_FIRST = [0, 3, 1, 2]
PREFIX = "preprocess"


@dataclass
class _Writer:
    """Nodes on their way into a graph, and their constants."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def op(self, name: str, *inputs: str, **settings: Any) -> str:
        """Add an operator of one result; gives the name of the result."""
        result = f"{PREFIX}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(name, inputs, [result], **settings))
        return result

    def held(self, value: Any, dtype: Any) -> str:
        """Add a constant; gives its name."""
        name = f"{PREFIX}_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def double(self, value: float) -> str:
        """A number of float64."""
        return self.held(value, np.float64)

    def whole(self, value: Any) -> str:
        """Integers."""
        return self.held(value, np.int64)

    def cast(self, name: str, dtype: Any) -> str:
        """The same numbers in another dtype."""
        return self.op("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def image_input(inputs: Sequence[TensorSpec]) -> TensorSpec:
    """The one input of images: floats of four dimensions. Raises ConversionError."""
    found = [spec for spec in inputs if len(spec.shape) == 4 and "float" in spec.dtype]
    if len(found) != 1:
        told = "; ".join(map(str, inputs))
        raise ConversionError(
            f"preprocess= needs one input of floats of four dimensions, and the inputs are {told}"
        )
    return found[0]


def with_preprocess(proto: onnx.ModelProto, spec: TensorSpec, steps: Preprocess) -> TensorSpec:
    """Write the steps in front of an input of a graph; gives the input that it has then.

    Raises ConversionError where they do not fit the input.
    """
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if versions and min(versions) < OLDEST:
        raise ConversionError(
            f"preprocess= is written in operators of set {OLDEST}, and the graph has set "
            f"{min(versions)}; export it again with a newer one"
        )
    taken = _image_spec(spec, steps)
    inner = f"{spec.name}_prepared"
    rename_values(proto.graph, {spec.name: inner})
    writer = _Writer()
    _write(writer, spec, steps)
    writer.nodes[-1].output[0] = inner
    nodes = [*writer.nodes, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(writer.constants)
    for value in proto.graph.input:
        if value.name == inner:
            given = helper.make_tensor_value_info(taken.name, TensorProto.UINT8, taken.shape)
            value.CopyFrom(given)
    return taken


def _image_spec(spec: TensorSpec, steps: Preprocess) -> TensorSpec:
    """The input of images of integers. Raises ConversionError where the network takes no such ones."""
    rows_layout, model_layout = steps.layout.split("->")
    rows, *_ = spec.shape
    sizes = dict(zip(model_layout, spec.shape, strict=True))
    if steps.target is not None:
        for axis, side in zip("HW", steps.target, strict=True):
            if isinstance(sizes[axis], int) and sizes[axis] != side:
                raise ConversionError(
                    f"preprocess= makes images of {steps.target[0]} x {steps.target[1]}, and the "
                    f"network takes {spec}"
                )
    for name, value in (("mean", steps.mean), ("std", steps.std)):
        count = len(numbers(value))
        if count > 1 and sizes["C"] != count:
            raise ConversionError(
                f"{name} has {count} numbers, and {spec} has {sizes['C']} channels in the layout "
                f"{steps.layout}"
            )
    if steps.size is not None:
        sizes |= {"H": "height", "W": "width"}
    shape = tuple(sizes[axis] for axis in rows_layout)
    return TensorSpec(spec.name, "uint8", (rows, *shape[1:]))


def _write(writer: _Writer, spec: TensorSpec, steps: Preprocess) -> None:
    """Write all steps; the last node gives the result."""
    rows_layout, model_layout = steps.layout.split("->")
    images = spec.name
    if rows_layout == "NHWC":
        images = writer.op("Transpose", images, perm=CHANNELS_FIRST)
    pixels = writer.cast(images, np.float32)
    if steps.size is not None:
        pixels = _resized(writer, pixels, steps)
    pixels = _standardised(writer, pixels, steps)
    if model_layout == "NHWC":
        pixels = writer.op("Transpose", pixels, perm=CHANNELS_LAST)
    if spec.dtype != "float32":
        writer.cast(pixels, spec.dtype)


def _standardised(writer: _Writer, pixels: str, steps: Preprocess) -> str:
    """(pixels * scale - mean) / std, of each channel."""
    pixels = writer.op("Mul", pixels, writer.held(steps.scale, np.float32))
    for operator, value, idle in (("Sub", steps.mean, 0.0), ("Div", steps.std, 1.0)):
        listed = numbers(value)
        if listed != [idle]:
            channels = np.reshape(np.asarray(listed, np.float32), (-1, 1, 1))
            pixels = writer.op(operator, pixels, writer.held(channels, np.float32))
    return pixels


def _resized(writer: _Writer, pixels: str, steps: Preprocess) -> str:
    """Images of (n, channels, height, width) in the size that the steps ask for."""
    shape = writer.op("Shape", pixels)
    given = []
    for axis in (2, 3):
        length = writer.op("Gather", shape, writer.whole(axis))
        given.append(length)
    wanted = _wanted(writer, given, steps)
    kept: list[str | None] = [None, None]
    if steps.crop is not None:
        kept = [writer.whole(side) for side in sides(steps.crop)]
    rows = _weights(writer, given[0], wanted[0], kept[0], steps)
    columns = _weights(writer, given[1], wanted[1], kept[1], steps)
    pixels = writer.op("MatMul", pixels, writer.op("Transpose", columns, perm=[1, 0]))
    pixels = _clipped(writer, pixels, steps)
    return _clipped(writer, writer.op("MatMul", rows, pixels), steps)


def _clipped(writer: _Writer, pixels: str, steps: Preprocess) -> str:
    """Pixels from 0 to 255, beyond which a cubic goes; PIL clips them after each axis."""
    if steps.interpolation != "bicubic":
        return pixels
    ends = [writer.held(end, np.float32) for end in (0, 255)]
    return writer.op("Clip", pixels, *ends)


def _wanted(writer: _Writer, given: Sequence[str], steps: Preprocess) -> list[str]:
    """Height and width to resize to, of int64."""
    assert steps.size is not None  # noqa: S101 - for the type checker: else nothing is resized
    if not isinstance(steps.size, int):
        return [writer.whole(side) for side in steps.size]
    lengths = [writer.cast(length, np.float64) for length in given]
    shorter = writer.op("Min", *lengths)
    found = []
    for length in lengths:  # whole pixels, rounded down, as torchvision does
        times = writer.op("Mul", length, writer.double(steps.size))
        found.append(writer.cast(writer.op("Div", times, shorter), np.int64))
    return found


def _weights(
    writer: _Writer,
    given: str,
    wanted: str,
    kept: str | None,
    steps: Preprocess,
) -> str:
    """The weights of the pixels along an axis for each new pixel: (new, old) of float32."""
    length = writer.cast(given, np.float64)
    total = writer.cast(wanted, np.float64)
    ratio = writer.op("Div", length, total)
    half = writer.double(0.5)
    new = _counted(writer, wanted if kept is None else kept, [-1, 1])
    if kept is not None:
        new = writer.op("Add", new, _start(writer, total, kept))
    centre = writer.op("Mul", writer.op("Add", new, half), ratio)
    if steps.antialias:
        spread = writer.op("Max", ratio, writer.double(1.0))
    else:  # beyond the first and the last pixel, they go on
        last = writer.op("Sub", length, half)
        centre = writer.op("Min", writer.op("Max", centre, half), last)
        spread = writer.double(1.0)
    old = writer.op("Add", _counted(writer, given, [1, -1]), half)
    apart = writer.op("Abs", writer.op("Div", writer.op("Sub", old, centre), spread))
    bicubic = steps.interpolation == "bicubic"
    weights = _cubic(writer, apart) if bicubic else _triangle(writer, apart)
    column = writer.op("Reshape", given, writer.whole([1]))
    ones = writer.op(
        "ConstantOfShape",
        writer.op("Concat", column, writer.whole([1]), axis=0),
        value=numpy_helper.from_array(np.ones(1)),
    )
    sums = writer.op("MatMul", weights, ones)
    return writer.cast(writer.op("Div", weights, sums), np.float32)


def _start(writer: _Writer, total: str, kept: str) -> str:
    """The first pixel of the centre."""
    rest = writer.op("Sub", total, writer.cast(kept, np.float64))
    return writer.op("Round", writer.op("Mul", rest, writer.double(0.5)))


def _counted(writer: _Writer, length: str, shape: Sequence[int]) -> str:
    """0, 1, 2 and so on, of float64."""
    counted = writer.op("Range", writer.whole(0), length, writer.whole(1))
    return writer.cast(writer.op("Reshape", counted, writer.whole(shape)), np.float64)


def _triangle(writer: _Writer, apart: str) -> str:
    return writer.op("Max", writer.op("Sub", writer.double(1), apart), writer.double(0))


def _cubic(writer: _Writer, apart: str) -> str:
    """Keys' cubic of distances, which is 0 from 2 on."""
    near = _polynomial(writer, apart, [CUBIC + 2, -(CUBIC + 3), 0, 1])
    far = _polynomial(writer, apart, [CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC])
    inside = writer.op("Less", apart, writer.double(1))
    reached = writer.op("Less", apart, writer.double(2))
    beyond = writer.op("Where", reached, far, writer.double(0))
    return writer.op("Where", inside, near, beyond)


def _polynomial(writer: _Writer, x: str, coefficients: Sequence[float]) -> str:
    """By Horner's rule, the coefficient of the highest power first."""
    first, *others = coefficients
    value = writer.double(first)
    for coefficient in others:
        value = writer.op("Add", writer.op("Mul", value, x), writer.double(coefficient))
    return value
