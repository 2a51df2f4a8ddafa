"""What a Preprocess does to images: a function of numpy, which on traced rows writes the graph.

Images are resized by two products with matrices, one an axis, whose rows are the weights of the
pixels that a new pixel is made of. The matrices are computed from the size of the image in float64.
That is the definition of what PIL and torch do; onnxruntime's Resize differs from it by up to 20 of
255 near the edges where it antialiases, and rounds its coordinates to float32 where it does not.
Sums of their rows are products too: ReduceSum has other inputs in old sets of operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from modelkit.convert.estimators.tensors import Traced, constant, op
from modelkit.convert.preprocess import Preprocess, numbers, sides
from modelkit.errors import ConversionError
from modelkit.signature.spec import TensorSpec

CHANNELS_LAST = (0, 2, 3, 1)
CHANNELS_FIRST = (0, 3, 1, 2)
CUBIC = -0.5  # the coefficient that PIL has, and torch where it antialiases
NEAR = (CUBIC + 2, -(CUBIC + 3), 0.0, 1.0)  # of the cubic below a distance of 1
FAR = (CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC)  # and from there to 2


def image_spec(inputs: Sequence[TensorSpec], steps: Preprocess) -> tuple[int, TensorSpec]:
    """The place of the input that is images, and the input of bytes that takes its place.

    Raises ConversionError where the steps fit no input.
    """
    found = [at for at, each in enumerate(inputs) if len(each.shape) == 4 and "float" in each.dtype]
    if len(found) != 1:
        raise ConversionError(
            "preprocess= needs one input of floats of four dimensions, and the inputs are "
            + "; ".join(map(str, inputs))
        )
    spec = inputs[found[0]]
    rows_layout, model_layout = steps.layout.split("->")
    sizes = dict(zip(model_layout, spec.shape, strict=True))
    for axis, side in zip("HW", steps.target or (), strict=False):
        if isinstance(sizes[axis], int) and sizes[axis] != side:
            raise ConversionError(
                f"preprocess= makes images of {' x '.join(map(str, steps.target or ()))}, and the "
                f"network takes {spec}"
            )
    for name in ("mean", "std"):
        count = len(numbers(getattr(steps, name)))
        if count not in (1, sizes["C"]):
            raise ConversionError(
                f"{name} has {count} numbers, and {spec} has {sizes['C']} channels in the layout "
                f"{steps.layout}"
            )
    if steps.size is not None:
        sizes |= {"H": "height", "W": "width"}
    return found[0], TensorSpec(spec.name, "uint8", tuple(sizes[axis] for axis in rows_layout))


def prepared(images: Any, steps: Preprocess) -> Any:
    """Images of integers, an array or traced, as the network takes them, of float32."""
    rows_layout, model_layout = steps.layout.split("->")
    pixels = np.transpose(images, CHANNELS_FIRST) if rows_layout == "NHWC" else images
    pixels = pixels.astype(np.float32)
    if steps.size is not None:
        pixels = _resized(pixels, steps, steps.size)
    scale, mean, std = (
        np.array(numbers(each), np.float32).reshape(-1, 1, 1)
        for each in (steps.scale, steps.mean, steps.std)
    )
    pixels = (pixels * scale - mean) / std
    return np.transpose(pixels, CHANNELS_LAST) if model_layout == "NHWC" else pixels


def _resized(pixels: Any, steps: Preprocess, size: int | tuple[int, int]) -> Any:
    """Images of (n, channels, height, width) in a size: along the width and then along the height."""
    shape = op.shape(pixels) if isinstance(pixels, Traced) else np.array(pixels.shape)
    old = [shape.astype(np.float64)[axis] for axis in (2, 3)]
    new: Sequence[Any] = sides(size)
    if isinstance(size, int):  # of the shorter side: the other is rounded down, as torchvision does
        new = [np.floor(side * float(size) / np.minimum(*old)) for side in old]
    kept = new if steps.crop is None else sides(steps.crop)
    rows, columns = (_weights(*each, steps) for each in zip(old, new, kept, strict=True))
    return _clipped(rows @ _clipped(pixels @ columns.T, steps), steps)


def _clipped(pixels: Any, steps: Preprocess) -> Any:
    """Pixels from 0 to 255, beyond which a cubic goes; PIL clips them after each axis."""
    return np.clip(pixels, 0, 255) if steps.interpolation == "bicubic" else pixels


def _weights(old: Any, new: Any, kept: Any, steps: Preprocess) -> Any:
    """(kept, old) of float32: the weights of the pixels along an axis for each new pixel.

    `old` and `new` are the numbers of pixels, and `kept` is how many in the centre are asked for.
    """
    ratio = old / new
    centre = (_centres(kept) + np.rint((new - kept) * 0.5)) * ratio
    if steps.antialias:
        spread = np.maximum(ratio, 1.0)
    else:  # the first and the last pixel go on beyond their centres
        spread = 1.0
        centre = np.minimum(np.maximum(centre, 0.5), old - 0.5)
    given = _centres(old).reshape(1, -1)
    apart = np.abs((given - centre.reshape(-1, 1)) / spread)
    if steps.interpolation == "bilinear":
        weights = np.maximum(1.0 - apart, 0.0)
    else:  # Keys' cubic
        far = np.where(apart < 2.0, _polynomial(apart, FAR), 0.0)
        weights = np.where(apart < 1.0, _polynomial(apart, NEAR), far)
    ones = given.T**0.0
    return (weights / (weights @ ones)).astype(np.float32)


def _centres(count: Any) -> Any:
    """Of pixels: 0.5, 1.5, 2.5 and so on."""
    if isinstance(count, Traced):
        return op.range(constant(0.5), count, constant(1.0))
    return np.arange(0.5, count)


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """By Horner's rule, the coefficient of the highest power first."""
    return reduce(lambda value, coefficient: value * x + coefficient, coefficients)
