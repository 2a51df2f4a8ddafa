"""What scikit-learn asks of an estimator: its score and its tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, final

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.signature.signature import Signature

Verb = TypeVar("Verb", bound=Callable[..., Any])

# What a model has where its signature allows it.
OPTIONAL = ("apredict_proba", "classes_", "decision_function", "predict_proba", "score")


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


class OnlyWhere:
    """A verb that an instance lacks where there is a reason, so that `hasattr` says whether it works."""

    def __init__(self, why_not: Callable[[Signature], str | None]) -> None:
        self._why_not = why_not

    def __call__(self, verb: Verb) -> Verb:
        """Decorate the verb."""
        self._verb: Any = final(verb)
        return self  # type: ignore[return-value]  # what it gives is called as the verb is

    def __get__(self, model: Any, kind: type) -> Any:
        why = None if model is None else self._why_not(model.signature)
        if why is not None:
            raise AttributeError(why)
        return self._verb.__get__(model, kind)


def why_no_scores(signature: Signature) -> str | None:
    """Why a model has no `decision_function`."""
    known = "scores" in signature.output_names
    return (
        None if known else "this model does not give scores: its signature lacks an output of them"
    )


def why_no_score(signature: Signature) -> str | None:
    """Why a model has no `score`."""
    if _metric_of(signature) is not None:
        return None
    return (
        f"a score is for classes and predictions, and this model gives {signature.primary!r}: call "
        "a metric with run(X)[name], or mk.evaluate"
    )


def _metric_of(signature: Signature) -> str | None:
    """The function of `sklearn.metrics` that `score` is for a model; None where it lacks a score."""
    classified = signature.classes is not None or _has_several(signature)
    if signature.primary == "label" and classified:
        return "accuracy_score"
    return "r2_score" if signature.primary == "prediction" else None


def score(signature: Signature, y: Any, predicted: Array, sample_weight: Any) -> float:
    """What that function gives."""
    with importing("scikit-learn", "the score of a model", "evaluate"):
        import sklearn.metrics

    metric = getattr(sklearn.metrics, str(_metric_of(signature)))
    return float(metric(y, predicted, sample_weight=sample_weight))


def _has_several(signature: Signature) -> bool:
    """Whether a row has several labels, which only classifiers give."""
    shapes = [spec.shape for spec in signature.outputs if spec.name == signature.primary]
    return any(len(shape) == 2 and shape[1] != 1 for shape in shapes)


def _is_detector(signature: Signature) -> bool:
    """Whether rows are judged to be outliers or not."""
    scored = "scores" in signature.output_names
    return scored and signature.primary == "label" and not _has_several(signature)
