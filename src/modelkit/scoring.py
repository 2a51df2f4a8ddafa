"""What `Model.score` is: for each kind of model what scikit-learn's `score` of that kind is, or why there is none."""

from __future__ import annotations

from modelkit.errors import SignatureError
from modelkit.signature import Signature

ACCURACY, R2 = "accuracy", "r2"
# What the score of a kind is instead, of which labels and predictions do not tell, and what to
# call.
OTHERWISE = {
    "PoissonRegressor": "the share of the deviance that it explains: call "
    "sklearn.metrics.d2_tweedie_score(y, model.predict(X), power=1)",
    "GammaRegressor": "the share of the deviance that it explains: call "
    "sklearn.metrics.d2_tweedie_score(y, model.predict(X), power=2)",
    "TweedieRegressor": "the share of the deviance that it explains: call "
    "sklearn.metrics.d2_tweedie_score(y, model.predict(X), power=...) with the power it was "
    "trained with",
    "GaussianMixture": "the mean log-likelihood of the rows, which the package does not give",
    "BayesianGaussianMixture": "the mean log-likelihood of the rows, which the package does not give",
}
OTHERWISE |= dict.fromkeys(
    ("KMeans", "MiniBatchKMeans", "BisectingKMeans"),
    "the inertia with its sign turned, and needs no y: call "
    "-(model.run(X)['transformed'].min(axis=1) ** 2).sum()",
)
OTHERWISE |= dict.fromkeys(
    (
        "GridSearchCV",
        "RandomizedSearchCV",
        "HalvingGridSearchCV",
        "HalvingRandomSearchCV",
        "LogisticRegressionCV",
    ),
    "what its scoring= says, which the package does not know: call a metric of sklearn.metrics "
    "with y and "
    "model.predict(X), or save its best_estimator_",
)
OTHERWISE |= dict.fromkeys(
    ("XGBRanker", "LGBMRanker", "CatBoostRanker"),
    "a measure of ranking, which needs the groups of the rows: call sklearn.metrics.ndcg_score",
)


def metric_for(signature: Signature, source: str | None) -> str:
    """The metric of a kind of model: ACCURACY, of all labels of a row where it has several, or R2.

    Args:
        signature: of the model.
        source: what its package was made from, such as "scikit-learn KMeans"; None where that is
            not known.

    Raises:
        SignatureError: if scikit-learn's score of that kind is another or does not exist, or if
            nothing says of what kind the model is.
    """
    kind = (source or "").rpartition(" ")[2]
    if kind in OTHERWISE:
        raise SignatureError(f"the score of a {kind} is {OTHERWISE[kind]}", signature=signature)
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


def _reason(signature: Signature, source: str | None) -> str:
    if signature.primary == "label" and source is not None:
        return (
            f"the labels of {source} are no classes, and scikit-learn has no score for them; if y "
            "holds such labels, "
            f"call sklearn.metrics.accuracy_score(y, model.predict(X))"
        )
    if signature.primary == "label":
        return (
            "nothing says whether this model's labels are classes or clusters, so it has no score; "
            "if they are "
            "classes, call sklearn.metrics.accuracy_score(y, model.predict(X))"
        )
    if signature.primary is None:
        names = list(signature.output_names)
        return f"a score compares y with one output, and this model has {names}: call a metric with run(X)[name]"
    if signature.primary == "probability":
        return (
            "a score is for classes and predictions, and this model gives probabilities: call "
            "sklearn.metrics.log_loss(y, model.predict(X)), or roc_auc_score"
        )
    return (
        f"a score is for classes and predictions, and this model gives {signature.primary!r}; if "
        "these are "
        f"predictions, call sklearn.metrics.r2_score(y, model.predict(X))"
    )
