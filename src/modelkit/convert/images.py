"""Write a Preprocess in front of a graph, in operators that every set from 11 on has.

Images are resized by two products with matrices, one an axis, whose rows are the weights of the
pixels that a new pixel is made of. The matrices are computed from the size of the image in float64.
That is the definition of what PIL and torch do; onnxruntime's Resize differs from it by up to 20 of
255 near the edges where it antialiases, and rounds its coordinates to float32 where it does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelkit.convert.preprocess import Preprocess, numbers, sides
from modelkit.convert.roles import rename_values
from modelkit.convert.weights import Writer, weights_along
from modelkit.errors import ConversionError
from modelkit.signature.spec import TensorSpec

OLDEST = 11  # the operator set that Range and the inputs of Clip came with
CHANNELS_LAST = [0, 2, 3, 1]
CHANNELS_FIRST = [0, 3, 1, 2]


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
    writer = Writer()
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
    sizes = dict(zip(model_layout, spec.shape, strict=True))
    _check_target(spec, sizes, steps)
    for name, value in (("mean", steps.mean), ("std", steps.std)):
        count = len(numbers(value))
        if count not in (1, sizes["C"]):
            raise ConversionError(
                f"{name} has {count} numbers, and {spec} has {sizes['C']} channels in the layout "
                f"{steps.layout}"
            )
    if steps.size is not None:
        sizes["H"] = "height"
        sizes["W"] = "width"
    shape = tuple(sizes[axis] for axis in rows_layout)
    return TensorSpec(spec.name, "uint8", shape)


def _check_target(spec: TensorSpec, sizes: Mapping[str, int | str], steps: Preprocess) -> None:
    """Raise ConversionError where a network takes images of another size than the steps make."""
    if steps.target is None:
        return
    height, width = steps.target
    for axis, side in (("H", height), ("W", width)):
        if isinstance(sizes[axis], int) and sizes[axis] != side:
            raise ConversionError(
                f"preprocess= makes images of {height} x {width}, and the network takes {spec}"
            )


def _write(writer: Writer, spec: TensorSpec, steps: Preprocess) -> None:
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


def _standardised(writer: Writer, pixels: str, steps: Preprocess) -> str:
    """(pixels * scale - mean) / std, of each channel."""
    scale = writer.held(steps.scale, np.float32)
    pixels = writer.op("Mul", pixels, scale)
    if numbers(steps.mean) != [0.0]:
        pixels = writer.op("Sub", pixels, _by_channel(writer, steps.mean))
    if numbers(steps.std) != [1.0]:
        pixels = writer.op("Div", pixels, _by_channel(writer, steps.std))
    return pixels


def _by_channel(writer: Writer, value: float | Sequence[float]) -> str:
    """One number, or one for each channel, as (channels, 1, 1)."""
    listed = np.array(numbers(value), np.float32)
    return writer.held(listed.reshape(-1, 1, 1), np.float32)


def _resized(writer: Writer, pixels: str, steps: Preprocess) -> str:
    """Images of (n, channels, height, width) in the size that the steps ask for."""
    shape = writer.op("Shape", pixels)
    height = writer.op("Gather", shape, writer.whole(2))
    width = writer.op("Gather", shape, writer.whole(3))
    new_height, new_width = _wanted(writer, [height, width], steps)
    kept_height = None
    kept_width = None
    if steps.crop is not None:
        kept_height, kept_width = map(writer.whole, sides(steps.crop))
    rows = weights_along(writer, height, new_height, kept_height, steps)
    columns = weights_along(writer, width, new_width, kept_width, steps)
    turned = writer.op("Transpose", columns, perm=[1, 0])
    pixels = writer.op("MatMul", pixels, turned)
    pixels = _clipped(writer, pixels, steps)
    pixels = writer.op("MatMul", rows, pixels)
    return _clipped(writer, pixels, steps)


def _clipped(writer: Writer, pixels: str, steps: Preprocess) -> str:
    """Pixels from 0 to 255, beyond which a cubic goes; PIL clips them after each axis."""
    if steps.interpolation != "bicubic":
        return pixels
    least = writer.held(0, np.float32)
    most = writer.held(255, np.float32)
    return writer.op("Clip", pixels, least, most)


def _wanted(writer: Writer, given: Sequence[str], steps: Preprocess) -> list[str]:
    """Height and width to resize to, of int64."""
    assert steps.size is not None  # for the type checker: else nothing is resized
    if not isinstance(steps.size, int):
        return [writer.whole(side) for side in steps.size]
    lengths = [writer.cast(length, np.float64) for length in given]
    shorter = writer.op("Min", *lengths)
    size = writer.double(steps.size)
    found = []
    for length in lengths:  # whole pixels, rounded down, as torchvision does
        product = writer.op("Mul", length, size)
        longer = writer.op("Div", product, shorter)
        found.append(writer.cast(longer, np.int64))
    return found
