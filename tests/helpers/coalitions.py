"""Models to explain, and what their explanations must be: brute force over all coalitions."""

import itertools
import math
import warnings

import numpy as np
from sklearn import compose, ensemble, impute, linear_model, neural_network, preprocessing
from sklearn.pipeline import make_pipeline

import modelkit as mk
from modelkit.explain import subject

from .kinds import KINDS

SEED = {"random_state": 0}
LIBRARIES = KINDS[-1].library != "sklearn"  # whether the boosting libraries are installed


def brute(f, rows, background):
    """Interventional Shapley values (n, d, k) and base (k,) of f over rows of any type, by all coalitions."""
    rows, background = np.asarray(rows), np.asarray(background)
    n, d = rows.shape
    worth = {}
    for size in range(d + 1):
        for coalition in itertools.combinations(range(d), size):
            mixed = np.repeat(background[None], n, axis=0)
            mixed[:, :, list(coalition)] = rows[:, None, list(coalition)]
            answers = np.asarray(f(mixed.reshape(-1, d)), np.float64)
            worth[coalition] = answers.reshape(n, len(background), -1).mean(axis=1)
    values = np.zeros((n, d, next(iter(worth.values())).shape[1]))
    for coalition, without in worth.items():
        share = (
            math.factorial(len(coalition)) * math.factorial(d - len(coalition) - 1)
            if len(coalition) < d
            else 0
        )
        for j in set(range(d)) - set(coalition):
            values[:, j] += (
                share / math.factorial(d) * (worth[tuple(sorted({*coalition, j}))] - without)
            )
    return values, worth[()][0]


def agree(explanation, truth, base, within=1e-5):
    """An explanation has these values (n, d, k) and this base, within a share of the largest of them."""
    scale = max(1.0, np.abs(truth).max(), np.abs(base).max())
    assert explanation.values.shape == truth.shape
    assert explanation.base_values.shape == (len(truth), truth.shape[2])
    assert len(explanation.output_names) == truth.shape[2]
    np.testing.assert_allclose(explanation.values, truth, rtol=0, atol=within * scale)
    np.testing.assert_allclose(explanation.base_values, np.broadcast_to(base, explanation.base_values.shape),
                               rtol=0, atol=within * scale)  # fmt: skip


def saved(model, folder, example=None, **options):
    """A model from a package of its own in the folder."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"m{len(list(folder.iterdir()))}.mk"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mk.save(model, path, example=example, name="m", version="1", **options)
    return mk.load(path)


def asked(model):
    """The output to ask for: of a model of several labels, the probabilities of the second."""
    return "probabilities_1" if "probabilities_1" in model.signature.output_names else "auto"


def served(model):
    """The output that is explained, of rows, as numbers."""
    name = asked(model)
    if name == "auto":
        name = subject._served_output(model.signature)
    return lambda rows: np.asarray(model.run(rows)[name], float)


def margin(estimator):
    """What an estimator computes before its sigmoid, softmax or exponential: (n,) or (n, k)."""
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    kind, library = type(last).__name__, type(last).__module__.partition(".")[0]
    if library == "xgboost":
        return lambda rows: estimator.predict(rows, output_margin=True)
    if library == "lightgbm":
        trees = last.n_estimators if last.boosting_type == "rf" and kind == "LGBMClassifier" else 1
        # Of a forest, it is the sum of the trees.
        return lambda rows: estimator.predict(rows, raw_score=True) / trees
    if library == "catboost":
        return lambda rows: estimator.predict(rows, prediction_type="RawFormulaVal")
    if kind in ("PoissonRegressor", "GammaRegressor"):
        return lambda rows: np.log(estimator.predict(rows))
    return estimator.decision_function


def brute_by_codes(f, rows, background, is_margin):
    """Brute force over a frame with pandas categories, by the places of rows."""
    import pandas as pd

    both = pd.concat([rows, background])
    places = np.arange(len(both))[:, None].repeat(both.shape[1], axis=1)

    def ask(chosen):
        mixed = pd.DataFrame(
            {name: both[name].array.take(chosen[:, j]) for j, name in enumerate(both.columns)}
        )
        answers = np.asarray(f(mixed))
        return answers if is_margin else answers.reshape(len(answers), -1)

    return brute(ask, places[: len(rows)], places[len(rows) :])


def small(classes=2, columns=6, rows=400, whole=False, holes=False, seed=0):
    """Data of few columns, float32: whole numbers that equal thresholds, and missing values, on request."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns))
    X = np.rint(2 * X) if whole else X
    signal = X[:, 0] * X[:, 1] + np.abs(X[:, 2]) - X[:, 3 % columns] * (X[:, 0] > 0)
    y = (
        signal
        if classes == 0
        else np.searchsorted(np.quantile(signal, np.linspace(0, 1, classes + 1)[1:-1]), signal)
    )
    if holes:
        X[rng.random(X.shape) < 0.15] = np.nan
    return X.astype(np.float32), y


def penguin_pipeline(last):
    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    imputed = make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    encoded = make_pipeline(
        impute.SimpleImputer(strategy="most_frequent"),
        preprocessing.OneHotEncoder(handle_unknown="ignore"),
    )
    columns = compose.make_column_transformer((imputed, numbers), (encoded, ["island", "sex"]))
    return make_pipeline(columns, last)


METHODS = ["trees", "deep", "additive", "enumeration", "sampling"]


def models_by_method(folder):
    """A model that is explained by each method, and its rows."""
    X, y = small(2)
    many, labels = small(2, columns=14)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ensemble.GradientBoostingClassifier(n_estimators=20, **SEED).fit(X, y)
        deep = ensemble.RandomForestClassifier(5, **SEED).fit(many, labels)
        line = make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()).fit(
            many, labels
        )
        network = neural_network.MLPClassifier((16, 8), max_iter=300, **SEED)
        return {
            "trees": (saved(tree, folder, X), X),
            "deep": (saved(deep, folder, many), many),
            "additive": (saved(line, folder, many), many),
            "enumeration": (saved(network.fit(X, y), folder, X), X),
            "sampling": (saved(network.fit(many, labels), folder, many), many),
        }
