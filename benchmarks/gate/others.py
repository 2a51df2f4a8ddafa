"""What the rules of others say of equal candidates; run by an interpreter that has them, with a path.

MLflow compares the metrics of two evaluations by thresholds, of which the least change has to be
above 0. skore shows the metrics of two reports beside each other, and says nothing of chance, so
what is counted is which one its frame shows to be higher.
"""

from __future__ import annotations

import json
import sys

import numpy as np


def by_mlflow(a, b, y, change: float) -> float:
    """How often the candidate passes a threshold of at least so much more accuracy."""
    from mlflow import validate_evaluation_results
    from mlflow.models import MetricThreshold
    from mlflow.models.evaluation import EvaluationResult
    from mlflow.models.evaluation.validation import ModelValidationFailedException

    threshold = {
        "accuracy_score": MetricThreshold(min_absolute_change=change, greater_is_better=True)
    }
    passed = []
    for champion, candidate, truth in zip(a, b, y, strict=True):
        results = []
        for odds in (candidate, champion):
            metrics = {"accuracy_score": float(np.mean((odds > 0) == truth))}
            results.append(EvaluationResult(metrics=metrics, artifacts={}))
        try:
            validate_evaluation_results(threshold, results[0], results[1])
        except ModelValidationFailedException:
            passed.append(False)
        else:
            passed.append(True)
    return float(np.mean(passed))


def by_skore(a, b, y) -> float:
    """How often the comparison of two reports shows the candidate higher."""
    from sklearn.linear_model import LogisticRegression
    from skore import ComparisonReport, EstimatorReport

    higher = []
    for champion, candidate, truth in zip(a[:40], b[:40], y[:40], strict=True):
        X = np.column_stack([champion, candidate])
        reports = {}
        for name, at in (("champion", 0), ("candidate", 1)):
            model = LogisticRegression().fit(np.eye(2), np.array([0, 1]))
            model.coef_ = np.eye(2)[[at]]
            model.intercept_ = np.zeros(1)
            reports[name] = EstimatorReport(model, X_test=X, y_test=truth)
        report = ComparisonReport(reports)
        shown = report.metrics.accuracy()
        told = {}
        for name in reports:
            (column,) = [column for column in shown.columns if name in str(column)]
            told[name] = float(shown[column].iloc[0])
        higher.append(told["candidate"] > told["champion"])
    return float(np.mean(higher))


if __name__ == "__main__":
    held = np.load(sys.argv[1])
    worlds = (held["a"], held["b"], held["y"])
    found = {
        "MLflow, any gain (min_absolute_change=1e-9)": by_mlflow(*worlds, 1e-9),
        "MLflow, a gain of a point (min_absolute_change=.01)": by_mlflow(*worlds, 0.01),
        "skore, the higher of two reports, 40 runs": by_skore(*worlds),
    }
    print(json.dumps(found))
