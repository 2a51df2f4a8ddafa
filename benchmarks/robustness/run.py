"""What a report of robustness costs, and what its attack finds beside HopSkipJump by ART within the same budget."""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from art.attacks.evasion import HopSkipJump
from art.estimators.classification import BlackBoxClassifier
from benchmarks.common.measure import command, judge, table
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk
from modelkit.lifecycle.robustness.trial import greedy

LIBRARIES = ("numpy", "scikit-learn", "adversarial-robustness-toolbox")
RECIPE = Path(__file__).parents[2] / "docs" / "recipes" / "hopskipjump.py"
KINDS = {
    "linear": make_pipeline(StandardScaler(), LogisticRegression()),
    "random forest, 100 trees": RandomForestClassifier(100, random_state=0),
    "boosting": HistGradientBoostingClassifier(random_state=0),
}
ROWS = 500
STEP = 0.5
ALONE = {  # settings of ART alone: norm, rounds, whether clipped to the box
    "default": (2, 50, False),
    "norm inf, 10 rounds, in the box": (np.inf, 10, True),
    "norm inf, 50 rounds, in the box": (np.inf, 50, True),
}


def data():
    X, y = make_classification(
        2 * ROWS, 10, n_informative=6, class_sep=0.8, flip_y=0.03, random_state=3
    )
    return pd.DataFrame(X, columns=[f"x{at}" for at in range(10)]), y


def models():
    X, y = data()
    for name, estimator in KINDS.items():
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.mk"
            mk.save(estimator.fit(X[:ROWS], y[:ROWS]), path, example=X[:ROWS])
            with mk.load(path) as model:
                yield name, model, X[ROWS:].reset_index(drop=True), y[ROWS:]


def report_cost(_: object) -> str:
    """A report with the defaults, of 500 rows of ten numbers"""
    rows = []
    for name, model, X, y in models():
        start = time.perf_counter()
        report = mk.robustness(model, X, y)
        took = time.perf_counter() - start
        asked = sum(figure.queries for figure in report.figures)
        rows.append([name, f"{took:.2f}", f"{asked:,}", *judge(took, "at most", 60)])
    return table("model | seconds | rows asked | target | reached", rows)


def attacks(args: object) -> str:
    """Share of rows flipped by half a spread, within three columns and within all"""
    rows = []
    for name, model, held, truth in models():
        right = np.flatnonzero(model.predict(held) == truth)[: args.rows]
        X, y = held.iloc[right].reset_index(drop=True), truth[right]
        for title, attack in (("greedy", greedy), ("HopSkipJump, the recipe", recipe)):
            shares, took, asked = [], 0.0, 0
            for most in (3, 10):
                limits = mk.Constraints(STEP, most_columns=most)
                start = time.perf_counter()
                figure = mk.robustness(model, X, y, constraints=limits, attacks=[attack])
                took += time.perf_counter() - start
                figure = figure[attack.__name__]
                asked += figure.queries
                shares.append(figure.share)
            rows.append([name, title, *_cells(shares, took / 2, asked / 2, len(X))])
        for title, setting in ALONE.items():
            rows.append([name, f"ART alone, {title}", *alone(model, X, y, *setting)])
    header = "model | attack | 3 columns | 10 columns | seconds | rows asked for each"
    return f"{args.rows} rows.\n\n{table(header, rows)}"


def _cells(shares, took, asked, n):
    return [*(f"{share:.1%}" for share in shares), f"{took:.2f}", f"{asked / n:,.0f}"]


def recipe(trial, places, seed):
    """HopSkipJump by ART, behind the constraints."""
    return runpy.run_path(str(RECIPE))["hopskipjump"](trial, places, seed)


def alone(model, X, y, norm, rounds, boxed):
    """ART on the model itself; the shares that keep the budget, the time and the rows asked."""
    spread = np.abs(X - X.median()).mean().to_numpy()
    least, most = X.min().to_numpy(), X.max().to_numpy()
    np.random.seed(0)  # noqa: NPY002 - ART draws from numpy's global state
    asked, kept = 0, [0, 0]
    start = time.perf_counter()
    for row, truth in zip(X.to_numpy(), y, strict=True):

        def predict(z, row=row):
            nonlocal asked
            asked += len(z)
            frame = pd.DataFrame(row + np.asarray(z, float) * spread, columns=X.columns)
            return model.predict_proba(frame).astype(np.float32)

        low, high = (least - row) / spread, (most - row) / spread
        if boxed:
            low, high = np.maximum(low, -STEP), np.minimum(high, STEP)
        ends = (low.astype(np.float32), high.astype(np.float32))
        classifier = BlackBoxClassifier(predict, (len(row),), 2, clip_values=ends)
        attack = HopSkipJump(classifier, norm=norm, max_iter=rounds, verbose=False)
        found = attack.generate(np.zeros((1, len(row)), np.float32))
        flipped = predict(found).argmax() != truth and np.abs(found).max() <= STEP * (1 + 1e-6)
        kept[1] += flipped
        kept[0] += flipped and np.count_nonzero(found) <= 3
    took = time.perf_counter() - start
    return _cells([count / len(X) for count in kept], took, asked, len(X))


SECTIONS = {"report": report_cost, "attacks": attacks}


if __name__ == "__main__":
    command(__doc__, SECTIONS, LIBRARIES, "robustness", rows=100)
