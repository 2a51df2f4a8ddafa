"""Log an Evaluation and a Verdict to MLflow: figures as metrics, the records as artifacts."""

import mlflow

import modelkit as mk


def log_evaluation(evaluation: mk.Evaluation) -> None:
    """The figures of an Evaluation, with their intervals, to the run that is active."""
    for figure in evaluation.figures:
        mlflow.log_metric(figure.name, figure.value)
        mlflow.log_metric(f"{figure.name}_low", figure.low)
        mlflow.log_metric(f"{figure.name}_high", figure.high)
    mlflow.set_tag("modelkit.model_digest", evaluation.model_digest)
    mlflow.log_text(evaluation.to_json(), "modelkit/evaluation.json")


def log_verdict(verdict: mk.Verdict) -> None:
    """The decision of a gate, and every check that has an estimate, to the run that is active."""
    mlflow.set_tag("modelkit.decision", verdict.decision)
    mlflow.set_tag("modelkit.champion", verdict.champion)
    for number, check in enumerate(verdict.checks, 1):
        if check.estimate is not None:
            mlflow.log_metric(f"gate_{number:02d}", check.estimate)
    mlflow.log_text(verdict.to_json(), "modelkit/verdict.json")
    mlflow.log_text(verdict.to_html(), "modelkit/verdict.html")
