"""Every refusal names the step and its place, the option or column, and a way out that works."""

import ast
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier
from helpers.answers import one_column, wine
from helpers.examples import some
from helpers.messages import ADVICE, check_message
from helpers.packages import opened, saved
from helpers.places import ROOT
from helpers.refusals import REFUSALS
from helpers.refusals import table as refusals_table
from helpers.strangers import (
    Changed,
    Drawing,
    Identity,
    Nearest,
    Ratio,
    columns_apart,
    in_capitals,
    in_order,
    kernel_of,
    lagged,
    raw_objective,
    vector,
    weights_of,
    words_of,
    years,
)
from helpers.transformers import TRAIN
from lightgbm import LGBMClassifier
from scipy.sparse import csr_matrix
from sklearn import datasets, dummy, neighbors, svm
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import DBSCAN, AffinityPropagation, FeatureAgglomeration
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.decomposition import NMF, PCA, DictionaryLearning, LatentDirichletAllocation, SparsePCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.feature_selection import SelectFpr
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor, kernels
from sklearn.gaussian_process.kernels import Matern, PairwiseKernel
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.manifold import TSNE, Isomap, LocallyLinearEmbedding
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    LocalOutlierFactor,
    RadiusNeighborsClassifier,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.semi_supervised import LabelPropagation, LabelSpreading
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from xgboost import XGBClassifier

import modelkit as mk
from modelkit.convert.estimators import table
from modelkit.errors import ConversionError

X, Y = (array[::3] for array in load_iris(return_X_y=True))
BINARY = (Y > 0).astype(int)
FRAME = pd.DataFrame(X, columns=list("abcd")).assign(kind=np.where(X[:, 0] > 5.5, "long", "short"))
DATED = FRAME.assign(day=pd.Timestamp("2026-11-25"))
TEXTS = ["red apple", "green pear", "red cherry", "blue plum"] * 10
LABELS = [0, 1, 0, 1] * 10
GAPS = X.copy()
GAPS[::3, 0] = np.nan
SQUARE = X @ X.T
JOBLIB = "format='joblib'"
CLASSIFIER = ("clf", LogisticRegression())
SCALED = ("scale", StandardScaler())
LAST = "step 'clf' (pipeline step 2 of 2)"
IN_PREP = "step 'prep' (pipeline step 1 of 2) > transformer 'num' of the ColumnTransformer"
OPTIONS = {"classes.py", "images.py", "modules.py", "notes.py", "preprocess.py", "roles.py"}
SOURCE = Path(mk.__file__).parent
RAISED = ("ConversionError", "ParityError")
PAGE = ROOT / "docs" / "howto" / "save" / "refused.md"
SEED = {"random_state": 0}
IRIS = datasets.load_iris(return_X_y=True)
TWO_KINDS = (IRIS[0][50:], IRIS[1][50:] > 1)


class Case(NamedTuple):
    """A model that is refused: its rows, and what the refusal says."""

    model: Any
    step: str
    words: str
    place: str = ""
    rows: Any = X
    y: Any = Y
    example: Any = None
    format: str = "onnx"


def in_steps(*named):
    return Pipeline(list(named))


def beside(name, part, columns=("a", "b")):
    """A pipeline of a ColumnTransformer, of which one part is under test, and a classifier."""
    others = ("kinds", OneHotEncoder(handle_unknown="ignore"), ["kind"])
    return in_steps(("prep", ColumnTransformer([(name, part, list(columns)), others])), CLASSIFIER)


def above(rows):
    return np.where(rows > 0, rows, 1.0)


def in_tenths(rows):
    return rows.round(1)


def cut_off(rows):
    return rows.astype(int)


def in_bins(rows):
    return np.digitize(rows, [0.0, 1.0])


def among(rows):
    return np.isin(rows, [0.0, 1.0])


def largest(rows):
    return rows.argmax(axis=1).reshape(-1, 1)


