"""What scikit-learn asks of an estimator: its score, its tags, its number of features."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError, UsageError
from modelkit.signature.signature import Signature

ACCURACY = "accuracy"
R2 = "r2"
# Kinds whose score cannot be computed from labels or predictions: what it is, and what to call.
OTHER_SCORES = {
    "PoissonRegressor": "the share of the deviance that it explains: call "
    "sklearn.metrics.d2_tweedie_score(y, model.predict(X), power=1)",
    "GammaRegressor": "the share of the deviance that it explains: call "
    "sklearn.metrics.d2_tweedie_score(y, model.predict(X), power=2)",
    "TweedieRegressor": "the share of the deviance that it explains: call "
    "sklearn.metrics.d2_tweedie_score(y, model.predict(X), power=...) with the power it was "
    "trained with",
}
OTHER_SCORES |= dict.fromkeys(
    ("GaussianMixture", "BayesianGaussianMixture"),
    "the mean log-likelihood of the rows, and needs no y: call "
    "model.run(X)['score_samples'].mean()",
)
OTHER_SCORES |= dict.fromkeys(
    ("KMeans", "MiniBatchKMeans", "BisectingKMeans"),
    "the inertia with its sign turned, and needs no y: call "
    "-(model.run(X)['transformed'].min(axis=1) ** 2).sum()",
)
OTHER_SCORES |= dict.fromkeys(
    (
        "GridSearchCV",
        "RandomizedSearchCV",
        "HalvingGridSearchCV",
        "HalvingRandomSearchCV",
        "LogisticRegressionCV",
    ),
    "what its scoring= says, which the package does not know: call a metric of sklearn.metrics "
    "with y and model.predict(X), or save its best_estimator_",
)
OTHER_SCORES |= dict.fromkeys(
    ("XGBRanker", "LGBMRanker", "CatBoostRanker"),
    "a measure of ranking, which needs the groups of the rows: call sklearn.metrics.ndcg_score",
)


def n_features(signature: Signature) -> int:
    """The number of columns of all inputs. Raises AttributeError where it is not fixed."""
    total = 0
    for spec in signature.inputs:
        size = len(spec.columns) or (spec.shape or (None,))[-1]
        if not isinstance(size, int):
            reason = "the number of columns of this model's inputs is not fixed"
            raise AttributeError(reason)  # so that `hasattr` is False
        total += size
    return total


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


def score(metric: str, y: Any, predicted: Array, sample_weight: Any) -> float:
    """The metric that `metric_for` names. Raises UsageError where y does not fit."""
    from sklearn.metrics import accuracy_score, r2_score

    if metric == R2:
        return float(r2_score(y, predicted, sample_weight=sample_weight))
    if predicted.ndim == 1:
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))
    truth = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    if truth.shape != predicted.shape:
        raise UsageError(
            f"y has the shape {truth.shape}, and the labels of these rows {predicted.shape}"
        )
    return float(np.average((truth == predicted).all(axis=1), weights=sample_weight))


def metric_for(signature: Signature, source: str | None) -> str:
    """The metric of a kind of model: ACCURACY or R2. A row of several labels counts as one.

    Args:
        signature: of the model.
        source: what its package was made from, such as "scikit-learn KMeans"; None where that is
            not known.

    Raises:
        SignatureError: if scikit-learn's score of that kind is another or does not exist, or if
            nothing says of what kind the model is.
    """
    kind = (source or "").rpartition(" ")[2]
    if kind in OTHER_SCORES:
        raise SignatureError(f"the score of a {kind} is {OTHER_SCORES[kind]}", signature=signature)
    if signature.classes is not None or kind == "EllipticEnvelope":
        return ACCURACY
    if signature.primary == "label" and _has_several(signature):
        return ACCURACY
    if signature.primary == "prediction":
        return R2
    raise SignatureError(_reason(signature, source), signature=signature)


def _has_several(signature: Signature) -> bool:
    """Whether a row has several labels, which only classifiers give."""
    (label,) = [spec for spec in signature.outputs if spec.name == signature.primary]
    return len(label.shape) == 2 and label.shape[1] != 1


def _is_detector(signature: Signature) -> bool:
    """Whether rows are judged to be outliers or not."""
    scored = "scores" in signature.output_names
    return scored and signature.primary == "label" and not _has_several(signature)


def _reason(signature: Signature, source: str | None) -> str:
    if signature.primary == "label" and source is not None:
        return (
            f"the labels of {source} are not classes, and scikit-learn has no score for them; if y "
            "holds such labels, call sklearn.metrics.accuracy_score(y, model.predict(X))"
        )
    if signature.primary == "label":
        return (
            "nothing says whether this model's labels are classes or clusters, so it has no score; "
            "if they are classes, call sklearn.metrics.accuracy_score(y, model.predict(X))"
        )
    if signature.primary is None:
        names = list(signature.output_names)
        return (
            f"a score compares y with one output, and this model has {names}: call a metric with "
            "run(X)[name]"
        )
    if signature.primary == "probability":
        return (
            "a score is for classes and predictions, and this model gives probabilities: call "
            "sklearn.metrics.log_loss(y, model.predict(X)), or roc_auc_score"
        )
    return (
        f"a score is for classes and predictions, and this model gives {signature.primary!r}; if "
        "these are predictions, call sklearn.metrics.r2_score(y, model.predict(X))"
    )
