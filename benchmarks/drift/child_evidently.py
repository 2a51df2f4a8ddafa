"""Evidently's verdicts, in an environment of its own: `drift_evidently.py METHOD INPUT.npz OUTPUT.json`.

INPUT has arrays "reference/COLUMN" and "live/COLUMN" of shape (runs, rows) or (runs, rows, width).
METHOD is "preset", "speed", or the name of an embedding method. OUTPUT has, by column, a score for
each run and batch of 500 rows; from 1 on, Evidently says that there is drift.
"""

import json
import os
import sys
import time
from functools import partial
from math import log
from pathlib import Path

os.environ |= {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import evidently
import numpy as np
import pandas as pd
from evidently import Dataset, Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.metrics import EmbeddingsDriftMetric
from evidently.legacy.metrics.data_drift.embedding_drift_methods import mmd
from evidently.legacy.pipeline.column_mapping import ColumnMapping
from evidently.legacy.report import Report as OldReport
from evidently.presets import DataDriftPreset

BATCH = 500
EMBEDDINGS = {
    "model": lambda: None,  # the default
    "mmd": mmd,
    "mmd, bootstrap": partial(mmd, bootstrap=True),
}


def preset(live, reference):
    """Scores of one batch by column, and the share of columns under "dataset"."""
    scores = {}
    for metric in Report([DataDriftPreset()]).run(live, reference).dict()["metrics"]:
        config, value = metric["config"], metric["value"]
        if "column" in config:
            scores[config["column"]] = score(
                value, config["threshold"], "p_value" in config["method"]
            )
        else:
            scores["dataset"] = float(value["share"]) / config["drift_share"]
    return scores


def score(value, threshold, is_p):
    return log(max(value, 1e-300)) / log(threshold) if is_p else float(value) / threshold


def tests(live, reference):
    """The same from the tests that the preset picks, without its plots, which take nearly all of its time."""
    scores, data = {}, Dataset.from_pandas(live)
    for name in live:
        old, new = (
            frame[name].replace([-np.inf, np.inf], np.nan).dropna() for frame in (reference, live)
        )
        kind = data.column(name).type
        test = get_stattest(old, new, kind, None)
        found = test(old, new, kind, None)
        scores[name] = score(
            found.drift_score, found.actual_threshold, "p_value" in test.display_name
        )
    return scores | {"dataset": 2 * float(np.mean([value >= 1 for value in scores.values()]))}


def embedding(method, live, reference):
    """1 or 0, as the method has no score that goes with its threshold."""
    names = [f"e{i}" for i in range(live.shape[1])]
    report = OldReport([EmbeddingsDriftMetric("x", drift_method=EMBEDDINGS[method]())])
    report.run(
        reference_data=pd.DataFrame(reference, columns=names),
        current_data=pd.DataFrame(live, columns=names),
        column_mapping=ColumnMapping(embeddings={"x": names}),
    )
    return float(report.as_dict()["metrics"][0]["result"]["drift_detected"])


def scores(method, data):
    """By column, runs of batches."""
    if method in EMBEDDINGS:
        pairs = zip(data["reference/x"], data["live/x"], strict=True)
        return {
            "x": [[embedding(method, batch, old) for batch in batches(live)] for old, live in pairs]
        }
    found = {}
    for run in range(len(next(iter(data.values())))):
        frames = {"reference": {}, "live": {}}
        for key, values in data.items():
            part, _, name = key.partition("/")
            frames[part][name] = values[run]
        reference, live = (pd.DataFrame(frame) for frame in frames.values())
        one = [tests(batch, reference) for batch in batches(live)]
        if not run:
            check(one[0], preset(batches(live)[0], reference))
        for name in one[0]:
            found.setdefault(name, []).append([batch[name] for batch in one])
    return found


def check(mine, theirs):
    if mine.keys() != theirs.keys() or not np.allclose(
        [mine[name] for name in theirs], [*theirs.values()], rtol=1e-6
    ):
        raise RuntimeError(f"the preset says {theirs}, its tests say {mine}")


def batches(rows):
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


def speed(data):
    """Seconds of one preset over all rows, medians of five, and the bytes of its page."""
    reference, live = (
        pd.DataFrame({f"x{i}": values[0, :, i] for i in range(values.shape[2])})
        for values in (data["reference/x"], data["live/x"])
    )
    times = []
    for _ in range(5):
        start = time.perf_counter()
        report = Report([DataDriftPreset()]).run(live, reference)
        report.dict()
        times.append(time.perf_counter() - start)
    return {"batch": float(np.median(times)), "report": len(report.get_html_str(as_iframe=False))}


if __name__ == "__main__":
    method, source, target = sys.argv[1:]
    arrays = dict(np.load(source))
    found = speed(arrays) if method == "speed" else scores(method, arrays)
    Path(target).write_text(
        json.dumps({"version": evidently.__version__, "found": found}), encoding="utf-8"
    )
