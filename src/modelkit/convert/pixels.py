"""Images as a Preprocess makes them, by torch: what a graph is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelkit.convert.preprocess import Preprocess, numbers

Size = tuple[int, int]  # height and width


def prepared(images: Any, steps: Preprocess) -> Any:
    """Tensors of images of integers as tensors of float32."""
    rows_layout, model_layout = steps.layout.split("->")
    pixels = images.float()
    if rows_layout == "NHWC":
        pixels = pixels.permute(0, 3, 1, 2)
    if steps.size is not None:
        pixels = _resized_by_torch(pixels, steps)
    if steps.crop is not None and steps.target is not None:
        pixels = _centre(pixels, steps.target)
    scaled = pixels * steps.scale
    pixels = (scaled - _column(steps.mean)) / _column(steps.std)
    return pixels.permute(0, 2, 3, 1) if model_layout == "NHWC" else pixels


def _resized_by_torch(pixels: Any, steps: Preprocess) -> Any:
    """Along the width and then along the height, as PIL does it."""
    import torch

    given = (pixels.shape[2], pixels.shape[3])
    height, width = _resized_to(steps, given)
    for size in ((given[0], width), (height, width)):
        pixels = torch.nn.functional.interpolate(
            pixels, size, mode=steps.interpolation, align_corners=False, antialias=steps.antialias
        )
        pixels = pixels.clamp(0, 255)
    return pixels


def _resized_to(steps: Preprocess, given: Size) -> Size:
    """Height and width that an image is resized to."""
    size = steps.size
    if size is None:
        return given
    if not isinstance(size, int):
        return size
    height, width = given
    shorter = min(given)
    return height * size // shorter, width * size // shorter


def _centre(pixels: Any, target: Size) -> Any:
    height, width = target
    top = round((pixels.shape[2] - height) / 2)
    left = round((pixels.shape[3] - width) / 2)
    return pixels[:, :, top : top + height, left : left + width]


def _column(value: float | Sequence[float]) -> Any:
    """One number, or one for each channel."""
    import torch

    return torch.tensor(numbers(value)).reshape(-1, 1, 1)
