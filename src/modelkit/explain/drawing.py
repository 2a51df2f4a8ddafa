"""Bars of what columns add, drawn by matplotlib, with room for names of any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelkit.errors import importing
from modelkit.report.sheet import BLUE, RED

LINE = 50  # characters of a line
AXIS_LINE = 60  # of the text below the axis

Bar = tuple[str, str, float]  # the name of a column, what it holds, what it adds


def draw_bars(
    bars: Sequence[Bar], errors: Sequence[float] | None, axis: tuple[str, str], ax: Any
) -> Any:
    """Draw the first bar at the top; returns the Axes.

    Args:
        bars: one for each column.
        errors: half the length of a whisker for each bar, or None for no whiskers.
        axis: what is said below the axis, in two parts.
        ax: the Axes to draw on; None for those of a new figure.
    """
    with importing("matplotlib", "Explanation.plot", "plot"):
        import matplotlib.pyplot as plt
    labels = []
    for name, held, _ in bars:
        label = f"{name} = {held}" if held else name
        labels.append(_fold(label))
    heights = [added for _, _, added in bars]
    if ax is None:
        _, ax = plt.subplots(figsize=_inches(labels), layout="constrained")
    ink = ax.spines["left"].get_edgecolor()  # of the style in force, which may be a dark one
    colors = [RED if height > 0 else BLUE for height in heights]
    ax.barh(range(len(bars)), heights, xerr=errors, color=colors, ecolor=ink)
    _lay_out(ax, labels, ink)
    _write_lengths(ax, heights, errors)
    ax.set_xlabel(_below(*axis), parse_math=False)
    return ax


def _lay_out(ax: Any, labels: Sequence[str], ink: Any) -> None:
    """Name the bars from the top, and draw a line at zero with room on both sides."""
    ax.set_yticks(range(len(labels)), labels, parse_math=False)  # a dollar sign is a dollar sign
    ax.yaxis.set_inverted(True)
    ax.axvline(0, color=ink, linewidth=0.8)
    ax.margins(x=0.18)
    ax.spines[["top", "right"]].set_visible(False)


def _write_lengths(ax: Any, heights: Sequence[float], errors: Sequence[float] | None) -> None:
    """Write at the end of each bar, or of its whisker, how long it is."""
    digits = _digits(heights)
    for place, height in enumerate(heights):
        side = 1 if height >= 0 else -1
        end = height if errors is None else height + side * errors[place]
        ax.annotate(
            f"{height:+.{digits}f}",
            (end, place),
            (4 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=8,
        )


def _digits(heights: Sequence[float]) -> int:
    """Decimals that show three digits of the largest bar."""
    largest = max((abs(height) for height in heights), default=0.0)
    if largest == 0 or not np.isfinite(largest):
        return 2
    before_point = np.floor(np.log10(largest))
    return int(np.clip(2 - before_point, 0, 8))


def _below(what: str, sums: str) -> str:
    """What is said below the axis: on one line where that has room."""
    apart = "; " if len(what) < LINE else "\n"
    return f"{_shortened(what, AXIS_LINE)}{apart}{sums}"


def _shortened(text: str, most: int) -> str:
    """Text of at most `most` characters: the beginning and the end of a longer one."""
    if len(text) <= most:
        return text
    end = most * 2 // 5
    return f"{text[: most - end - 3]}...{text[-end:]}"


def _fold(text: str) -> str:
    """The label of a bar, in two lines where it is long, broken after a word if it has words."""
    text = _shortened(" ".join(text.split()), 2 * LINE)
    if len(text) <= LINE:
        return text
    middle = len(text) // 2
    ends = [i for i in range(middle, LINE) if text[i - 1] in " _-./"]
    at = ends[0] if ends else middle
    return f"{text[:at].rstrip()}\n{text[at:]}"


def _inches(labels: Sequence[str]) -> tuple[float, float]:
    """The size of a figure with room for the labels of its bars."""
    lines = [line for label in labels for line in label.split("\n")]
    longest = max(map(len, lines), default=0)
    bar = 0.36 if len(lines) == len(labels) else 0.44
    width = 7 + 0.08 * max(longest - 28, 0)
    return width, 0.9 + bar * len(labels)
