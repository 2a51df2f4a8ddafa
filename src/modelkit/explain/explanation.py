"""The answer of an Explainer, as a value: it can be kept, compared, written as JSON and drawn."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from modelkit import html, record
from modelkit.cast import Array
from modelkit.errors import ExplainError, importing
from modelkit.explain import drawing

SCHEMA = "modelkit.explanation/1"
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Explanation:
    """What each column adds to each output of each row, relative to the mean over the background.

    `values` is always (n, d, k) for n rows, d columns and k outputs, and `base_values` (n, k): a
    row's values and its base add up to the output in `output_space`, which is "margin" (before a
    sigmoid, softmax or exponential), "probability" or "value"; those of LIME add up to its
    surrogate. `data` is (n, d), the rows as they were explained.

    `exact` says whether the values are those of the definition (interventional Shapley values over
    the background) up to rounding; sampled ones have `std_error`, (n, d, k), else None.
    `additivity_gap` is (n, k), the distance between what the values add up to and what the model
    served, both as served: after the sigmoid, softmax or exponential. `fidelity`, of LIME alone,
    has `r2` and `local_error` by row and output, `ess` (the effective sample size) by row,
    `samples` and `kernel_width`. `evaluations` counts the rows the model ran for this explanation.
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

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        n, d, k = self.values.shape
        how = kind_of(self.method, exact=self.exact)
        return f"<Explanation of {n} rows, {d} columns, {k} outputs ({self.output_space}): {self.method}, {how}>"

    def _at(self, output: int | str) -> int:
        if isinstance(output, str):
            if output not in self.output_names:
                raise ExplainError(
                    f"there is no output {output!r}; there are {list(self.output_names)}"
                )
            return self.output_names.index(output)
        if not -len(self.output_names) <= output < len(self.output_names):
            raise ExplainError(f"there is no output {output}; there are {len(self.output_names)}")
        return output

    def top(
        self, k: int = 5, *, row: int = 0, output: int | str = -1
    ) -> list[tuple[str, Any, float]]:
        """The k columns of one row that add most, in size: (name, what the row holds, what it adds).

        Raises ExplainError for a row or an output that there is not, and for a k below 0.
        """
        if not -len(self) <= row < len(self) or k < 0:
            raise ExplainError(
                f"there are {len(self)} rows and no row {row}"
                if k >= 0
                else f"k is at least 0, not {k}"
            )
        values = self.values[row, :, self._at(output)]
        order = np.argsort(-np.abs(values), kind="stable")[:k]
        return [(self.feature_names[i], _plain(self.data[row, i]), float(values[i])) for i in order]

    def to_dataframe(self, output: int | str = -1) -> Any:
        """A pandas frame of one output: a row for each explained row, a column for each feature, and `base`."""
        with importing("pandas", "Explanation.to_dataframe", "frames"):
            import pandas as pd
        at = self._at(output)
        frame = pd.DataFrame(self.values[:, :, at], columns=list(self.feature_names))
        frame.insert(0, "base", self.base_values[:, at])
        return frame

    def to_shap(self, output: int | str | None = None) -> Any:
        """A `shap.Explanation`, which every plot of shap takes; of one output, or of all where there are several."""
        with importing("shap", "Explanation.to_shap", "explain-extra"):
            import shap
        names = list(self.feature_names)
        if output is None and len(self.output_names) > 1:
            return shap.Explanation(
                self.values,
                self.base_values,
                self.data,
                feature_names=names,
                output_names=list(self.output_names),
            )
        at = self._at(0 if output is None else output)
        return shap.Explanation(
            self.values[:, :, at], self.base_values[:, at], self.data, feature_names=names
        )

    def to_json(self) -> str:
        """Everything, as one line of JSON: the record to keep where decisions must be explained later."""
        plain = {f.name: record.plain(getattr(self, f.name)) for f in fields(self)}
        return json.dumps(
            {"schema": SCHEMA} | plain, allow_nan=False, ensure_ascii=False, sort_keys=True
        )

    @staticmethod
    def from_json(text: str) -> Explanation:
        """The inverse of `to_json`. Raises ExplainError for text that is no such record."""
        try:
            plain = json.loads(text)
            if plain.pop("schema") != SCHEMA:
                raise ExplainError(f"this is no record of {SCHEMA}")
            n, d, k = len(plain["values"]), len(plain["feature_names"]), len(plain["output_names"])
            shapes = {
                "values": (n, d, k),
                "base_values": (n, k),
                "additivity_gap": (n, k),
                "std_error": (n, d, k),
            }
            for name, shape in shapes.items():
                if plain[name] is not None:
                    plain[name] = np.array(record.back(plain[name]), np.float64).reshape(shape)
            data = np.empty((n, d), object)
            data[:] = np.array(record.back(plain["data"]), object).reshape(n, d)
            plain["data"] = data
            for name in ("feature_names", "output_names", "warnings"):
                plain[name] = tuple(plain[name])
            return Explanation(**plain)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExplainError(f"this is no explanation in JSON: {error}") from error

    def plot(self, *, row: int = 0, output: int | str = -1, most: int = 10, ax: Any = None) -> Any:
        """Draw what the columns of one row add, the largest first; returns the matplotlib Axes."""
        at = self._at(output)
        bars = self._bars(row, output, most)
        base, total = self._ends(row, at)
        axis = f"added to {self._what(at)}", f"base {html.number(base)}, sum {html.number(total)}"
        return drawing.draw(bars, self._errors(bars, row, at), axis, ax)

    def _what(self, output: int) -> str:
        """What is explained: "the probability of churn", say."""
        name = self.output_names[output]
        return name if self.output_space == "value" else f"the {self.output_space} of {name}"

    def _ends(self, row: int, output: int) -> tuple[float, float]:
        """The base of a row, and its sum with the values; a sum that is nothing but rounding is 0."""
        base, values = self.base_values[row, output], self.values[row, :, output]
        total = base + values.sum()
        rounding = ROUNDING * (abs(base) + np.abs(values).sum())
        return float(base), float(total) if abs(total) > rounding else 0.0

    def _errors(
        self, bars: list[tuple[str, str, float]], row: int, output: int
    ) -> list[float] | None:
        """Half the width of a 95 % interval for each bar of sampled values, 0 for that of the other columns."""
        if self.std_error is None:
            return None
        known = dict(zip(self.feature_names, 1.96 * self.std_error[row, :, output], strict=True))
        return [float(known.get(name, 0.0)) for name, _, _ in bars]

    def _repr_html_(self) -> str:
        return self.card()

    def card(self, *, row: int = 0, output: int | str = -1, most: int = 10) -> str:
        """HTML of one row: a bar for each of the columns that add most, red upwards and blue downwards.

        It refers to nothing outside itself.
        """
        at = self._at(output)
        facts = []
        bars = self._bars(row, output, most) if len(self) else []
        if len(self):
            base, total = self._ends(row, at)
            facts.append(("base, sum", f"{html.number(base)}, {html.number(total)}"))
        where = f", row {row} of {len(self)}" if len(self) != 1 else ""
        rows = "1 row" if self.background_rows == 1 else f"{self.background_rows:,} rows"
        return html.bars(
            f"{self._what(at)}{where}",
            bars,
            [
                *facts,
                ("method", f"{self.method}, {kind_of(self.method, exact=self.exact)}"),
                ("background", f"{rows}, {self.background_id[:12]}"),
                ("additivity gap", f"{np.max(self.additivity_gap, initial=0):.2g}"),
                *_fidelity(self.fidelity, row, at),
                *(("warning", text) for text in self.warnings),
            ],
        )

    def _bars(self, row: int, output: int | str, most: int) -> list[tuple[str, str, float]]:
        """What the columns that add most hold and add, and what all others add together."""
        bars = [
            (name, html.short(held) or "''", added)
            for name, held, added in self.top(most, row=row, output=output)
        ]
        rest = len(self.feature_names) - len(bars)
        if rest:
            others = float(self.values[row, :, self._at(output)].sum()) - sum(
                added for _, _, added in bars
            )
            bars.append((f"{rest} other column{'s' if rest > 1 else ''}", "", others))
        return bars


def _fidelity(found: dict[str, Any] | None, row: int, output: int) -> list[tuple[str, str]]:
    if found is None or not found["r2"]:
        return []
    fit, error = found["r2"][row][output], found["local_error"][row][output]
    return [
        (
            "fidelity",
            (
                f"R2 {fit:.2f}, off by {error:.2g} at the row, {found['ess'][row]:.0f} effective "
                "samples"
            ),
        )
    ]


def kind_of(method: str, *, exact: bool) -> str:
    """How a method comes to its values, in a word."""
    if method == "contributions":
        return "the model's own"
    return "exact" if exact else "fitted" if method == "lime" else "sampled"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return value.item() if isinstance(value, np.generic) else value
