"""An Evaluation and a Verdict in a run of MLflow: numbers as metrics, the whole as artifacts."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from modelkit.errors import UsageError, importing
from modelkit.lifecycle.evaluation.evaluation import Evaluation
from modelkit.lifecycle.gate.verdict import Verdict

# What the name of a metric cannot have, and an underscore that would read as the code of one.
UNKNOWN = re.compile(r"[^\w.\- ]|_(?=[0-9a-f]+_)")
LONGEST = 240  # characters: MLflow takes 250, "gate/" among them


def log_evaluation(evaluation: Evaluation, *, model_id: str | None = None) -> None:
    """Log an Evaluation to the run of MLflow that is under way, or a new one.

    Each figure becomes a metric of its name; the ends of its interval are those that end with
    "_low" and "_high". The artifacts `evaluation.json` and `evaluation.html` are the whole, slices
    and curves included; they hold no row.

    Args:
        evaluation: what `mk.evaluate` gave.
        model_id: of the logged model that was evaluated, as `log_model(...).model_id` says it.

    Raises:
        TypeError: for anything but an Evaluation.
        UsageError: if MLflow has no logged model of this id.
        MissingExtraError: if MLflow is not installed.
    """
    _check_kind(evaluation, Evaluation)
    metrics: dict[str, float | None] = {}
    for figure in evaluation.figures:
        metrics |= {
            figure.name: figure.value,
            f"{figure.name}_low": figure.low,
            f"{figure.name}_high": figure.high,
        }
    tags = {
        "model_digest": evaluation.model_digest,
        "data_digest": evaluation.data_digest,
        "positive": evaluation.positive,
    }
    _log("evaluation", evaluation, metrics, tags, model_id)


def log_verdict(verdict: Verdict, *, model_id: str | None = None) -> None:
    """Log a Verdict to the run of MLflow that is under way, or a new one.

    The decision is the tag "modelkit.verdict.decision". Each estimate becomes a metric "gate/NAME",
    where NAME is that of the check: the code of a character stands for one that MLflow does not
    have there, and a digest for the end of what is too long. The artifacts `verdict.json` and
    `verdict.html` are the whole.

    Args:
        verdict: what `mk.gate` gave.
        model_id: of the logged model that was the candidate.

    Raises:
        TypeError: for anything but a Verdict.
        UsageError: if MLflow has no logged model of this id.
        MissingExtraError: if MLflow is not installed.
    """
    _check_kind(verdict, Verdict)
    metrics = {f"gate/{_named(check.name)}": check.estimate for check in verdict.checks}
    tags = {
        "decision": verdict.decision,
        "candidate": verdict.candidate,
        "candidate_digest": verdict.candidate_digest,
        "champion": verdict.champion,
        "champion_digest": verdict.champion_digest,
        "data_digest": verdict.data_digest,
        "positive": verdict.positive,
    }
    _log("verdict", verdict, metrics, tags, model_id)


def _log(
    kind: str,
    record: Evaluation | Verdict,
    metrics: dict[str, float | None],
    tags: dict[str, str],
    model_id: str | None,
) -> None:
    with importing("mlflow", "modelkit.integrations.mlflow"):
        import mlflow
    _check_model(model_id)
    figures: dict[str, Any] = {name: value for name, value in metrics.items() if value is not None}
    mlflow.log_metrics(figures, model_id=model_id)
    mlflow.log_text(record.to_json(), f"{kind}.json")
    mlflow.log_text(record.to_html(), f"{kind}.html")
    mlflow.set_tags({f"modelkit.{kind}.{name}": value for name, value in tags.items() if value})


def _check_kind(record: object, kind: type) -> None:
    """Raise TypeError for what another function logs, or none."""
    if not isinstance(record, kind):
        raise TypeError(
            f"log_{kind.__name__.lower()} takes values of the class {kind.__name__}, not "
            f"{type(record).__name__}; log_evaluation takes what mk.evaluate gives, log_verdict "
            "what mk.gate gives"
        )


def _check_model(model_id: str | None) -> None:
    """Raise UsageError for an id that no logged model has; MLflow would fail halfway, in SQL."""
    import mlflow

    if model_id is None:
        return
    try:
        mlflow.get_logged_model(model_id)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UsageError(
            f"MLflow has no logged model {model_id!r} at {mlflow.get_tracking_uri()}; pass what "
            "log_model(...).model_id says"
        ) from error


def _named(name: str) -> str:
    """The name of a check as that of a metric may be, another one for each."""
    coded = UNKNOWN.sub(lambda found: f"_{ord(found[0]):x}_", name)
    if len(coded) <= LONGEST:
        return coded
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{coded[: LONGEST - len(digest) - 1]} {digest}"
