"""How images become what a network was trained on, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from modelkit._internal.fields import freeze
from modelkit.errors import UsageError

LAYOUTS = ("NHWC->NCHW", "NCHW->NCHW", "NHWC->NHWC", "NCHW->NHWC")
FILTERS = ("bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocess:
    """What is done to images of integers from 0 to 255 before a network, as part of its graph.

        mk.Preprocess(size=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

    In this order: resize, crop the centre, then `(pixels * scale - mean) / std` in float32. Resized
    pixels are not rounded.

    Attributes:
        size: (height, width) to resize to, whatever the shape of the image; one number for the
            shorter side, so the image keeps its shape; None to leave sizes as they are.
        crop: (height, width) of the centre to keep, or one number for both; it needs a `size` of
            one number, which is at least as large.
        scale: what pixels are multiplied by.
        mean, std: one number, or one for each channel.
        layout: how the rows are laid out, and how the network wants them: N is the rows, C the
            channels.
        interpolation: "bilinear" or "bicubic", with half-pixel centres, along the width and then
            along the height, as `torch.nn.functional.interpolate(align_corners=False)` and PIL do
            it; what a cubic makes of less than 0 or more than 255 is cut off after each.
        antialias: whether a smaller image takes the mean of what it leaves out, as PIL does, and
            torchvision by default; OpenCV does not.

    Raises UsageError for what fits none of these.
    """

    size: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0
    layout: str = "NHWC->NCHW"
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UsageError(f"layout is one of {', '.join(LAYOUTS)}, not {self.layout!r}")
        if self.interpolation not in FILTERS:
            raise UsageError(
                f"interpolation is one of {', '.join(FILTERS)}, not {self.interpolation!r}"
            )
        if self.interpolation == "bicubic" and not self.antialias:
            raise UsageError("bicubic is antialiased here; pass antialias=True, or bilinear")
        _check_sides("size", self.size)
        _check_sides("crop", self.crop)
        if self.crop is not None and not isinstance(self.size, int):
            raise UsageError(
                "crop= needs size= as one number, to which the shorter side is resized"
            )
        if self.crop is not None and max(sides(self.crop)) > min(sides(self.size or 0)):
            raise UsageError(f"crop={self.crop} is more than size={self.size} leaves")
        for name in ("scale", "mean", "std"):
            _check_numbers(name, getattr(self, name))
        if not min(numbers(self.std)) > 0:
            raise UsageError(f"std is above 0, not {self.std}")
        sequences = ("size", "crop", "mean", "std")
        freeze(self, *[name for name in sequences if not isinstance(getattr(self, name), Real)])

    @property
    def target(self) -> tuple[int, int] | None:
        """The height and the width that every image gets; None where they depend on the image."""
        if self.crop is not None:
            return sides(self.crop)
        if self.size is None or isinstance(self.size, int):
            return None
        return sides(self.size)


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width, of one number for both too."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def numbers(value: float | Sequence[float]) -> list[float]:
    """One number, or one for each channel, as a list."""
    if isinstance(value, int | float | Real):
        return [float(value)]
    return [float(one) for one in value]


def _check_numbers(name: str, value: Any) -> None:
    """Raise UsageError for anything but a number, or numbers of the channels."""
    many = name != "scale" and hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0
    known = value if many else (value,)
    if not len(known) or not all(isinstance(one, Real) for one in known):
        channels = "" if name == "scale" else ", or one for each channel"
        raise UsageError(f"{name} is a number{channels}, not {value!r:.60}")


def _check_sides(name: str, size: Any) -> None:
    if size is None:
        return
    known = size if isinstance(size, tuple | list) else (size, size)
    sound = all(isinstance(side, int) and side > 0 for side in known)
    if len(known) != 2 or not sound:
        raise UsageError(f"{name} is (height, width), or one number; not {size!r:.60}")