CASES = {
    # classes without a converter
    "a class derived from another": Case(Changed(), "Changed", "derived from LogisticRegression.*fit LogisticRegression itself"),
    "the same at the end of a pipeline": Case(in_steps(SCALED, ("clf", Changed())), "Changed", "fit LogisticRegression itself", LAST),
    "a transformer of one's own": Case(
        in_steps(("ratio", Ratio()), CLASSIFIER), "Ratio", "of your own.*converters={Ratio: ...}.*FunctionTransformer of numpy functions.*save those behind it",
        "step 'ratio' (pipeline step 1 of 2)",
    ),
    "the same in a union": Case(
        in_steps(("both", FeatureUnion([("ratio", Ratio()), SCALED])), CLASSIFIER), "Ratio", "of your own",
        "step 'both' (pipeline step 1 of 2) > transformer 'ratio' of the FeatureUnion",
    ),
    "a classifier of one's own": Case(Nearest(), "Nearest", "of your own, which modelkit cannot convert: say what it computes with save.*Nearest.*or save the model"),
    "the same in a search": Case(
        GridSearchCV(in_steps(SCALED, CLASSIFIER), {"clf": [Nearest()]}, cv=2), "Nearest", "of your own", LAST
    ),
    "the same in a bagging": Case(BaggingClassifier(Nearest(), 2), "Nearest", "of your own", "the Nearest inside the BaggingClassifier"),
    "the same in a stacking": Case(
        StackingClassifier([("near", Nearest()), CLASSIFIER], cv=2), "Nearest", "of your own", "estimator 'near' of the StackingClassifier"
    ),
    # functions of one's own
    "a function of all rows, nested": Case(
        beside("num", in_steps(SCALED, ("order", FunctionTransformer(in_order)))), "FunctionTransformer", "uses numbers of all rows together; write it",
        f"{IN_PREP} > step 'order' (pipeline step 2 of 2)", FRAME,
    ),
    "a function of strings": Case(
        beside("num", make_pipeline(FunctionTransformer(in_capitals), OneHotEncoder()), ["kind"]), "FunctionTransformer", "do it before fit",
        f"{IN_PREP} > step 'functiontransformer' (pipeline step 1 of 2)", FRAME,
    ),
    "a function that gives a vector": Case(FunctionTransformer(vector), "FunctionTransformer", r"add reshape\(-1, 1\)"),
    "a metric": Case(KNeighborsClassifier(metric=columns_apart), "KNeighborsClassifier", "metric=a function of your own.*use one of"),
    "weights": Case(KNeighborsClassifier(weights=weights_of), "KNeighborsClassifier", "weights='distance'"),
    "a kernel of a support vector machine": Case(SVC(kernel=kernel_of), "SVC", "kernel='rbf'"),
    "a kernel of ridge": Case(KernelRidge(kernel=columns_apart), "KernelRidge", "kernel of your own"),
    "a kernel of propagation": Case(LabelPropagation(kernel=kernel_of), "LabelPropagation", "kernel='rbf'"),
    "a kernel of a process": Case(
        GaussianProcessRegressor(PairwiseKernel(metric="cosine")), "PairwiseKernel", "the kernel PairwiseKernel.*use sums and products of"
    ),
    "a tokenizer": Case(
        in_steps(("count", CountVectorizer(tokenizer=words_of, token_pattern=None)), CLASSIFIER), "CountVectorizer", r"tokenizer=\.\.\.",
        "step 'count' (pipeline step 1 of 2)", TEXTS, LABELS,
    ),
    # float32
    "logarithms of float32": Case(
        in_steps(("log", FunctionTransformer(np.log1p)), ("trees", HistGradientBoostingClassifier(max_iter=2))), "HistGradientBoostingClassifier",
        r"with thresholds what FunctionTransformer computes in float32.*X\.astype\('float64'\)", "step 'trees' (pipeline step 2 of 2)", X.astype("f4"),
    ),
    "components of float32": Case(
        in_steps(SCALED, ("axes", PCA(2)), ("bins", KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf")), CLASSIFIER), "KBinsDiscretizer",
        "what PCA computes in float32", "step 'bins' (pipeline step 3 of 4)", FRAME[list("abcd")].astype("f4"),
    ),
    "functions of float32 beside others": Case(
        in_steps(("log", FunctionTransformer(np.log1p)), ("tree", DecisionTreeClassifier())), "DecisionTreeClassifier", "what FunctionTransformer computes",
        "step 'tree' (pipeline step 2 of 2)", FRAME[list("abcd")].astype({"a": "f4", "b": "f4"}),
    ),
    "axes of float32 made binary": Case(
        in_steps(("axes", PCA(2)), ("above", Binarizer())), "Binarizer", "what PCA computes in float32", "step 'above' (pipeline step 2 of 2)",
        X.astype("f4"),
    ),
    **{
        f"axes of float32, {function.__name__}": Case(
            in_steps(("axes", PCA(2)), ("own", FunctionTransformer(function))), "FunctionTransformer", "with thresholds what PCA computes in float32",
            "step 'own' (pipeline step 2 of 2)", X.astype("f4"),
        )
        for function in (above, in_tenths, cut_off, in_bins, among, largest)
    },
    "a prediction of float32 made whole": Case(
        TransformedTargetRegressor(LinearRegression(), func=np.positive, inverse_func=np.rint), "TransformedTargetRegressor",
        "what LinearRegression computes in float32", rows=X.astype("f4"), y=np.arange(len(X)) / 4.0,
    ),
    "scores of float32": Case(
        StackingClassifier([CLASSIFIER], RandomForestClassifier(2), cv=2), "RandomForestClassifier", "what LogisticRegression computes in float32",
        "the RandomForestClassifier inside the StackingClassifier", X.astype("f4"),
    ),
    # options
    "a guess": Case(
        VotingClassifier([("guess", DummyClassifier(strategy="uniform")), CLASSIFIER]), "DummyClassifier", "strategy='uniform'.*use 'prior'",
        "estimator 'guess' of the VotingClassifier",
    ),
    "NMF": Case(make_pipeline(NMF(2, max_iter=500), LogisticRegression()), "NMF", "changes with the others; use TruncatedSVD", "step 'nmf' (pipeline step 1 of 2)"),
    "splines that refuse": Case(beside("num", SplineTransformer(extrapolation="error")), "SplineTransformer", "extrapolation='constant'", IN_PREP, FRAME),
    "isotonic that refuses": Case(IsotonicRegression(out_of_bounds="raise"), "IsotonicRegression", "'clip' or 'nan'", rows=X[:, :1]),
    "one quantile": Case(QuantileTransformer(n_quantiles=1), "QuantileTransformer", "n_quantiles of 2 or more"),
    "no column selected": Case(beside("num", SelectFpr(alpha=0)), "SelectFpr", "no column at all", IN_PREP, FRAME),
    "a smoothness": Case(GaussianProcessRegressor(Matern(nu=2.2)), "Matern", r"nu=2\.2.*Matern\(nu=0\.5"),
    "a precomputed kernel": Case(OneVsOneClassifier(SVC(kernel="precomputed")), "OneVsOneClassifier", "precomputed kernel", rows=SQUARE),
    "a precomputed kernel with probabilities": Case(SVC(kernel="precomputed", probability=True), "SVC", "leave probability out", rows=SQUARE),
    "a first model of float32": Case(GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()), "GradientBoostingClassifier", "leave init out"),
    "a pooling": Case(FeatureAgglomeration(2, pooling_func=np.var), "FeatureAgglomeration", "pooling_func=var.*use numpy.mean"),
    "an outlier's label": Case(RadiusNeighborsClassifier(outlier_label=-1), "RadiusNeighborsClassifier", "outlier label -1.*most_frequent"),
    "an imputer that draws": Case(
        make_pipeline(IterativeImputer(sample_posterior=True, max_iter=2), LogisticRegression()), "IterativeImputer", "use sample_posterior=False",
        "step 'iterativeimputer' (pipeline step 1 of 2)", GAPS,
    ),
    "no centres": Case(AffinityPropagation(max_iter=1), "AffinityPropagation", "found no centres.*fit it until"),
    "one class against the rest": Case(OneVsRestClassifier(LogisticRegression()), "OneVsRestClassifier", "fit it on rows of several", y=np.zeros(len(X), int)),
    "boosting of one class": Case(AdaBoostClassifier(n_estimators=2), "AdaBoostClassifier", "fit it on rows of several", y=np.zeros(len(X), int)),
    "raw scores": Case(LGBMClassifier(n_estimators=2, objective=raw_objective, verbose=-1), "LGBMClassifier", "raw scores.*save its booster_", y=BINARY),
    "raw scores as they are": Case(
        in_steps(("clf", LGBMClassifier(n_estimators=2, objective=raw_objective, verbose=-1))), "LGBMClassifier", "raw scores", y=BINARY, format="joblib"
    ),
    "zeros of splines": Case(
        make_pipeline(SplineTransformer(sparse_output=True), XGBClassifier(n_estimators=2)), "XGBClassifier",
        "SplineTransformer stores some zeros.*sparse_output=False", "step 'xgbclassifier' (pipeline step 2 of 2)", y=BINARY,
    ),
    "zeros of hashes": Case(
        make_pipeline(HashingVectorizer(n_features=8), MaxAbsScaler(), XGBClassifier(n_estimators=2)), "XGBClassifier",
        "HashingVectorizer stores some zeros", "step 'xgbclassifier' (pipeline step 3 of 3)", TEXTS, LABELS,
    ),
    "sparse rows of XGBoost": Case(XGBClassifier(n_estimators=2), "", "csr_matrix; XGBoost takes what.*np.nan", y=BINARY, example=csr_matrix(X)),
    "sparse rows of others": Case(LogisticRegression(), "", r"csr_matrix; pass X.toarray\(\)", example=csr_matrix(X)),
    "no tree": Case(XGBClassifier(n_estimators=0), "XGBClassifier", "it lacks trees; train it", y=BINARY),
    # kinds that no graph answers
    "sparse components": Case(SparsePCA(2), "SparsePCA", "use PCA or TruncatedSVD"),
    "topics": Case(
        make_pipeline(CountVectorizer(), LatentDirichletAllocation(2)), "LatentDirichletAllocation", "use TruncatedSVD",
        "step 'latentdirichletallocation' (pipeline step 2 of 2)", TEXTS, LABELS,
    ),
    "a map": Case(Isomap(), "Isomap", "use PCA or KernelPCA"),
    "a density": Case(KernelDensity(), "KernelDensity", "use GaussianMixture"),
    "groups of the rows of fit": Case(DBSCAN(), "DBSCAN", "nothing to serve.*such as KMeans"),
    "places of the rows of fit": Case(TSNE(perplexity=5, max_iter=250), "TSNE", "such as PCA"),
    "outliers among the rows of fit": Case(LocalOutlierFactor(), "LocalOutlierFactor", "fit it with novelty=True"),
    # texts
    "few bits": Case(CountVectorizer(dtype=np.int8), "CountVectorizer", "use float64", rows=TEXTS, y=LABELS),
    "a pattern that may run away": Case(CountVectorizer(token_pattern=r"(\w+\s?)+x"), "CountVectorizer", "for ever", rows=["a b x", "c d x"] * 20, y=LABELS),
    "neighbours of texts": Case(
        make_pipeline(CountVectorizer(), KNeighborsClassifier()), "KNeighborsClassifier", "put TruncatedSVD before it",
        "step 'kneighborsclassifier' (pipeline step 2 of 2)", TEXTS, LABELS,
    ),
    # columns
    "dates": Case(make_pipeline(OrdinalEncoder()), "OrdinalEncoder", "OrdinalEncoder gets a column of times.*FunctionTransformer", "step 'ordinalencoder' (pipeline step 1 of 1)", rows=DATED[["kind", "day"]]),
    "objects": Case(LogisticRegression(), "", r"column 'a' has Python objects.*astype\(float\)", rows=FRAME[list("abcd")].astype(object)),
    "None and NaN": Case(
        OneHotEncoder(handle_unknown="ignore"), "OneHotEncoder", r"column 'k'.*X\.fillna\(np\.nan\)",
        rows=pd.DataFrame({"k": pd.Series(["a", None, np.nan, "b"] * 10, dtype=object)}),
    ),
    "numbers and strings from a transformer": Case(
        ColumnTransformer([("kept", "passthrough", ["a", "kind"])]), "ColumnTransformer", "columns of numbers and of strings.*save one transformer", rows=FRAME
    ),
    "columns of one name": Case(
        LogisticRegression(), "", "several columns of example have the same name, .'a'.*rename them", rows=X, example=pd.DataFrame(X, columns=list("aabc"))
    ),
    # labels
    "labels of dates": Case(DummyClassifier(), "", r"labels must be.*y\.astype\(str\)", y=pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"]).to_numpy()[Y]),
    "an encoder that refuses others": Case(
        make_pipeline(FunctionTransformer(in_capitals), OrdinalEncoder()), "FunctionTransformer", "do it before fit", rows=FRAME[["kind"]],
        place="step 'functiontransformer' (pipeline step 1 of 2)",
    ),
    "a target that is encoded": Case(
        TransformedTargetRegressor(LinearRegression(), transformer=Identity()), "TransformedTargetRegressor", "use one of FunctionTransformer", y=X[:, 0]
    ),
    "a metric of gaps": Case(
        make_pipeline(KNNImputer(weights=weights_of), LogisticRegression()), "KNNImputer", "'uniform' or 'distance'", "step 'knnimputer' (pipeline step 1 of 2)",
        GAPS,
    ),
    "texts in boosting": Case(
        CatBoostClassifier(iterations=2, text_features=[0], verbose=0, allow_writing_files=False), "CatBoostClassifier", "text_features",
        rows=pd.DataFrame({"said": TEXTS}), y=LABELS,
    ),
    "categories that the example lacks": Case(
        CatBoostClassifier(iterations=2, cat_features=["kind"], verbose=0, allow_writing_files=False), "CatBoostClassifier",
        "pass an example that holds every category", rows=FRAME, y=BINARY, example=FRAME[FRAME.kind == "long"],
    ),
    # examples
    "no rows": Case(LogisticRegression(), "", r"is empty; pass some rows", example=X[:0]),
    "lists of several lengths": Case(LogisticRegression(), "", "not list", example=[[1.0], [1.0, 2.0]]),
    "one record": Case(LogisticRegression(), "", r"a single record: pass a list of records", rows=FRAME[list("abcd")], example=dict.fromkeys("abcd", 1.0)),
    "rows beside rows": Case(
        make_pipeline(FunctionTransformer(lagged), LogisticRegression()), "", "depends on other rows, as with shift.*compute such columns before", rows=FRAME[list("abcd")]
    ),
    "integers where fit saw gaps": Case(
        make_pipeline(FunctionTransformer(years), SimpleImputer(strategy="constant", fill_value=-1), LogisticRegression()), "",
        "fails on 2 rows of it.*as .dt.year gives.*fix their dtype with astype",
        rows=DATED.assign(day=DATED["day"].mask(FRAME.index == 5)),
    ),
    "a search that fitted nothing": Case(
        GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2, refit=False), "GridSearchCV", r"refit=False\) does not fit an estimator.*refit=True"
    ),
    "a column short": Case(make_pipeline(StandardScaler(), LogisticRegression()), "", r"lacks columns.*'d'", rows=FRAME[list("abcd")], example=FRAME[list("abc")]),
    "a column more": Case(LogisticRegression(), "", r"fit was not given: \['kind'\]", rows=FRAME[list("abcd")], example=FRAME),
    "another order": Case(LogisticRegression(), "", r"another order.*feature_names_in_", rows=FRAME[list("abcd")], example=FRAME[list("bacd")]),
    "an array for a frame": Case(LogisticRegression(), "", "pass a frame with", rows=FRAME[list("abcd")], example=X),
    "a column short of an array": Case(LogisticRegression(), "LogisticRegression", "fitted on 4 columns, and the example has 3", example=X[:, :3]),
    "other dtypes": Case(
        LGBMClassifier(n_estimators=2, verbose=-1), "LGBMClassifier", "pass rows like the ones of fit, of the same columns, dtypes",
        rows=FRAME.astype({"kind": "category"}), example=FRAME.assign(kind=BINARY),
    ),
    "values that fit has not seen": Case(
        in_steps(("kinds", OneHotEncoder()), CLASSIFIER), "OneHotEncoder", "OneHotEncoder fails on rows of the example.*kinds of values",
        "step 'kinds' (pipeline step 1 of 2)", FRAME[["kind"]], example=FRAME[["kind"]].replace("long", "huge"),
    ),
    "a frame for an array, pickled": Case(
        LogisticRegression(), "LogisticRegression", "pass an array, as to fit", example=FRAME[list("abcd")], format="joblib"
    ),
    "a model that draws, pickled": Case(
        make_pipeline(Drawing(), LogisticRegression()), "", "the pickled model disagrees.*otherwise each time.*leave out the step", format="joblib"
    ),
    "a lambda, pickled": Case(
        make_pipeline(FunctionTransformer(lambda rows: rows), LogisticRegression()), "", "holds '.*<lambda>'; define functions", format="joblib"
    ),
}  # fmt: skip


def fitted(case):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return case.model.fit(case.rows, case.y)


@some("name", CASES, 12)
def test_a_refusal_names_the_step_and_a_way_out_that_works(name, tmp_path):
    case = CASES[name]
    model = fitted(case)
    example = case.rows if case.example is None else case.example
    with pytest.raises(ConversionError, match=f"(?s){case.words}") as caught:
        saved(model, example, tmp_path, format=case.format)
    check_message(caught.value)
    assert caught.value.step == case.step
    assert str(caught.value).startswith(case.place)
    assert caught.value.place == case.place
    assert list(tmp_path.iterdir()) == []
    if JOBLIB in str(caught.value):
        manifest, packed = saved(model, example, tmp_path, format="joblib")
        packed.close()
        assert manifest.runtime == "joblib"


@pytest.mark.parametrize("kind", ["onnx", "joblib"])
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (LogisticRegression, "LogisticRegression is a class, not a model: make an instance, fit it"),
        (LogisticRegression(), "LogisticRegression is not fitted: call fit before save"),
        (make_pipeline(StandardScaler(), XGBClassifier()), "Pipeline is not fitted: call fit"),
        (LGBMClassifier(), "LGBMClassifier is not fitted: call fit before save"),
        ({"a": 1}, "dict"),
    ],
)  # fmt: skip
def test_what_is_no_fitted_model(model, words, kind, tmp_path):
    with pytest.raises(ConversionError, match=words) as caught:
        saved(model, X, tmp_path, format=kind)
    check_message(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["onnx", "joblib"])
