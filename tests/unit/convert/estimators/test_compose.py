"""Compositions of scikit-learn in each other: columns chosen in every way, unions, searches, thresholds and votes."""

import random
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.examples import some
from helpers.kinds import penguins
from helpers.packages import saved
from sklearn import linear_model, neighbors
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier, kernels
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OutputCodeClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

import modelkit as mk

ROWS = 160
NUMBERS = ["length", "width", "weight"]
TEXTS = ["kind", "place"]
SCALE = 1e-11
SEED = {"random_state": 0}


def table(gaps=True):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "length": np.round(rng.normal(size=ROWS), 1),
            "width": np.round(rng.normal(5, 2, ROWS), 2),
            "weight": rng.exponential(size=ROWS),
            "count": rng.integers(0, 5, ROWS),
            "kind": rng.choice(["x", "y", "z"], ROWS),
            "place": rng.choice(["Ä", "b c", "d"], ROWS),
            "open": rng.random(ROWS) > 0.5,
        }
    )
    score = frame.length + frame.width - 5 + 2 * (frame.kind == "x") + 0.4 * rng.normal(size=ROWS)
    if gaps:
        frame.loc[::7, "length"] = np.nan
        frame.loc[::5, "width"] = np.nan
        frame.loc[::9, "kind"] = np.nan
    return frame, (score > 0).to_numpy().astype(int)


FRAME, LABEL = table()
VERBS = {
    "label": "predict",
    "prediction": "predict",
    "scores": "decision_function",
    "probabilities": "predict_proba",
    "transformed": "transform",
}


def agrees(source, folder, rows, example=FRAME):
    """Save a fitted estimator and compare every output of its package on some rows."""
    mk.save(source, folder / "m.mk", example=example, name="m", version="1")
    with mk.load(folder / "m.mk") as model:
        given = model.run(rows)
    for name, got in given.items():
        expected = getattr(source, VERBS.get(name, name))(rows)
        expected = np.asarray(expected.toarray() if hasattr(expected, "toarray") else expected)
        assert got.shape == expected.shape
        if got.dtype == object or name == "label":
            assert (got == expected).all()
            continue
        expected = expected.astype(np.float64)
        size = max(1.0, np.abs(np.nan_to_num(expected)).max(initial=0.0))
        np.testing.assert_allclose(got, expected, rtol=0, atol=SCALE * size)
    return given


def unseen(seed):
    """Other rows than those of the example, with other values, and texts nobody has seen."""
    rng = np.random.default_rng(seed)
    rows = FRAME.sample(100, random_state=seed, replace=True).reset_index(drop=True)
    rows["length"] *= rng.uniform(0.9, 1.1, len(rows))
    rows["place"] = rng.choice(["Ä", "new", "d"], len(rows))
    return rows


