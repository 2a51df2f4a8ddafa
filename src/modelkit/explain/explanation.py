"""The answer of an Explainer, as a value: it can be kept, compared, written as JSON and drawn."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit._internal.json import parse_record, to_plain
from modelkit.errors import PackageError, UsageError, importing
from modelkit.report import html
from modelkit.report.sheet import BLUE, RED

EXPLANATION_SCHEMA = "modelkit.explanation/1"
ROUNDING = 1e-12
# How methods come to their values that are not exact; others sample.
HOW = {"contributions": "the model's own", "lime": "fitted", "sampling": ""}
NORMAL_95 = 1.96  # standard errors on either side of a value make a 95 % interval


@dataclass(frozen=True, eq=False)
class Explanation:
    """What each column adds to each output of each row, relative to the mean over the background.

        explanation = mk.Explainer(model).explain(X[:1])
        explanation.top(2)  # such as [("age", 23, 1.9), ("plan", "basic", 0.5)]

    Attributes:
        values: (n, d, k) for n rows, d columns and k outputs. A row's values and its base add up to
            the output in `output_space`; the values of LIME add up to its linear model.
        base_values: (n, k), the mean output over the background.
        data: (n, d), the rows as they were explained.
        feature_names: the d columns, or the words of a text.
        output_names: the k outputs.
        output_space: "raw_score" (before a sigmoid, softmax or exponential), "probability" or "value".
        method: the name of the method.
        exact: whether the values are, up to rounding, the interventional Shapley values over the
            background.
        additivity_gap: (n, k), the distance between the sum of the values and what the model
            served, both as served: after the sigmoid, softmax or exponential.
        std_error: (n, d, k), the standard errors of sampled values; None for other methods.
        fidelity: of LIME alone: `r2` and `local_error` by row and output, `ess` (the effective
            sample size) by row, `samples` and `kernel_width`.
        evaluations: the number of rows that the model ran for this explanation, apart from the
            random rows that prove it.
        seed: of sampling.
        background_id: the sha256 of the background.
        background_rows: the number of its rows.
        model_digest: `Manifest.model_digest` of the package, or None for a model without one.
        warnings: what a reader must know, in full sentences.
        version: the version of the package; over a Rollout, of the Model that was explained. None for a
            model without a package.
    """

    values: Array
    base_values: Array
    data: Array
    feature_names: tuple[str, ...]
    output_names: tuple[str, ...]
    output_space: str
    method: str
    exact: bool
    additivity_gap: Array
    std_error: Array | None
    fidelity: dict[str, Any] | None
    evaluations: int
    seed: int
    background_id: str
    background_rows: int
    model_digest: str | None
    warnings: tuple[str, ...] = ()
    version: str | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        n, d, k = self.values.shape
        shape = f"{n} rows, {d} columns, {k} outputs ({self.output_space})"
        return f"<Explanation of {shape}: {self._how()}>"

    def _how(self) -> str:
        return method_in_words(self.method, exact=self.exact)

    def _place_of(self, output: int | str) -> int:
        """The place of an output. Raises UsageError if there is none of this name or number."""
        count = len(self.output_names)
        if isinstance(output, str):
            if output not in self.output_names:
                other = ""
                if count == 1 and self.output_space == "raw_score":
                    other = (
                        "; a raw score of two classes is explained of one of them, and of the other "
                        "every value has the other sign: make the explanation with "
                        "mk.Explainer(model, positive=...)"
                    )
                raise UsageError(
                    f"unknown output {output!r}; there are {list(self.output_names)}{other}"
                )
            return self.output_names.index(output)
        if not -count <= output < count:
            raise UsageError(f"unknown output {output}; there are {count}")
        return output

    def top(
        self, k: int = 5, *, row: int = 0, output: int | str = -1
    ) -> list[tuple[str, Any, float]]:
        """The k columns of one row that add most, as (name, what the row holds, what it adds).

        Raises UsageError for an unknown row or output, and for a k below 0.
        """
        if k < 0:
            raise UsageError(f"k is at least 0, not {k}")
        if not -len(self) <= row < len(self):
            raise UsageError(f"there are {len(self)} rows and no row {row}")
        values = self.values[row, :, self._place_of(output)]
        order = np.argsort(-np.abs(values), kind="stable")
        found = []
        for i in order[:k]:
            held = _python_value(self.data[row, i])
            found.append((self.feature_names[i], held, float(values[i])))
        return found

    def to_dataframe(self, output: int | str = -1) -> Any:
        """A pandas DataFrame of one output: a row for each explained row.

        It has a column for each feature, after one named `base`.

        Raises:
            UsageError: for an unknown output.
            MissingExtraError: if pandas is not installed.
        """
        with importing("pandas", "Explanation.to_dataframe", "frames"):
            import pandas as pd
        at = self._place_of(output)
        frame = pd.DataFrame(self.values[:, :, at], columns=list(self.feature_names))
        frame.insert(0, "base", self.base_values[:, at])
        return frame

    def to_shap(self, output: int | str | None = None) -> Any:
        """A `shap.Explanation` of one output, or of all, which every plot of shap takes.

        Raises:
            UsageError: for an unknown output.
            MissingExtraError: if shap is not installed.
        """
        with importing("shap", "Explanation.to_shap", "explain-extra"):
            import shap
        several = output is None and len(self.output_names) > 1
        at = slice(None) if several else self._place_of(0 if output is None else output)
        return shap.Explanation(
            self.values[:, :, at],
            self.base_values[:, at],
            self.data,
            feature_names=list(self.feature_names),
            output_names=list(self.output_names) if several else None,
        )

    def to_json(self) -> str:
        """Everything, as one line of JSON to keep where decisions must be explained later."""
        plain = to_plain(fields.write_object(self))
        plain["schema"] = EXPLANATION_SCHEMA
        encoder = json.JSONEncoder(allow_nan=False, ensure_ascii=False, sort_keys=True)
        # In parts: at once, a million numbers would keep every other thread waiting for half a second.
        return "".join(encoder.iterencode(plain))

    @staticmethod
    def from_json(text: str) -> Explanation:
        """The inverse of `to_json`. Raises PackageError for any other text."""
        try:
            plain = parse_record(text, EXPLANATION_SCHEMA)
            return fields.read_object(Explanation, plain | _read_arrays(plain), "explanation")
        except (KeyError, TypeError, ValueError) as error:
            raise PackageError(f"this is not an explanation in JSON: {error}") from error

    def plot(self, *, row: int = 0, output: int | str = -1, most: int = 10, ax: Any = None) -> Any:
        """Draw what the columns of one row add, the largest first; returns the matplotlib Axes.

        Args:
            row: the row to draw.
            output: its output, by name or number.
            most: the number of columns with a bar of their own.
            ax: the Axes to draw on; None for a new figure.

        Raises:
            UsageError: for an unknown row or output.
            MissingExtraError: if matplotlib is not installed.
        """
        at = self._place_of(output)
        bars = self._bars(row, output, most)
        base, total = self._ends(row, at)
        added = f"added to {self._explained(at)}"
        ends = f"base {html.number(base)}, sum {html.number(total)}"
        return draw_bars(bars, self._errors(bars, row, at), (added, ends), ax)

    def _explained(self, output: int) -> str:
        """What is explained: "the probability of churn", for example."""
        name = self.output_names[output]
        return name if self.output_space == "value" else f"the {self.output_space} of {name}"

    def _ends(self, row: int, output: int) -> tuple[float, float]:
        """The base of a row, and its sum with the values; a sum that is only rounding is 0."""
        base = self.base_values[row, output]
        values = self.values[row, :, output]
        total = base + values.sum()
        size = abs(base) + np.abs(values).sum()
        is_rounding = abs(total) <= ROUNDING * size
        return float(base), 0.0 if is_rounding else float(total)

    def _errors(self, bars: list[Bar], row: int, output: int) -> list[float] | None:
        """Half the width of a 95 % interval for each bar of sampled values.

        It is 0 for the bar of the other columns.
        """
        if self.std_error is None:
            return None
        widths = NORMAL_95 * self.std_error[row, :, output]
        known = dict(zip(self.feature_names, widths, strict=True))
        return [float(known.get(name, 0.0)) for name, _, _ in bars]

    def _repr_html_(self) -> str:
        return self.card()

    def card(self, *, row: int = 0, output: int | str = -1, most: int = 10) -> str:
        """HTML of one row: a bar for each column that adds most, red upwards and blue downwards.

        It refers to nothing outside itself.

        Raises UsageError for an unknown row or output.
        """
        at = self._place_of(output)
        title = self._explained(at)
        if len(self) != 1:
            title += f", row {row} of {len(self)}"
        bars = self._bars(row, output, most) if len(self) else []
        return html.bars(title, bars, self._facts(row, at))

    def _facts(self, row: int, output: int) -> list[tuple[str, str]]:
        """What a card says below its bars."""
        facts = []
        if len(self):
            base, total = self._ends(row, output)
            facts.append(("base, sum", f"{html.number(base)}, {html.number(total)}"))
        rows = "1 row" if self.background_rows == 1 else f"{self.background_rows:,} rows"
        if self.version is not None:
            facts.append(("version", self.version))
        facts += [
            ("method", self._how()),
            ("background", f"{rows}, {self.background_id[:12]}"),
            ("additivity gap", f"{np.max(self.additivity_gap, initial=0):.2g}"),
        ]
        if self.fidelity is not None and self.fidelity["r2"]:
            facts.append(("fidelity", _fit_in_words(self.fidelity, row, output)))
        return facts + [("warning", text) for text in self.warnings]

    def _bars(self, row: int, output: int | str, most: int) -> list[Bar]:
        """What the columns that add most hold and add, and what all others add together."""
        bars = []
        shown = 0.0
        for name, held, added in self.top(most, row=row, output=output):
            bars.append((name, html.short(held) or "''", added))
            shown += added
        rest = len(self.feature_names) - len(bars)
        if rest:
            values = self.values[row, :, self._place_of(output)]
            total = float(values.sum())
            name = "1 other column" if rest == 1 else f"{rest} other columns"
            bars.append((name, "", total - shown))
        return bars


def _read_arrays(plain: dict[str, Any]) -> dict[str, Array]:
    """The arrays of an Explanation by name, from the values of its JSON."""
    n = len(plain["values"])
    d = len(plain["feature_names"])
    k = len(plain["output_names"])
    shapes = {
        "values": (n, d, k),
        "base_values": (n, k),
        "data": (n, d),
        "additivity_gap": (n, k),
        "std_error": (n, d, k),
    }
    found = {}
    for name, shape in shapes.items():
        if plain[name] is not None:
            dtype = object if name == "data" else np.float64
            found[name] = np.array(plain[name], dtype).reshape(shape)
    return found


def _fit_in_words(fidelity: dict[str, Any], row: int, output: int) -> str:
    fit = fidelity["r2"][row][output]
    error = fidelity["local_error"][row][output]
    ess = fidelity["ess"][row]
    return f"R2 {fit:.2f}, off by {error:.2g} at the row, {ess:.0f} effective samples"


def method_in_words(method: str, *, exact: bool) -> str:
    """A method, and how it comes to its values where its name does not say so."""
    how = "exact" if exact else HOW.get(method, "sampled")
    return ", ".join(filter(None, (method, how)))


def _python_value(value: Any) -> Any:
    """A value of `data` as a plain object of Python."""
    if isinstance(value, np.generic) and not isinstance(value, str):
        return value.item()
    return value


# Bars, drawn by matplotlib, with room for names of any length.

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
