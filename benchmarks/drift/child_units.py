"""Evidently's or NannyML's verdicts on units of rows: `child_units.py LIBRARY INPUT.npz OUTPUT.json`.

INPUT has arrays "RUN/reference/COLUMN" and "RUN/live/COLUMN", of which the column "unit" is the
number of each row's unit, in order. OUTPUT has, by column, a score for each run and live unit; from
1 on there is drift.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {
    "DO_NOT_TRACK": "1",
    "NML_DISABLE_USAGE_LOGGING": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

import numpy as np
import pandas as pd

START = pd.Timestamp("2020-01-01")


def of_evidently(reference, live):
    """The preset's tests of each unit against all rows of the reference."""
    from child_evidently import tests

    old = reference.drop(columns="unit")
    found = {}
    for _, rows in live.groupby("unit", sort=True):
        for name, score in tests(rows.drop(columns="unit").reset_index(drop=True), old).items():
            found.setdefault(name, []).append(score)
    return found


def of_nannyml(reference, live):
    """Its default for every column, each unit a chunk, of the reference too."""
    import nannyml
    from child_nannyml import limits

    names = [name for name in reference if name != "unit"]
    frames = [
        frame.assign(at=START + pd.to_timedelta(frame["unit"], unit="D"))
        for frame in (reference, live)
    ]
    calculator = nannyml.UnivariateDriftCalculator(
        column_names=names, timestamp_column_name="at", chunk_period="D"
    ).fit(frames[0])
    frame = calculator.calculate(frames[1]).filter(period="analysis").to_df()
    return {name: limits(frame[name]["jensen_shannon"]) for name in names}


METHODS = {"evidently": of_evidently, "nannyml": of_nannyml}


def scores(method, data):
    """By column, runs of units."""
    runs = {}
    for key, values in data.items():
        run, part, name = key.split("/", 2)
        frames = runs.setdefault(int(run), {"reference": {}, "live": {}})
        frames[part][name] = values
    found = {}
    for run in sorted(runs):
        one = method(*(pd.DataFrame(frame) for frame in runs[run].values()))
        for name, units in one.items():
            found.setdefault(name, []).append(units)
    return found


if __name__ == "__main__":
    library, source, target = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).parent))
    found = scores(METHODS[library], dict(np.load(source)))
    Path(target).write_text(json.dumps({"found": found}), encoding="utf-8")