class Composer:
    """Draws compositions by a seed."""

    def __init__(self, seed):
        self.draw = random.Random(seed)

    def chosen(self, names):
        """Columns by name, position, slice, mask or function."""
        places = [list(FRAME.columns).index(name) for name in names]
        mask = [name in names for name in FRAME.columns]
        whole = slice(places[0], places[-1] + 1)
        return self.draw.choice(
            [names, places, mask, whole, slice(names[0], names[-1]), by_name(names)]
        )

    def numeric(self, depth=0):
        """What makes numbers without gaps of numbers with some."""
        imputer = SimpleImputer(strategy=self.draw.choice(["mean", "median", "most_frequent"]))
        simple = [
            lambda: imputer,
            lambda: make_pipeline(imputer, StandardScaler()),
            lambda: Pipeline(
                [("fill", imputer), ("same", "passthrough"), ("scale", MinMaxScaler())]
            ),
        ]
        nested = [
            lambda: self.union(depth),
            lambda: make_pipeline(
                self.numeric(depth + 1), self.draw.choice([PCA(2), KMeans(3, n_init=1)])
            ),
            lambda: make_pipeline(imputer, self.inner_columns()),
        ]
        return self.draw.choice(simple if depth > 1 else simple + nested)()

    def union(self, depth):
        weights = self.draw.choice([None, {"left": 0.5}, {"left": 2, "right": 3.0}])
        right = self.draw.choice(["drop", "numeric"])
        right = self.numeric(depth + 1) if right == "numeric" else right
        weights = None if right == "drop" else weights
        return FeatureUnion(
            [("left", self.numeric(depth + 1)), ("right", right)], transformer_weights=weights
        )

    def inner_columns(self):
        other = self.draw.choice(["passthrough", "drop", MinMaxScaler()])
        rest = self.draw.choice(["passthrough", "drop", StandardScaler()])
        parts = [("scaled", StandardScaler(), [0]), ("other", other, slice(1, 2))]
        return ColumnTransformer(
            parts, remainder=rest, transformer_weights=self.draw.choice([None, {"scaled": 2.0}])
        )

    def front(self):
        """Columns of the frame as numbers."""
        encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=self.draw.random() < 0.5)
        fill = SimpleImputer(strategy="constant", fill_value="none")
        parts = [
            ("numbers", self.numeric(), self.chosen(NUMBERS)),
            ("texts", make_pipeline(fill, encoder), self.chosen(TEXTS)),
        ]
        if self.draw.random() < 0.4:
            numeric = make_column_selector(dtype_include="number")
            parts.append(("selected", make_pipeline(SimpleImputer(), StandardScaler()), numeric))
        if self.draw.random() < 0.4:
            parts.append(("kept", "passthrough", ["count"]))
        rest = self.draw.choice(
            ["drop", "passthrough", make_pipeline(FunctionTransformer(), StandardScaler())]
        )
        made = ColumnTransformer(
            parts, remainder=rest, sparse_threshold=self.draw.choice([0, 0.3, 1])
        )
        if not encoder.sparse_output and self.draw.random() < 0.3:
            made.set_output(transform="pandas")
        return made

    def last(self):
        """A classifier, a detector, clusters, or no model at all."""
        plain = LogisticRegression(max_iter=500)
        scaled = make_pipeline(StandardScaler(with_mean=False), plain)
        forest = RandomForestClassifier(4, random_state=0)
        return self.draw.choice(
            [
                plain,
                LinearSVC(),
                DecisionTreeClassifier(max_depth=3, random_state=0),
                KMeans(3, random_state=0, n_init=1),
                IsolationForest(n_estimators=5, random_state=0),
                FixedThresholdClassifier(plain, threshold=0.3),
                TunedThresholdClassifierCV(scaled, cv=3),
                CalibratedClassifierCV(LinearSVC(), cv=2, ensemble=False),
                GridSearchCV(scaled, {"logisticregression__C": [0.1, 1]}, cv=2),
                VotingClassifier(
                    [("a", plain), ("b", forest)], voting=self.draw.choice(["soft", "hard"])
                ),
                StackingClassifier([("a", plain), ("b", forest)], plain, cv=2),
                Pipeline([("same", "passthrough"), ("model", plain)]),
                "passthrough",
            ]
        )

    def model(self):
        """A pipeline, at times within a search, a vote or another pipeline."""
        last = self.last()
        front = self.front()
        whole = Pipeline([("front", front), ("last", last)])
        classifier = hasattr(last, "predict_proba") or isinstance(last, LinearSVC)
        if not classifier:
            return self.draw.choice([whole, Pipeline([("whole", whole)])])
        nested = [
            whole,
            Pipeline([("front", front), ("rest", Pipeline([("inner", last)]))]),
            TunedThresholdClassifierCV(whole, cv=2),
            GridSearchCV(whole, {"front__sparse_threshold": [0]}, cv=2),
            VotingClassifier([("a", whole), ("b", clone(whole))]),
        ]
        return self.draw.choice(nested)


def by_name(names):
    """A function that chooses columns."""
    return lambda rows: [name for name in rows.columns if name in names]


@some("seed", range(10), 2)
def test_any_nesting_answers_as_its_source(tmp_path, seed):
    source = Composer(seed).model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source.fit(FRAME, LABEL)
        agrees(source, tmp_path, unseen(seed))


def filled():
    return make_pipeline(SimpleImputer(), StandardScaler())


def of_names():
    """Columns by the names that a frame between two steps has."""
    first = ColumnTransformer([("n", SimpleImputer(), NUMBERS), ("t", "passthrough", TEXTS)])
    encoder = OneHotEncoder(handle_unknown="ignore")
    second = ColumnTransformer(
        [("scaled", StandardScaler(), ["n__weight", "n__length"]), ("codes", encoder, ["t__kind"])]
    )
    return [first.set_output(transform="pandas"), second]