@pytest.mark.parametrize(
    ("model", "y"),
    [
        (GaussianProcessClassifier(multi_class="one_vs_one"), Y),
        (ClassifierChain(LogisticRegression(max_iter=500)), np.column_stack([Y, BINARY])),
    ],
)  # fmt: skip
def test_verbs_that_always_fail_are_no_outputs(model, y, kind, tmp_path):
    model.fit(X, y)
    with pytest.raises(ValueError, match=r"one_vs_one|broadcast"):
        model.predict_proba(X)
    _, packed = saved(model, X, tmp_path, format=kind)
    np.testing.assert_array_equal(packed.predict(X), model.predict(X))
    assert packed.signature.output_names == ("label",)
    packed.close()


def failing(estimator, columns, at):
    return estimator.no_such_attribute_


def test_a_converter_that_fails_is_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setitem(table.TENSOR_CONVERTERS, "sklearn.MinMaxScaler", failing)
    model = make_pipeline(StandardScaler(), MinMaxScaler(), LogisticRegression()).fit(X, Y)
    with pytest.raises(
        ConversionError, match="MinMaxScaler cannot be converted as it was"
    ) as caught:
        saved(model, X, tmp_path)
    check_message(caught.value)
    assert caught.value.place == "step 'minmaxscaler' (pipeline step 2 of 3)"
    assert isinstance(caught.value.__cause__, AttributeError)
    saved(model, X, tmp_path, format="joblib")[1].close()


