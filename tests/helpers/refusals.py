"""Every refusal that a user may meet, one for each cause: what is saved, what it says, and what converts instead.

`PYTHONPATH=tests python -m helpers.refusals` prints the table of docs/howto/save/refused.md.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn import (
    cluster,
    decomposition,
    dummy,
    feature_extraction,
    gaussian_process,
    impute,
    isotonic,
    linear_model,
    manifold,
    neighbors,
    preprocessing,
    svm,
    tree,
)
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.pipeline import make_pipeline

text = feature_extraction.text
kernels = gaussian_process.kernels
Fitted = tuple[Any, Any]  # a fitted model, and its example


@dataclass(frozen=True)
class Refusal:
    """`refused` makes a model that cannot be saved, whose message begins with `says`; `...` is any text.

    `instead` makes one that can be saved, which `way` describes.
    """

    says: str
    what: str
    way: str
    refused: Callable[[], Fitted]
    instead: Callable[[], Fitted]

    @property
    def kind(self) -> str:
        """The class whose option is refused."""
        process = self.says.startswith("a Gaussian process")
        return "GaussianProcessRegressor" if process else re.split(r"\W", self.says)[0]


def iris(model: Any, change: Callable[[Any], Any] | None = None) -> Callable[[], Fitted]:
    """Fits a model on iris, whose rows may be changed."""

    def fit() -> Fitted:
        X, y = load_iris(return_X_y=True, as_frame=True)
        X = change(X) if change else X.to_numpy()
        return fitted(model, X, y), X

    return fit


def wine(model: Any) -> Callable[[], Fitted]:
    """Fits a model on wine, of which no two rows are equally far from a third."""

    def fit() -> Fitted:
        X, y = load_wine(return_X_y=True)
        return fitted(model, X, y), X

    return fit


def regression(model: Any) -> Callable[[], Fitted]:
    """Fits a model on the petals of iris."""

    def fit() -> Fitted:
        X = load_iris().data[:, 2:3]
        return fitted(model, X, load_iris().data[:, 3]), X

    return fit


def texts(model: Any) -> Callable[[], Fitted]:
    def fit() -> Fitted:
        X = ["a fine film", "not so fine", "good acting", "not good", "I liked it", "dull"] * 10
        return fitted(model, X, [True, False] * 30), X

    return fit


def fitted(model: Any, X: Any, y: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def logistic() -> Any:
    return linear_model.LogisticRegression(max_iter=1_000)


class Ratio(TransformerMixin, BaseEstimator):
    """A transformer of the user's own."""

    def fit(self, X: Any, y: Any = None) -> Ratio:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        return np.asarray(X)[:, :1] / np.asarray(X)[:, 1:2]


class MyLogistic(linear_model.LogisticRegression):
    """A class derived from one of scikit-learn's, which may answer otherwise."""


def longest_first(X: Any) -> Any:
    return X if X[0, 0] > X[-1, 0] else X[:, ::-1]


def upper(X: Any) -> Any:
    return np.char.upper(np.asarray(X, str))


def with_word(X: Any) -> Any:
    return X.assign(word=np.resize(["a", "b", "c"], len(X)))


def with_dates(X: Any) -> Any:
    return X.assign(when=pd.date_range("2024-01-01", periods=len(X)))


def with_zone(X: Any) -> Any:
    return X.assign(when=pd.date_range("2024-01-01", periods=len(X), tz="UTC"))


def day(X: Any) -> Any:
    return X["when"].dt.day.to_numpy()[:, None]


def kernel(X: Any, Y: Any) -> Any:
    return X @ Y.T


def closeness(distances: Any) -> Any:
    return 1 / (1 + distances)


def split(text: str) -> list[str]:
    return text.split()


def of_words(step: Any, *others: Any) -> Any:
    """A model over one column of words."""
    return make_pipeline(make_column_transformer((step, ["word"])), *others, logistic())