def renamed():
    """As `of_names`, with names that are not prefixed, and in another order."""
    parts = [("n", "passthrough", NUMBERS), ("t", "passthrough", TEXTS)]
    first = ColumnTransformer(parts, verbose_feature_names_out=False).set_output(transform="pandas")
    encoder = OneHotEncoder(handle_unknown="ignore")
    texts = make_column_selector(dtype_exclude="number")
    second = ColumnTransformer(
        [("scaled", filled(), ["weight", "length"]), ("codes", encoder, texts)]
    )
    return [first, second]


FRONTS = {
    "names": of_names,
    "other names": renamed,
    "mask": lambda: [
        ColumnTransformer([("n", SimpleImputer(), np.array([True] * 3 + [False] * 4))])
    ],
    "slice of names": lambda: [
        ColumnTransformer([("n", SimpleImputer(), slice("length", "weight"))])
    ],
    "last position": lambda: [ColumnTransformer([("n", SimpleImputer(), [-7, 2])])],
    "one column twice": lambda: [
        ColumnTransformer(
            [("a", SimpleImputer(), NUMBERS), ("b", SimpleImputer(strategy="median"), ["width"])]
        )
    ],
    "remainder encoded": lambda: [
        ColumnTransformer(
            [("n", SimpleImputer(), NUMBERS)], remainder=OneHotEncoder(handle_unknown="ignore")
        )
    ],
    "remainder kept": lambda: [
        ColumnTransformer(
            [("t", OneHotEncoder(handle_unknown="ignore"), TEXTS)], remainder="passthrough"
        ),
        SimpleImputer(),
    ],
    "union of frames": lambda: [
        ColumnTransformer([("n", filled(), NUMBERS)]),
        FeatureUnion(
            [("p", PCA(2)), ("k", KMeans(3, random_state=0)), ("same", "passthrough")]
        ).set_output(transform="pandas"),
    ],
    "frozen": lambda: [FrozenEstimator(ColumnTransformer([("n", filled(), NUMBERS)]).fit(FRAME))],
}


@some("front", FRONTS, 3)
def test_columns_are_chosen_as_by_scikit_learn(tmp_path, front):
    source = make_pipeline(*FRONTS[front](), LogisticRegression()).fit(FRAME, LABEL)
    agrees(source, tmp_path, unseen(3))


def test_a_pipeline_with_a_memory(tmp_path):
    steps = [ColumnTransformer([("n", filled(), NUMBERS)]), LogisticRegression()]
    source = make_pipeline(*steps, memory=str(tmp_path / "cache")).fit(FRAME, LABEL)
    agrees(source, tmp_path, unseen(4))


TRANSFORMERS = {
    "sparse": ColumnTransformer(
        [("t", OneHotEncoder(handle_unknown="ignore"), TEXTS)], sparse_threshold=1
    ),
    "whole numbers": ColumnTransformer([("n", "passthrough", ["count"])]),
    "booleans": ColumnTransformer([("n", "passthrough", ["open"])]),
    "numbers of several types": ColumnTransformer(
        [("n", filled(), NUMBERS), ("p", "passthrough", ["open", "count"])]
    ),
    "gaps": ColumnTransformer([("n", "passthrough", NUMBERS)]),
    "strings": ColumnTransformer([("t", SimpleImputer(strategy="most_frequent"), TEXTS)]),
    "kept strings": ColumnTransformer([("t", "passthrough", ["place"])]),
    "union of strings": FeatureUnion(
        [
            ("a", ColumnTransformer([("t", "passthrough", ["place"])])),
            (
                "b",
                ColumnTransformer(
                    [("t", SimpleImputer(strategy="constant", fill_value="?"), ["kind"])]
                ),
            ),
        ]
    ),
}


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
@some("name", TRANSFORMERS, 2)
def test_transformers_alone(tmp_path, name, output):
    source = clone(TRANSFORMERS[name])
    if output != "default":
        pytest.importorskip(output)
        if name == "sparse":
            pytest.skip("sparse columns are no frame")
        source.set_output(transform=output)
    source.fit(FRAME)
    agrees(source, tmp_path, unseen(5))
    mk.save(source, tmp_path / "j.mk", example=FRAME, name="m", version="1", format="joblib")
    with mk.load(
        tmp_path / "j.mk", allow={"joblib"}, digest=mk.inspect(tmp_path / "j.mk").digest
    ) as model:
        assert model.predict(FRAME).shape == (ROWS, len(source.get_feature_names_out()))