# Reasons that are put into other messages, which have the advice, or in whose place others stand.
REASONS = {
    "functions.py",
    "stand_in_texts.py",
    "stand_in_times.py",
    "stand_in_functions.py",
    "stand_ins.py",
    "stand_in_cells.py",
    "stand_in_rows.py",
    "user_code.py",
    "older.py",
}
# What is said of an option of `save` is what it must be.
OURS = {"notes.py", "save.py", "texts.py"}  # which quote what a signature or a vectorizer says here


def sites():
    """Each message that is raised, with its words and the names that are put into it."""
    for folder in ("convert", "package"):
        for path in sorted((SOURCE / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                    *RAISED,
                    "refuse",
                ):
                    yield path, node


@pytest.mark.parametrize(
    ("path", "node"),
    list(sites()),
    ids=lambda value: getattr(value, "stem", str(getattr(value, "lineno", ""))),
)
def test_each_message_has_advice_and_no_words_of_others(path, node):
    message = node.args[-1]
    handed_on = ast.unparse(message) == "f'{name}{why}'"  # by refuse, whose callers are met here
    if handed_on or not isinstance(message, ast.Constant | ast.JoinedStr):
        return  # made in a function, and tested by what it says
    parts = [part for part in ast.walk(message) if isinstance(part, ast.Constant)]
    words = "".join(str(part.value) for part in parts)
    names = {part.id for part in ast.walk(message) if isinstance(part, ast.Name)}
    names |= {part.attr for part in ast.walk(message) if isinstance(part, ast.Attribute)}
    others = names & {"error", "exception", "reason"}
    advice = {part for part in names if part.isupper()} | names & {"_advice", "advice", "fix"}
    if path.name not in REASONS:
        assert ADVICE.search(words) or advice or path.name in OPTIONS, words
        assert not others or path.name in OURS, words


OTHERS = re.compile(
    r"skl2onnx|sklearn-onnx|onnxmltools|spox|shape calculator|Traceback|<class|\.py\b"
)
WAYS = re.compile(
    r"\b(use|set|pass|save|fit|apply|write|leave|let|put|turn|replace|give)\b", re.IGNORECASE
)


@some("refusal", REFUSALS, 8, ids=lambda refusal: refusal.says)
def test_a_refusal_names_the_cause_and_a_way_out_that_works(refusal, tmp_path, one_thread):
    model, example = refusal.refused()
    said = re.escape(refusal.says).replace(re.escape("..."), ".+")
    with pytest.raises(ConversionError) as caught:
        mk.save(model, tmp_path / "m.mk", example=example, name="m", version="1")
    message = str(caught.value)
    assert re.search(said, message), message
    assert not OTHERS.search(message), message
    assert WAYS.search(message), message
    assert not (tmp_path / "m.mk").exists()
    model, example = refusal.instead()
    mk.save(model, tmp_path / "m.mk", example=example, name="m", version="1")


def test_the_docs_list_the_refusals():
    assert refusals_table() in PAGE.read_text(encoding="utf-8"), (
        "put the output of `PYTHONPATH=tests python -m helpers.refusals` into docs/howto/save/refused.md"
    )


OPTIONS_REFUSED = {
    "random": (dummy.DummyClassifier(strategy="uniform"), "answers at random"),
    "metric": (neighbors.KNeighborsClassifier(metric="haversine"), r"metric='haversine'\) cannot"),
    "own metric": (neighbors.KNeighborsClassifier(metric=lambda a, b: abs(a - b).sum()), "a function of your own"),
    "own weights": (neighbors.KNeighborsClassifier(weights=lambda d: 1 / (1 + d)), "weights='distance'"),
    "no outlier label": (neighbors.RadiusNeighborsClassifier(30.0), "outlier_label='most_frequent'"),
    "own kernel": (svm.SVC(kernel=lambda a, b: a @ b.T), "with a kernel of your own"),
    "matern": (GaussianProcessClassifier(kernels.Matern(nu=0.7), optimizer=None), r"Matern\(nu=0\.5"),
    "pairwise": (GaussianProcessClassifier(kernels.PairwiseKernel(), optimizer=None), "kernel PairwiseKernel"),
    "propagation": (LabelSpreading(rbf_kernel), "use kernel='rbf' or 'knn'"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS_REFUSED)
def test_refusals_name_the_option_and_a_way_out(name, tmp_path):
    estimator, said = OPTIONS_REFUSED[name]
    X, y = wine()
    X = X[:, :2] if name == "metric" else X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X, y)
        with pytest.raises(ConversionError, match=said):
            mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")


def test_a_graph_raises_no_errors_beyond_the_steps_of_an_isotonic_regression(tmp_path):
    X, y = one_column()
    estimator = IsotonicRegression(out_of_bounds="raise").fit(X, y)
    with pytest.raises(ConversionError, match="set out_of_bounds to 'clip' or 'nan'"):
        mk.save(estimator, tmp_path / "m.mk", example=X, name="m", version="1")


UNANSWERED = {
    "SparsePCA": SparsePCA(2, max_iter=2, **SEED),
    "DictionaryLearning": DictionaryLearning(2, max_iter=2, **SEED),
    "LatentDirichletAllocation": LatentDirichletAllocation(2, max_iter=2, **SEED),
    "Isomap": Isomap(),
    "LocallyLinearEmbedding": LocallyLinearEmbedding(n_neighbors=9, **SEED),
}


@pytest.mark.parametrize("name", UNANSWERED)
def test_what_no_graph_answers_is_refused_with_its_reason(name, tmp_path):
    """Of SparsePCA, scikit-learn 1.9 gives a vector of 2 for one row, and a matrix for two."""
    model = UNANSWERED[name].fit(TRAIN[:60])
    with pytest.raises(ConversionError, match=f"{name} cannot be converted.*; use") as caught:
        opened(model, TRAIN[:60], tmp_path)
    assert caught.value.step == name


class Doubler(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X * 2


def test_what_cannot_be_converted_is_named(tmp_path):
    pipeline = make_pipeline(Doubler(), LogisticRegression()).fit(*TWO_KINDS)
    with pytest.raises(ConversionError, match="Doubler is a class of your own") as caught:
        mk.save(pipeline, tmp_path / "m.mk", example=TWO_KINDS[0], name="m", version="1")
    assert caught.value.step == "Doubler"
