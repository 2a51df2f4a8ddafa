"""NannyML's verdicts, in an environment of its own: `drift_nannyml.py METHOD INPUT.npz OUTPUT.json`.

INPUT has arrays "reference/COLUMN" and "live/COLUMN" of shape (runs, rows) or (runs, rows, width).
METHOD is "univariate", "cbpe" or "performance", for which the columns are "score", "predicted" and
"y", or "speed". OUTPUT has, by column, a score for each run and chunk of 500 rows; above 1, NannyML
alerts.
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

os.environ |= {
    "NML_DISABLE_USAGE_LOGGING": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

import nannyml
import numpy as np
import pandas as pd

CHUNK = 500
LABELS = {
    "problem_type": "classification_binary",
    "y_pred_proba": "score",
    "y_pred": "predicted",
    "y_true": "y",
    "metrics": ["accuracy"],
    "chunk_size": CHUNK,
}


def distance(value, lower, upper):
    """How far the value is from the middle of the limits, in units of where the limits are; above 1 is an alert."""
    if pd.isna(lower).all():
        return value / upper
    middle = (lower + upper) / 2
    return (value - middle).abs() / (upper - middle)


def univariate(reference, live):
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(reference), chunk_size=CHUNK
    ).fit(reference)
    frame = calculator.calculate(live).filter(period="analysis").to_df()
    return {name: limits(frame[name]["jensen_shannon"]) for name in reference}


def labelled(calculator, reference, live):
    fitted = calculator(**LABELS).fit(reference)
    method = fitted.estimate if calculator is nannyml.CBPE else fitted.calculate
    return {"accuracy": limits(method(live).filter(period="analysis").to_df()["accuracy"])}


def limits(frame):
    columns = (
        frame[name].astype(float) for name in ("value", "lower_threshold", "upper_threshold")
    )
    return distance(*columns).tolist()


METHODS = {
    "univariate": univariate,
    "cbpe": partial(labelled, nannyml.CBPE),
    "performance": partial(labelled, nannyml.PerformanceCalculator),
}


def scores(method, data):
    """By column, runs of chunks."""
    found = {}
    for run in range(len(next(iter(data.values())))):
        frames = {"reference": {}, "live": {}}
        for key, values in data.items():
            part, _, name = key.partition("/")
            frames[part][name] = values[run]
        one = METHODS[method](*(pd.DataFrame(frame) for frame in frames.values()))
        for name, values in one.items():
            found.setdefault(name, []).append(values)
    return found


def speed(data):
    """Seconds to fit and to calculate over all rows in one chunk each, medians of five."""
    reference, live = (
        pd.DataFrame({f"x{i}": values[0, :, i] for i in range(values.shape[2])})
        for values in (data["reference/x"], data["live/x"])
    )
    times = {"fit": [], "batch": []}
    for _ in range(5):
        start = time.perf_counter()
        calculator = nannyml.UnivariateDriftCalculator(
            column_names=list(reference), chunk_number=10
        ).fit(reference)
        times["fit"].append(time.perf_counter() - start)
        start = time.perf_counter()
        calculator.calculate(live)
        times["batch"].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


if __name__ == "__main__":
    method, source, target = sys.argv[1:]
    arrays = dict(np.load(source))
    found = speed(arrays) if method == "speed" else scores(method, arrays)
    Path(target).write_text(
        json.dumps({"version": nannyml.__version__, "found": found}), encoding="utf-8"
    )