@pytest.mark.parametrize("form", ["onnx", "joblib"])
def test_numbers_and_strings_side_by_side_are_refused(tmp_path, form):
    source = ColumnTransformer([("n", filled(), NUMBERS), ("t", "passthrough", TEXTS)]).fit(FRAME)
    given = {"format": form} if form == "joblib" else {}
    with pytest.raises(
        mk.errors.ConversionError, match=r"columns of numbers and of strings.*\[3, 4\]"
    ):
        mk.save(source, tmp_path / "m.mk", example=FRAME, name="m", version="1", **given)


def test_no_columns_at_all_are_refused(tmp_path):
    source = ColumnTransformer([("n", "drop", NUMBERS)]).fit(FRAME)
    with pytest.raises(mk.errors.ConversionError, match="gives zero columns"):
        mk.save(source, tmp_path / "m.mk", example=FRAME, name="m", version="1")


@pytest.mark.parametrize(
    "last", [Ridge(), MultiOutputRegressor(Ridge()), TransformedTargetRegressor(Ridge())], ids=str
)
def test_several_targets(tmp_path, last):
    targets = np.c_[FRAME["weight"], LABEL]
    source = make_pipeline(
        ColumnTransformer([("n", filled(), NUMBERS), ("t", OrdinalEncoder(), ["place"])]), last
    )
    source.fit(FRAME, targets)
    rows = unseen(6)
    rows["place"] = "d"
    assert agrees(source, tmp_path, rows)["prediction"].shape == (len(rows), 2)


@pytest.mark.parametrize("numbers", [True, False])
@some(
    "chosen",
    [
        ["age", "fare"],
        make_column_selector(dtype_include=float),
        np.array([True, True, False]),
        slice("age", "fare"),
        [1],
    ],
    2,
    ids=["names", "selector", "mask", "slice", "position"],
)
@pytest.mark.parametrize("rest", ["passthrough", "drop"])
def test_columns_may_be_chosen_in_any_way(chosen, rest, numbers, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"age": rng.normal(size=99), "fare": rng.random(99), "k": rng.integers(0, 3, 99)}
    )
    parts = [(StandardScaler(), chosen)]
    if not numbers:
        X["sex"] = rng.choice(["u", "v"], 99)
        parts.append((OneHotEncoder(), ["sex"]))
        chosen = np.append(chosen, False) if isinstance(chosen, np.ndarray) else chosen
        parts[0] = (StandardScaler(), chosen)
    transformer = make_column_transformer(*parts, remainder=rest)
    pipeline = make_pipeline(transformer, LogisticRegression()).fit(X, X["age"] > X["fare"])
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(
        model.predict_proba(X[::-1]), pipeline.predict_proba(X[::-1]), atol=1e-9
    )
    shuffled = X[X.columns[::-1]]
    np.testing.assert_array_equal(model.predict(shuffled), pipeline.predict(X))


Logistic = linear_model.LogisticRegression
NESTED = {
    "network": MLPClassifier((8,), max_iter=30, **SEED),
    "neighbours": neighbors.KNeighborsClassifier(weights="distance"),
    "discriminant": LinearDiscriminantAnalysis(),
    "process": GaussianProcessClassifier(kernels.RBF(2.0), optimizer=None),
    "calibrated": CalibratedClassifierCV(linear_model.SGDClassifier(**SEED), method="temperature"),
    "code": OutputCodeClassifier(Logistic(), **SEED),
}


@some("name", NESTED, 2)
def test_behind_columns_with_strings_and_gaps(name, tmp_path):
    X, y = penguins()
    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()),
            ["island", "sex"],
        ),
        sparse_threshold=0,
    )
    estimator = make_pipeline(columns, NESTED[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X[::2], y[::2])
        mk.save(estimator, tmp_path / "m.mk", example=X[::2], name="m", version="1")
        model = mk.load(tmp_path / "m.mk")
        np.testing.assert_array_equal(model.predict(X), estimator.predict(X))
        if hasattr(estimator, "predict_proba"):
            np.testing.assert_allclose(
                model.predict_proba(X), estimator.predict_proba(X), rtol=0, atol=1e-11
            )