def components() -> Any:
    """A tree of components."""
    return make_pipeline(decomposition.PCA(2), tree.DecisionTreeClassifier(random_state=0))


def single(X: Any) -> Any:
    return X.astype("float32")


def encoded_dates() -> Any:
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((encoder, ["when"]), remainder="passthrough")
    return make_pipeline(columns, logistic())


def of_dates() -> Any:
    columns = make_column_transformer(
        (preprocessing.FunctionTransformer(day), ["when"]), remainder="passthrough"
    )
    return make_pipeline(columns, logistic())


REFUSALS = [
    Refusal("Ratio is a class of your own, which modelkit cannot convert", "a transformer or model of your own", "say what it computes with [`converters=`](custom_steps.md#say-what-a-class-computes), or make it a `FunctionTransformer` of numpy functions; or apply it before the model, and save the rest", iris(make_pipeline(Ratio(), logistic())), iris(logistic())),
    Refusal("MyLogistic is a class derived from LogisticRegression, and may answer otherwise", "a class derived from one that is known, for it may answer otherwise", "save an object of the class that it is derived from", iris(MyLogistic()), iris(logistic())),
    Refusal("FunctionTransformer(longest_first) cannot be converted", "a function that decides by the values of whole columns, or calls what no graph has", "write it with numpy functions of its columns, such as `np.where`", iris(make_pipeline(preprocessing.FunctionTransformer(longest_first), logistic())), iris(make_pipeline(preprocessing.FunctionTransformer(np.log1p), logistic()))),
    Refusal("FunctionTransformer(upper) cannot be converted", "a function that changes letters, such as `str.upper`", "apply it before the model, and save the rest; or `format='joblib'`, for which the function is one of a module", iris(of_words(make_pipeline(preprocessing.FunctionTransformer(upper), preprocessing.OneHotEncoder())), with_word), iris(of_words(preprocessing.OneHotEncoder()), with_word)),
    Refusal("TfidfVectorizer(tokenizer=...) is a function of yours", "a `tokenizer`, `preprocessor` or `analyzer` of your own", "apply it to the texts before the model, or say it with `token_pattern`", texts(make_pipeline(text.TfidfVectorizer(tokenizer=split, token_pattern=None), logistic())), texts(make_pipeline(text.TfidfVectorizer(token_pattern=r"\S+"), logistic()))),
    Refusal("TfidfVectorizer cannot be converted: token_pattern ... could take for ever", "an expression that can run away on some texts", r"write one as in `\b[a-z]{3,}\b` or `\w+(?:-\w+)*`", texts(make_pipeline(text.TfidfVectorizer(token_pattern=r"(?:\w+ ?)+"), logistic())), texts(make_pipeline(text.TfidfVectorizer(token_pattern=r"\w+(?:-\w+)*"), logistic()))),
    Refusal("SVC with a kernel of your own cannot be converted", "a kernel that is a function", '`kernel="rbf"` or another that scikit-learn has', iris(svm.SVC(kernel=kernel)), iris(svm.SVC(kernel="linear"))),
    Refusal("KNeighborsClassifier with weights by a function of your own cannot be converted", "weights of neighbours that are a function", '`weights="distance"` or `"uniform"`', wine(neighbors.KNeighborsClassifier(weights=closeness)), wine(neighbors.KNeighborsClassifier(weights="distance"))),
    Refusal("KNeighborsClassifier(metric=...) cannot be converted", "a distance that has no graph", "one of the metrics that the message lists", wine(neighbors.KNeighborsClassifier(metric="correlation")), wine(neighbors.KNeighborsClassifier(metric="manhattan"))),
    Refusal("a Gaussian process with the kernel ... cannot be converted", "another kernel, or Matern of another smoothness", "sums and products of the kernels that the message lists", iris(gaussian_process.GaussianProcessRegressor(kernels.PairwiseKernel())), iris(gaussian_process.GaussianProcessRegressor(kernels.RBF()))),
    Refusal("DBSCAN has neither predict nor transform for new rows", "clusters that take in no new rows", "save a classifier that was trained on its `labels_`, or `KMeans`", iris(cluster.DBSCAN()), iris(cluster.KMeans(3, random_state=0))),
    Refusal("LocalOutlierFactor has neither predict nor transform for new rows", "outliers among the rows of `fit` alone", "`novelty=True`", wine(neighbors.LocalOutlierFactor()), wine(neighbors.LocalOutlierFactor(novelty=True))),
    Refusal("IsotonicRegression(out_of_bounds='raise') cannot be converted", "a model that raises for some numbers, which a graph cannot", '`out_of_bounds="clip"`', regression(isotonic.IsotonicRegression(out_of_bounds="raise")), regression(isotonic.IsotonicRegression(out_of_bounds="clip"))),
    Refusal("SplineTransformer(extrapolation='error') cannot be converted", "a step that raises for some numbers", '`extrapolation="constant"`', iris(make_pipeline(preprocessing.SplineTransformer(extrapolation="error"), logistic())), iris(make_pipeline(preprocessing.SplineTransformer(), logistic()))),
    Refusal("DummyClassifier(strategy='stratified') answers at random", "answers that are drawn", '`strategy="prior"`', iris(dummy.DummyClassifier(strategy="stratified")), iris(dummy.DummyClassifier())),
    Refusal("IterativeImputer(sample_posterior=True) draws at random", "values that are drawn", "`sample_posterior=False`", iris(make_pipeline(impute.IterativeImputer(sample_posterior=True, random_state=0), logistic())), iris(make_pipeline(impute.IterativeImputer(random_state=0), logistic()))),
    Refusal("Isomap cannot be converted", "a projection that solves a problem of its own for each row", "`PCA`, `KernelPCA`", iris(make_pipeline(manifold.Isomap(), logistic())), iris(make_pipeline(decomposition.PCA(2), logistic()))),
    Refusal("DictionaryLearning cannot be converted", "a search for the answer to each row", '`transform_algorithm="threshold"`, `PCA`, `KernelPCA`', iris(make_pipeline(decomposition.DictionaryLearning(2, max_iter=5, random_state=0), logistic())), iris(make_pipeline(decomposition.PCA(2), logistic()))),
    Refusal("NMF cannot be converted", "a search that ends when all rows of a batch have settled, so that a row's answer changes with the others", "`TruncatedSVD`, `PCA`", iris(make_pipeline(decomposition.NMF(2, max_iter=500), logistic())), iris(make_pipeline(decomposition.TruncatedSVD(2), logistic()))),
    Refusal("LatentDirichletAllocation cannot be converted", "topics that are estimated again for each text", "`TruncatedSVD`", texts(make_pipeline(text.CountVectorizer(), decomposition.LatentDirichletAllocation(2, random_state=0), logistic())), texts(make_pipeline(text.CountVectorizer(), decomposition.TruncatedSVD(2), logistic()))),
    Refusal("DecisionTreeClassifier compares with thresholds what PCA computes in float32", "numbers that every library rounds otherwise, before trees, bins or encoders", 'give `fit` and example `X.astype("float64")`', iris(components(), single), iris(components())),
    Refusal("column 'when' has dtype datetime64[..., UTC]", "dates with a time zone", "`Series.dt.tz_localize(None)` before fit; or `format='joblib'`", iris(of_dates(), with_zone), iris(of_dates(), with_dates)),
    Refusal("OneHotEncoder gets a column of times", "dates that a step reads as they are", "take numbers of them in a [function](../../reference/what_converts.md#dates) before it; unused dates are harmless", iris(encoded_dates(), with_dates), iris(of_dates(), with_dates)),
]  # fmt: skip


def table() -> str:
    """The table of docs/howto/save/refused.md."""
    lines = [
        "| the message, behind the place of the step | what it is | what to do |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{each.says}` | {each.what} | {each.way} |" for each in REFUSALS]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
