"""Bars of what columns add, drawn by matplotlib, with room for names of any length."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from modelkit.errors import importing
from modelkit.report.sheet import BLUE, RED

LINE = 50  # characters

Bar = tuple[str, str, float]  # the name of a column, what it holds, what it adds


def draw_bars(
    bars: Sequence[Bar], errors: Sequence[float] | None, axis: tuple[str, str], ax: Any
) -> Any:
    """Draw the first bar at the top; returns the Axes.

    Args:
        bars: one for each column.
        errors: half the length of a whisker for each bar, or None for no whiskers.
        axis: what is said below the axis, in two parts.
        ax: the Axes to draw on; None to draw on a new figure.
    """
    with importing("matplotlib", "Explanation.plot", "plot"):
        import matplotlib.pyplot as plt
    labels = [_lines(f"{name} = {held}" if held else name, 2) for name, held, _ in bars]
    if ax is None:
        _, ax = plt.subplots(figsize=(9, 1 + 0.4 * len(bars)), layout="constrained")
    ink = ax.spines["left"].get_edgecolor()  # of the style in force, which may be a dark one
    heights = [added for _, _, added in bars]
    colors = [RED if height > 0 else BLUE for height in heights]
    drawn = ax.barh(range(len(bars)), heights, xerr=errors, color=colors, ecolor=ink)
    ax.bar_label(drawn, fmt=_added, padding=4, fontsize=8)
    ax.set_yticks(range(len(labels)), labels, parse_math=False)  # a dollar sign is a dollar sign
    ax.yaxis.set_inverted(True)
    ax.axvline(0, color=ink, linewidth=0.8)
    ax.margins(x=0.18)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("\n".join(_lines(each, 1) for each in axis), parse_math=False)
    return ax


def _added(value: float) -> str:
    return f"{value:+,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:+.3g}"


def _lines(text: str, most: int) -> str:
    """Text in a few lines: the beginning and the end of a longer one."""
    half = most * LINE // 2 - 2
    text = text if len(text) <= most * LINE - 4 else f"{text[:half]}...{text[-half:]}"
    return textwrap.fill(text, LINE)
