"""What scikit-learn asks of an estimator: its score and its tags."""

from __future__ import annotations

from typing import Any

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.signature.signature import Signature

# What a model has where its signature allows it.
OPTIONAL = ("classes_", "decision_function", "score")


def tags(signature: Signature) -> Any:
    """scikit-learn's `Tags` of a fitted classifier, regressor, outlier detector or transformer."""
    from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

    columns = [column for spec in signature.inputs for column in spec.columns]
    made = Tags(
        estimator_type=None,
        target_tags=TargetTags(required=False),
        input_tags=InputTags(
            allow_nan=any(column.nullable for column in columns),
            string=any(spec.dtype == "string" for spec in signature.inputs),
        ),
    )
    if signature.primary == "prediction":
        made.estimator_type = "regressor"
        made.regressor_tags = RegressorTags()
    if signature.classes is not None:
        made.estimator_type = "classifier"
        made.classifier_tags = ClassifierTags()
    elif _is_detector(signature):
        made.estimator_type = "outlier_detector"
    made.requires_fit = False
    return made


def metric_of(signature: Signature) -> str | None:
    """The function of `sklearn.metrics` that `score` is for a model; None where it has no score."""
    classified = signature.classes is not None or _has_several(signature)
    if signature.primary == "label" and classified:
        return "accuracy_score"
    return "r2_score" if signature.primary == "prediction" else None


def score(metric: str, y: Any, predicted: Array, sample_weight: Any) -> float:
    """What that function gives."""
    with importing("scikit-learn", "the score of a model", "evaluate"):
        import sklearn.metrics

    return float(getattr(sklearn.metrics, metric)(y, predicted, sample_weight=sample_weight))


def _has_several(signature: Signature) -> bool:
    """Whether a row has several labels, which only classifiers give."""
    shapes = [spec.shape for spec in signature.outputs if spec.name == signature.primary]
    return any(len(shape) == 2 and shape[1] != 1 for shape in shapes)


def _is_detector(signature: Signature) -> bool:
    """Whether rows are judged to be outliers or not."""
    scored = "scores" in signature.output_names
    return scored and signature.primary == "label" and not _has_several(signature)
