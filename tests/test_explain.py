"""Explanations: exact ones against brute force and shap, sampled ones against their errors, and both against misuse."""

import dataclasses
import itertools
import json
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kinds import KINDS, cancer, penguins
from onnx import TensorProto, helper, numpy_helper
from sklearn import (
    compose,
    datasets,
    decomposition,
    ensemble,
    impute,
    linear_model,
    neural_network,
    preprocessing,
    svm,
)
from sklearn.datasets import make_classification, make_regression
from sklearn.pipeline import make_pipeline
from test_purity import run
from threadpoolctl import threadpool_limits

import modelkit as mk
from modelkit.errors import AdditivityError, ExplainError, SignatureError
from modelkit.explain import exact, sampling, structure, subject, table
from modelkit.explain.ensemble import decode_ensemble
from modelkit.explain.graph import whole_proto
from modelkit.explain.method import check_gap
from modelkit.explain.nodes import NotDecodableError

EXPLANATION = Path(__file__).parent / "golden" / "explanation1.json"
SEED = {"random_state": 0}
LIBRARIES = KINDS[-1].library != "sklearn"  # whether the boosting libraries are installed
BY_ID = {kind.id: kind for kind in KINDS}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For what scikit-learn trains: on a busy machine, its threads wait for one another for seconds."""
    with threadpool_limits(1):
        yield


# Brute force, written from the definition and sharing nothing with the engine.


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
    scale = max(1.0, np.abs(truth).max(), np.abs(base).max())
    assert explanation.values.shape == truth.shape
    assert explanation.base_values.shape == (len(truth), truth.shape[2])
    assert len(explanation.output_names) == truth.shape[2]
    np.testing.assert_allclose(explanation.values, truth, rtol=0, atol=within * scale)
    np.testing.assert_allclose(explanation.base_values, np.broadcast_to(base, explanation.base_values.shape),
                               rtol=0, atol=within * scale)  # fmt: skip


def saved(model, folder, example=None, **options):
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
        return lambda rows: (
            estimator.predict(rows, raw_score=True) / trees
        )  # of a forest, it is the sum of the trees
    if library == "catboost":
        return lambda rows: estimator.predict(rows, prediction_type="RawFormulaVal")
    if kind in ("PoissonRegressor", "GammaRegressor"):
        return lambda rows: np.log(estimator.predict(rows))
    return estimator.decision_function


# Exactness over the kinds of models that can be converted.

STRUCTURED = {  # what must be explained by structure, and by which
    "additive": [
        "linear: LogisticRegression",
        "linear: LinearRegression", "linear: Ridge", "linear: Lasso", "linear: ElasticNet", "linear: BayesianRidge",
        "linear: HuberRegressor", "linear: PoissonRegressor", "linear: GammaRegressor",
        "combinations: GridSearchCV", "calibrated: FixedThresholdClassifier", "several outputs: MultiOutputRegressor",
        "support vectors: LinearSVR",
    ],
    "trees": [
        "trees: DecisionTreeClassifier", "trees: DecisionTreeRegressor", "trees: ExtraTreeClassifier",
        "trees: RandomForestClassifier", "trees: RandomForestRegressor", "trees: ExtraTreesClassifier",
        "trees: ExtraTreesRegressor", "boosting: GradientBoostingClassifier", "boosting: GradientBoostingRegressor",
        "boosting: HistGradientBoostingClassifier", "boosting: HistGradientBoostingRegressor",
        "several outputs: RandomForestRegressor",
    ],
}  # fmt: skip
BOOSTED = [kind.id for kind in KINDS if kind.library != "sklearn"]
ANY = [  # by whatever method, but right
    "combinations: OneVsRestClassifier", "combinations: BaggingClassifier", "boosting: AdaBoostRegressor",
    "calibrated: CalibratedClassifierCV, sigmoid", "several outputs: OneVsRestClassifier, multi-label",
    "several outputs: DecisionTreeClassifier", "combinations: VotingRegressor",
    "discriminants: LinearDiscriminantAnalysis", "linear: SGDClassifier", "naive Bayes: GaussianNB",
    "networks: MLPClassifier", "outliers: IsolationForest",
]  # fmt: skip


@pytest.mark.parametrize("name", [*STRUCTURED["additive"], *STRUCTURED["trees"], *BOOSTED, *ANY])
def test_values_of_every_kind_are_those_of_all_coalitions(name, tmp_path):
    kind = BY_ID[name]
    X, y = kind.data()
    frame = X if hasattr(X, "columns") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if frame is not None:
            X = frame.iloc[:, :6]
        else:
            X = np.asarray(X)[:, :6]
            if "float32" in kind.numbers:
                X = X.astype(np.float32)
        estimator = kind.make()
        if "n_jobs" in estimator.get_params():
            estimator.set_params(n_jobs=1)
        estimator.fit(X, y)
        model = saved(estimator, tmp_path, X)
        rows, background = X[5:60:9], X[-90::6]
        explainer = mk.Explainer(model, background=background, output=asked(model))
        explanation = explainer.explain(rows)
        assert explanation.exact
        assert explanation.std_error is None
        assert np.abs(explanation.additivity_gap).max() <= 1e-4
        method = next(
            (m for m, names in STRUCTURED.items() if name in names),
            "trees" if name in BOOSTED else None,
        )
        if method is not None:
            assert explanation.method == method, explainer.plan()
        f = margin(estimator) if explanation.output_space == "margin" else served(model)
        if "categories" in name:
            agree(
                explanation,
                *brute_by_codes(f, rows, background, explanation.output_space == "margin"),
            )
        else:
            agree(
                explanation,
                *brute(lambda r: last(f(r), explanation), np.asarray(rows), np.asarray(background)),
            )


def last(answers, explanation):
    """Of two columns that are one another's complement, the one that is explained."""
    answers = np.asarray(answers)
    answers = answers.reshape(len(answers), -1)
    return answers[:, -1:] if len(explanation.output_names) == 1 else answers


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


@pytest.mark.skipif(not LIBRARIES, reason="needs the boosting libraries")
@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost", "histogram"])
def test_whole_numbers_that_equal_thresholds_and_missing_values(library, classes, tmp_path):
    X, y = small(classes, whole=True, holes=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = boosted(library, classes).fit(X, y)
        explanation = mk.Explainer(saved(estimator, tmp_path, X), background=X[:30]).explain(
            X[40:60]
        )
        assert explanation.method == "trees"
        f = margin(estimator) if classes else estimator.predict
        agree(explanation, *brute(lambda r: f(r.astype(np.float32)), X[40:60], X[:30]))


def boosted(library, classes):
    trees, deep = {"n_estimators": 15, "n_jobs": 1}, {"max_depth": 5}
    if library == "xgboost":
        import xgboost

        return (xgboost.XGBClassifier if classes else xgboost.XGBRegressor)(
            **trees, **deep, tree_method="exact"
        )
    if library == "lightgbm":
        import lightgbm

        return (lightgbm.LGBMClassifier if classes else lightgbm.LGBMRegressor)(**trees, verbose=-1)
    if library == "catboost":
        import catboost

        options = {"iterations": 15, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
        return (catboost.CatBoostClassifier if classes else catboost.CatBoostRegressor)(**options)
    kind = (
        ensemble.HistGradientBoostingClassifier
        if classes
        else ensemble.HistGradientBoostingRegressor
    )
    return kind(max_iter=15, **SEED)


# Equality with shap on the original, where shap can run.


def by_shap(estimator, rows, background):
    shap = pytest.importorskip("shap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = shap.maskers.Independent(
            background, max_samples=len(background)
        )  # cuts to 100 rows by itself
        explainer = shap.TreeExplainer(estimator, masker, feature_perturbation="interventional")
        values = np.asarray(explainer.shap_values(rows))
    return (values if values.ndim == 3 else values[:, :, None]), np.atleast_1d(
        explainer.expected_value
    )


@pytest.mark.parametrize(
    "name", ["forest", "boosting", "regression", "hist", "deep forest", "lightgbm", "wide forest"]
)
def test_values_are_those_of_shap(name, tmp_path):
    pytest.importorskip("shap")
    X, y = cancer()
    X = X.astype(np.float32)
    if name == "lightgbm":
        X, y = make_classification(1000, 14, n_informative=10, **SEED)
        X = X.astype(np.float32)
        estimator = pytest.importorskip("lightgbm").LGBMClassifier(
            n_estimators=15, n_jobs=1, verbose=-1
        )
    elif name == "deep forest":
        X, y = make_regression(600, 13, n_informative=13, noise=5, **SEED)
        X = X.astype(np.float32)
        estimator = ensemble.RandomForestRegressor(5, **SEED)
    elif name == "regression":
        X, y = small(0, columns=10)
        estimator = ensemble.GradientBoostingRegressor(n_estimators=30, max_depth=4, **SEED)
    else:
        estimator = {
            "forest": ensemble.RandomForestClassifier(20, max_depth=5, **SEED),
            "boosting": ensemble.GradientBoostingClassifier(n_estimators=40, **SEED),
            "hist": ensemble.HistGradientBoostingClassifier(max_iter=20, **SEED),
            "wide forest": ensemble.ExtraTreesClassifier(10, **SEED),
        }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X, y)
    rows, background = X[:25], X[-150:]  # more than the 100 rows that shap takes by default
    explainer = mk.Explainer(saved(estimator, tmp_path, X), background=background)
    explanation = explainer.explain(rows)
    assert explanation.method == "trees"
    assert explanation.background_rows == 150
    truth, base = by_shap(estimator, rows, background)
    agree(
        explanation,
        truth[:, :, -explanation.values.shape[2] :],
        base[-explanation.values.shape[2] :],
    )


@pytest.mark.parametrize("classes", [0, 2, 3])
@pytest.mark.parametrize("kind", [table._Spread, table._Potential, table.PatternPairs])
def test_every_kind_of_table_agrees_with_all_coalitions(kind, classes, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "MOST_SPREAD", 16 if kind is table._Spread else -1)
    monkeypatch.setattr(table, "MOST_PLAYERS", -1 if kind is table.PatternPairs else 16)
    X, y = small(classes, columns=8)
    kinds = {
        0: ensemble.ExtraTreesRegressor,
        2: ensemble.RandomForestClassifier,
        3: ensemble.GradientBoostingClassifier,
    }
    estimator = kinds[classes](n_estimators=6, max_depth=7, max_features=2, **SEED).fit(X, y)
    background = np.concatenate(
        [X[:12], X[:5], X[:5]]
    )  # rows that are there several times weigh as much
    explainer = mk.Explainer(saved(estimator, tmp_path, X), background=background)
    groups = explainer_tables(explainer)
    assert {type(group) for group in groups} == {kind}
    explanation = explainer.explain(X[100:104])
    assert explanation.method == "trees"
    f = (
        estimator.predict
        if not classes
        else margin(estimator)
        if classes == 3
        else estimator.predict_proba
    )
    agree(explanation, *brute(f, X[100:104], background))


def explainer_tables(explainer):
    cells = [cell.cell_contents for cell in explainer._method._run.__closure__]
    return next(cell for cell in cells if isinstance(cell, table.LeafTable))._groups


def test_potentials_of_many_players_are_those_of_their_definition(monkeypatch, tmp_path):
    """Leaves of up to sixteen players, beside the pairs, which follow the definition word by word."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 16)).astype(np.float32)
    estimator = ensemble.ExtraTreesRegressor(1, max_features=1, **SEED).fit(
        X, np.sin(3 * X).sum(axis=1)
    )
    model = saved(estimator, tmp_path, X)
    whole = mk.Explainer(model, background=X[:200])
    assert (
        max(group._d for group in explainer_tables(whole) if isinstance(group, table._Potential))
        >= 12
    )
    monkeypatch.setattr(table, "MOST_PLAYERS", -1)
    parts = mk.Explainer(model, background=X[:200])
    assert {type(group) for group in explainer_tables(parts)} == {table.PatternPairs}
    np.testing.assert_allclose(
        whole.explain(X[:50]).values, parts.explain(X[:50]).values, rtol=0, atol=2e-6
    )
    np.testing.assert_allclose(
        whole.explain(X[:1]).base_values, parts.explain(X[:1]).base_values, rtol=1e-12
    )


def test_tables_that_do_not_fit_become_pairs(tmp_path, monkeypatch):
    X, y = small(2)
    estimator = ensemble.RandomForestClassifier(5, max_depth=6, **SEED).fit(X, y)
    model = saved(estimator, tmp_path, X)
    whole = mk.Explainer(model, background=X[:40])
    monkeypatch.setattr(table, "MOST_BYTES", 2000)
    parts = mk.Explainer(model, background=X[:40])
    assert {type(group) for group in explainer_tables(parts)} == {table._Spread, table.PatternPairs}
    np.testing.assert_allclose(parts.explain(X).values, whole.explain(X).values, rtol=0, atol=1e-6)
    monkeypatch.setattr(table, "MOST_PAIRS", 10)
    refused = mk.Explainer(model, background=X[:40])
    assert refused.plan().method == "enumeration"
    assert "background patterns" in str(refused.plan())


# Hand-made ensembles: what is decoded is what onnxruntime computes.

EDGES = np.array([-np.inf, -2, -1, -0.0, 0.0, 0.5, 1, 1.5, 2, 3, 29, 30, 30.5, 31, np.inf, np.nan])
SPLITS = [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]
MEMBERS = [1.0, 2.0, 3.0, 29.0, 30.0]
MODES = (
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_GTE",
    "BRANCH_GT",
    "BRANCH_EQ",
    "BRANCH_NEQ",
    "BRANCH_MEMBER",
)


def grow(rng, modes, columns, depth, splits):
    """A random tree: a leaf is its weights by target, a node (mode, column, split, members, tracks, true, false)."""
    if depth == 0 or rng.random() < 0.15:
        return float(np.round(rng.normal(), 2))
    members = tuple(float(v) for v in rng.choice(MEMBERS, rng.integers(1, 4), replace=False))
    split = float(rng.choice(splits))
    kind = str(rng.choice(modes))
    return (kind, int(rng.integers(columns)), split, members, bool(rng.integers(2)),
            *(grow(rng, modes, columns, depth - 1, splits) for _ in range(2)))  # fmt: skip


def new_node(trees, targets, dtype, tracks, **options):
    """A TreeEnsemble of ai.onnx.ml 5."""
    nodes, leaves, roots, members = [], [], [], []

    def put(tree, target):
        if not isinstance(tree, tuple):
            leaves.append((target, tree))
            return len(leaves) - 1, 1
        mode, column, split, among, missing, true, false = tree
        at = len(nodes)
        nodes.append(None)
        if mode == "BRANCH_MEMBER":
            members.extend([*among, np.nan])
        found = [put(child, target) for child in (true, false)]
        nodes[at] = (MODES.index(mode), column, split, missing, *found[0], *found[1])
        return at, 0

    for i, tree in enumerate(trees):
        at, leaf = put(tree, i % targets)
        if leaf:  # a tree of one leaf is a node whose branches both end there
            nodes.append((0, 0, 0.0, False, at, 1, at, 1))
            at = len(nodes) - 1
        roots.append(at)
    mode, column, split, missing, true, true_leaf, false, false_leaf = zip(*nodes, strict=True)
    given = {
        "tree_roots": roots, "n_targets": targets, "nodes_featureids": column,
        "nodes_splits": numpy_helper.from_array(np.array(split, dtype)),
        "nodes_modes": numpy_helper.from_array(np.array(mode, np.uint8)),
        "nodes_truenodeids": true, "nodes_trueleafs": true_leaf, "nodes_falsenodeids": false,
        "nodes_falseleafs": false_leaf, "leaf_targetids": [target for target, _ in leaves],
        "leaf_weights": numpy_helper.from_array(np.array([weight for _, weight in leaves], dtype)),
    } | options  # fmt: skip
    if members:
        given["membership_values"] = numpy_helper.from_array(np.array(members, dtype))
    if tracks:
        given["nodes_missing_value_tracks_true"] = [int(m) for m in missing]
    return helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", **given)


def old_node(
    trees,
    targets,
    dtype,
    tracks,
    *,
    op="TreeEnsembleRegressor",
    inputs="x",
    outputs=("y",),
    **options,
):
    """A TreeEnsembleRegressor, or Classifier, of ai.onnx.ml 3, with attributes of doubles where asked for."""
    kind = "target" if op == "TreeEnsembleRegressor" else "class"
    nodes, weights = [], []
    for number, tree in enumerate(trees):
        todo, count = [(tree, 0)], 1
        while todo:
            node, at = todo.pop(0)
            if not isinstance(node, tuple):
                nodes.append((number, at, "LEAF", 0, 0.0, 0, 0, 0))
                weights.append((number, at, number % targets, node))
                continue
            mode, column, split, _, missing, true, false = node
            nodes.append((number, at, mode, column, split, int(missing), count, count + 1))
            todo += [(true, count), (false, count + 1)]
            count += 2
    tree_ids, ids, modes, columns, splits, missing, true, false = zip(*nodes, strict=True)
    of_tree, of_node, of_target, weight = zip(*weights, strict=True)
    given = {
        "nodes_treeids": tree_ids, "nodes_nodeids": ids, "nodes_modes": modes, "nodes_featureids": columns,
        "nodes_truenodeids": true, "nodes_falsenodeids": false,
        f"{kind}_treeids": of_tree, f"{kind}_nodeids": of_node, f"{kind}_ids": of_target,
    }  # fmt: skip
    numbers = {"nodes_values": splits, f"{kind}_weights": weight}
    if "base_values" in options:
        numbers["base_values"] = options.pop("base_values")
    for name, values in numbers.items():
        if dtype == np.float64:
            given[f"{name}_as_tensor"] = numpy_helper.from_array(np.array(values, dtype))
        else:
            given[name] = [float(v) for v in values]
    if kind == "target":
        given["n_targets"] = targets
    if tracks:
        given["nodes_missing_value_tracks_true"] = missing
    return helper.make_node(op, [inputs], list(outputs), domain="ai.onnx.ml", **given | options)


ELEMENTS = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE, np.int64: TensorProto.INT64,
            str: TensorProto.STRING}  # fmt: skip


def graph(nodes, *, inputs, outputs, constants=None):
    """A model of nodes: inputs and outputs are {name: (type, width)}."""
    infos = [
        [
            helper.make_tensor_value_info(name, ELEMENTS[kind], ["batch", width])
            for name, (kind, width) in side.items()
        ]
        for side in (inputs, outputs)
    ]
    stored = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in (constants or {}).items()
    ]
    made = helper.make_graph(nodes, "g", *infos, stored)
    newest = any(
        node.op_type == "TreeEnsemble" for node in nodes
    )  # which drops the older operators
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5 if newest else 3)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def answers(proto, rows, name="y"):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {"x": rows})[0]


def by_leaves(leaves, rows):
    met = leaves.conditions.met(rows)
    out = np.repeat(leaves.base[None], len(rows), axis=0)
    parts = np.split(leaves.path, leaves.starts[1:-1])[
        : len(leaves.values)
    ]  # one piece where there is no leaf
    for path, value in zip(parts, leaves.values, strict=True):
        out += met[:, path].all(axis=1)[:, None] * value
    return out


def near(splits, dtype, columns, rng):
    """Rows of edges, splits and the numbers beside them."""
    splits = np.array(splits, dtype)
    both = [np.nextafter(splits, dtype(np.inf)), np.nextafter(splits, dtype(-np.inf))]
    return rng.choice(np.concatenate([EDGES.astype(dtype), splits, *both]), (300, columns))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1), new=st.booleans(), dtype=st.sampled_from([np.float32, np.float64]),
    modes=st.sets(st.sampled_from(MODES), min_size=1), tracks=st.booleans(), targets=st.integers(1, 3),
    average=st.booleans(), bases=st.booleans(), edge=st.sampled_from([None, None, np.inf, -np.inf, 0.1, 1e-40]),
)  # fmt: skip
def test_leaves_say_what_onnxruntime_says(  # noqa: PLR0917 - hypothesis passes them by name
    seed, new, dtype, modes, tracks, targets, average, bases, edge
):
    rng = np.random.default_rng(seed)
    modes = sorted(modes if new else (modes - {"BRANCH_MEMBER"}) or {"BRANCH_EQ"})
    splits = SPLITS if edge is None else [*SPLITS, edge, edge]
    trees = [
        grow(rng, modes, 3, 4, [float(dtype(s)) for s in splits])
        for _ in range(rng.integers(targets, 5))
    ]
    if new:
        node = new_node(trees, targets, dtype, tracks, aggregate_function=0 if average else 1)
    else:
        more = {"base_values": np.arange(1, targets + 1)} if bases else {}
        node = old_node(
            trees,
            targets,
            dtype,
            tracks,
            aggregate_function="AVERAGE" if average else "SUM",
            **more,
        )
    proto = graph(
        [node], inputs={"x": (dtype, 3)}, outputs={"y": (dtype if new else np.float32, targets)}
    )
    rows = near(splits, dtype, 3, rng)
    leaves = decode_ensemble(node, dtype)
    assert leaves.base.shape == (targets,)
    np.testing.assert_allclose(by_leaves(leaves, rows), answers(proto, rows), rtol=0, atol=1e-5)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    new=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_values_of_random_ensembles_are_those_of_all_coalitions(seed, new, dtype, tmp_path_factory):
    rng = np.random.default_rng(seed)
    trees = [grow(rng, MODES if new else MODES[:-1], 4, 4, SPLITS) for _ in range(5)]
    make = new_node if new else old_node
    proto = graph([make(trees, 2, dtype, tracks=True)], inputs={"x": (dtype, 4)},
                  outputs={"y": (dtype if new else np.float32, 2)})  # fmt: skip
    model = saved(proto, tmp_path_factory.mktemp("random"))
    rows = near(SPLITS, dtype, 4, rng)
    explanation = mk.Explainer(model, background=rows[:20]).explain(rows[20:30])
    assert explanation.method == "trees"
    agree(explanation, *brute(lambda r: answers(proto, r), rows[20:30], rows[:20]))


def tree_of(column=0, split=0.0, low=0.25, high=0.75, mode="BRANCH_LEQ"):
    return (mode, column, split, (split,), False, low, high)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("classes", [[0, 0], [1, 1], [0, 1]])
@pytest.mark.parametrize("bases", [None, [0.125], [0.125, 0.25]])
def test_classifiers_of_two_classes_are_right_or_refused(
    transform, positive, classes, bases, tmp_path
):
    """onnxruntime writes the second column in several ways: whatever is claimed must be what it serves."""
    if bases == [0.125] and classes == [0, 1]:
        pytest.skip("onnxruntime reads past the end of such bases")
    sign = 1 if positive else -1
    trees = [
        tree_of(0, 0.0, 0.125, 0.25),
        tree_of(1, 1.0, 0.25 * sign, 0.0625),
        tree_of(0, 2.0, 0.0625, 0.125),
    ]
    given = {
        "classlabels_int64s": [0, 1],
        "post_transform": transform,
        **({"base_values": bases} if bases else {}),
    }
    node = old_node(
        trees,
        2,
        np.float32,
        tracks=False,
        op="TreeEnsembleClassifier",
        outputs=("label", "y"),
        **given,
    )
    ids = next(a for a in node.attribute if a.name == "class_ids")
    ids.ints[:] = [classes[i % 2] for i in range(len(ids.ints))]
    proto = graph([node], inputs={"x": (np.float32, 2)}, outputs={"y": (np.float32, 2)})
    rows = np.random.default_rng(0).choice(np.float32([-1, 0, 0.5, 1, 2, 3]), (60, 2))
    try:
        model = saved(proto, tmp_path)
        if np.isnan(answers(proto, rows)).any():
            pytest.skip("onnxruntime gives no numbers")
    except mk.errors.GraphError:
        pytest.skip("onnxruntime refuses it")
    explanation = mk.Explainer(model, background=rows[:20]).explain(rows[20:])
    assert explanation.values.shape[2] == len(explanation.output_names)
    total = explanation.base_values + explanation.values.sum(axis=1)
    if explanation.output_space == "margin":
        bare = helper.make_node("Identity", ["x"], ["y"])
        bare.CopyFrom(node)
        next(a for a in bare.attribute if a.name == "post_transform").s = b"NONE"
        plain = graph([bare], inputs={"x": (np.float32, 2)}, outputs={"y": (np.float32, 2)})

        def f(r):
            got = answers(plain, r)
            return (
                got
                if total.shape[1] == 2
                else got[:, 1:] - (got[:, :1] if transform == "SOFTMAX" else 0)
            )

        odds = 1 / (1 + np.exp(-total[:, -1])) if total.shape[1] == 1 else None
        if odds is not None:
            np.testing.assert_allclose(odds, answers(proto, rows[20:])[:, -1], atol=1e-5)
    else:

        def f(r):
            return answers(proto, r)[:, -total.shape[1] :]

    agree(explanation, *brute(f, rows[20:], rows[:20]))


@pytest.mark.parametrize("members", [(1.0, 31.0), (-1.0, 2.0), (0.0,), (40.0, 1.0), ()])
def test_sets_that_onnxruntime_misreads_are_not_decoded(members):
    node = new_node(
        [("BRANCH_MEMBER", 0, 1.0, members, False, 1.0, 2.0)], 1, np.float32, tracks=True
    )
    with pytest.raises(NotDecodableError, match="set of a branch"):
        decode_ensemble(node, np.float32)


def test_a_base_that_no_leaf_adds_to_is_left_out_by_onnxruntime(tmp_path):
    node = old_node(
        [tree_of(0), tree_of(1)], 3, np.float32, tracks=False, base_values=[1.0, 2.0, 4.0]
    )
    proto = graph([node], inputs={"x": (np.float32, 2)}, outputs={"y": (np.float32, 3)})
    assert not answers(proto, np.zeros((1, 2), np.float32))[0, 2]
    with pytest.raises(NotDecodableError, match="base value"):
        decode_ensemble(node, np.float32)
    ids = next(a for a in node.attribute if a.name == "target_ids")
    ids.ints[:] = [0, 1, 2, 2]  # the first tree adds to either of two
    with pytest.raises(NotDecodableError, match="base value"):
        decode_ensemble(node, np.float32)


def test_least_and_largest_trees_are_no_sum(tmp_path):
    trees = [tree_of(0), tree_of(1, 1.0)]
    rows = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    for node in (
        new_node(trees, 1, np.float32, tracks=True, aggregate_function=2),
        old_node(trees, 1, np.float32, tracks=True, aggregate_function="MAX"),
    ):
        proto = graph([node], inputs={"x": (np.float32, 2)}, outputs={"y": (np.float32, 1)})
        explainer = mk.Explainer(saved(proto, tmp_path), background=rows)
        assert explainer.plan().method == "enumeration"
        agree(explainer.explain(rows), *brute(lambda r, proto=proto: answers(proto, r), rows, rows))


def test_a_chain_of_seventy_columns_is_too_deep(tmp_path):
    tree = 1.0
    for column in range(70):
        tree = ("BRANCH_LEQ", column, 0.0, (0.0,), False, tree, 0.5)
    proto = graph([old_node([tree], 1, np.float32, tracks=False)], inputs={"x": (np.float32, 70)},
                  outputs={"y": (np.float32, 1)})  # fmt: skip
    rows = -np.abs(np.random.default_rng(0).normal(size=(12, 70))).astype(np.float32)
    explainer = mk.Explainer(saved(proto, tmp_path), background=rows)
    assert explainer.plan().method == "sampling"
    assert "70 columns" in str(explainer.plan())


def test_forty_columns_on_one_path_are_exact(tmp_path):
    """The leaf is reached by nobody but all together: of what it adds, each of those that differ gets an equal part."""
    tree = 8.0
    for column in range(40):
        tree = ("BRANCH_LEQ", column, 0.0, (0.0,), False, tree, 0.0)
    proto = graph([old_node([tree], 1, np.float32, tracks=False)], inputs={"x": (np.float32, 40)},
                  outputs={"y": (np.float32, 1)})  # fmt: skip
    explainer = mk.Explainer(saved(proto, tmp_path), background=np.ones((3, 40), np.float32))
    assert explainer.plan().method == "trees"
    values = explainer.explain(-np.ones((1, 40), np.float32)).values
    np.testing.assert_allclose(values, 0.2, rtol=1e-6)


# Graphs that a careless reading of the structure gets wrong: whatever the method, the values must
# be right.


def concat_of_encoders():
    """Encoders of one column each, joined in the third dimension; the second dimension is then of size one."""
    options = {"domain": "ai.onnx.ml", "cats_int64s": [0, 1, 2], "zeros": 1}
    return [helper.make_node("OneHotEncoder", [name], [f"{name}1"], **options) for name in "ab"]


def odd_graphs():
    f32, x3 = np.float32, {"x": (np.float32, 3)}
    y = {"y": (np.float32, 1)}
    ab = {"a": (np.int64, 1), "b": (np.int64, 1)}
    tree, node = (
        [tree_of(0), tree_of(1, 0.5, -1.0, 2.0), tree_of(2, -0.5, 3.0, -1.0)],
        helper.make_node,
    )
    pair = [
        ("BRANCH_LEQ", 0, 0.5, (), False, tree_of(4, 0.5, 1.0, 5.0), tree_of(3, 0.5, -2.0, 0.0))
    ]
    product = (
        "BRANCH_LEQ",
        0,
        0.0,
        (),
        False,
        tree_of(1, 0.0, 1.0, 5.0),
        tree_of(2, 0.0, -2.0, 0.0),
    )
    yield "gather in the second dimension", graph(
        [*concat_of_encoders(), node("Concat", ["a1", "b1"], ["c"], axis=-1), node("Gather", ["c", "i"], ["t"], axis=1),
         old_node(pair, 1, f32, tracks=False, inputs="t")],
        inputs=ab, outputs=y, constants={"i": np.int64(0)})  # fmt: skip
    yield "stacked in the second dimension", graph(
        [*concat_of_encoders(), node("Concat", ["a1", "b1"], ["c"], axis=-1),
         node("Concat", ["b1", "a1"], ["e"], axis=-1),
         node("Concat", ["c", "e"], ["s"], axis=1), node("Gather", ["s", "i"], ["t"], axis=1),
         old_node(pair, 1, f32, tracks=False, inputs="t")],
        inputs=ab, outputs=y, constants={"i": np.int64(1)})  # fmt: skip
    yield "an encoder of one category and a wide constant", graph(
        [node("OneHotEncoder", ["x"], ["o"], domain="ai.onnx.ml", cats_int64s=[1], zeros=1),
         node("Add", ["o", "w"], ["s"]), node("Reshape", ["s", "shape"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs={"x": (np.int64, 2)}, outputs=y,
        constants={"w": f32([0, -0.5]), "shape": np.int64([-1, 4])})  # fmt: skip
    yield "rows of a table by a column", graph(
        [node("Gather", ["w", "x"], ["g"], axis=1), node("Reshape", ["g", "shape"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs={"x": (np.int64, 3)}, outputs=y,
        constants={"w": f32([[1, -1, 1]]), "shape": np.int64([-1, 3])})  # fmt: skip
    for post in ("LOGISTIC", "SOFTMAX", "PROBIT"):
        wide = 2 if post == "SOFTMAX" else 1
        yield f"a regressor that ends in {post}", graph(
            [node("LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", coefficients=[0.05, 0.1, -0.05] * wide,
                  intercepts=[0.5] * wide, targets=wide, post_transform=post)],
            inputs=x3, outputs={"y": (f32, wide)})  # fmt: skip
    yield "a product of columns before trees", graph(
        [node("Gather", ["x", "i"], ["r"], axis=1), node("Mul", ["x", "r"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y, constants={"i": np.int64([1, 2, 0])})  # fmt: skip
    yield "columns in another order before trees", graph(
        [node("Gather", ["x", "i"], ["t"], axis=1), old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y, constants={"i": np.int64([2, -3, 1])})  # fmt: skip
    yield "a rotation before trees", graph(
        [node("MatMul", ["x", "w"], ["t"]), old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y, constants={"w": np.linalg.qr(np.arange(9.0).reshape(3, 3) + np.eye(3))[0].astype(f32)}
    )  # fmt: skip
    yield "a column's square", graph([node("Mul", ["x", "x"], ["s"]), node("MatMul", ["s", "w"], ["y"])],
                                     inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]])})  # fmt: skip
    yield "a quotient of sums", graph(
        [node("Gemm", ["x", "w", "far"], ["s"]), node("Div", ["one", "s"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]]), "one": f32([9.0]), "far": f32([20.0])})  # fmt: skip
    yield "a sum made whole", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Cast", ["s"], ["n"], to=TensorProto.INT64),
         node("Cast", ["n"], ["y"], to=TensorProto.FLOAT)],
        inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]])})  # fmt: skip
    yield "labels as numbers", graph(
        [old_node(tree, 3, f32, tracks=False, op="TreeEnsembleClassifier", outputs=("label", "scores"),
                  classlabels_int64s=[0, 1, 2]), node("Cast", ["label"], ["n"], to=TensorProto.FLOAT),
         node("Reshape", ["n", "shape"], ["y"])],
        inputs=x3, outputs=y, constants={"shape": np.int64([-1, 1])})  # fmt: skip
    yield "labels of a linear classifier as numbers", graph(
        [node("LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", coefficients=[1.0, 2, -1, -1, -2, 1],
              intercepts=[0.0, 0.0], classlabels_ints=[0, 1]), node("Cast", ["label"], ["n"], to=TensorProto.FLOAT),
         node("Reshape", ["n", "shape"], ["y"])],
        inputs=x3, outputs=y, constants={"shape": np.int64([-1, 1])})  # fmt: skip
    yield "flattened over the rows and back", graph(
        [node("Flatten", ["x"], ["f"], axis=0), node("Reshape", ["f", "shape"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y, constants={"shape": np.int64([-1, 3])})  # fmt: skip
    yield "two sigmoids of their own", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Sigmoid", ["s"], ["y"])],
        inputs=x3, outputs={"y": (f32, 2)}, constants={"w": f32([[1, 2], [2, -1], [-1, 0.5]])})  # fmt: skip
    yield "a softmax over the rows", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Softmax", ["s"], ["y"], axis=1)],
        inputs=x3, outputs={"y": (f32, 3)}, constants={"w": f32([[1, 2, 0], [2, -1, 1], [-1, 0.5, 2]])})  # fmt: skip
    yield "twice an exponential", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Exp", ["s"], ["e"]), node("Mul", ["e", "two"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[0.1], [0.2], [-0.3]]), "two": f32(2)})  # fmt: skip
    yield "twice a sigmoid", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Sigmoid", ["s"], ["e"]), node("Mul", ["e", "two"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[1], [0.2], [-0.3]]), "two": f32(2)})  # fmt: skip
    yield "a half of a tree", graph(
        [old_node(tree, 1, f32, tracks=False, outputs=("t",)), node("Div", ["t", "two"], ["y"])],
        inputs=x3, outputs=y, constants={"two": f32([[2]])})  # fmt: skip
    yield "a tree of a tree", graph(
        [old_node([product], 1, f32, tracks=False, outputs=("s",)), node("Mul", ["x", "s"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y)  # fmt: skip


def by_name(value):
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("name", "proto"), list(odd_graphs()), ids=by_name)
def test_odd_graphs_are_never_explained_wrongly(name, proto, tmp_path):
    rng = np.random.default_rng(0)
    model = saved(proto, tmp_path)
    inputs = [(i.name, i.type.tensor_type.elem_type, i.type.tensor_type.shape.dim[1].dim_value)
              for i in proto.graph.input]  # fmt: skip
    whole = all(element == TensorProto.INT64 for _, element, _ in inputs)
    width = sum(w for _, _, w in inputs)
    rows = (
        rng.integers(0, 3, (80, width))
        if whole
        else rng.choice(np.float32([-2, -1, -0.4, 0.3, 1, 2]), (80, width))
    )

    def feeds(r):
        ends = np.cumsum([w for _, _, w in inputs])[:-1]
        parts = np.split(r, ends, axis=1)
        kind = np.int64 if whole else np.float32
        return {name: part.astype(kind) for (name, _, _), part in zip(inputs, parts, strict=True)}

    explanation = mk.Explainer(model, background=feeds(rows[:60])).explain(feeds(rows[60:]))

    def f(r):
        got = np.asarray(model.run(feeds(r))["y"], float)
        if explanation.output_space != "margin":
            return got
        if "exponential" in name:
            return np.log(got)
        if "softmax" in name:
            return r @ np.array([[1, 2, 0], [2, -1, 1], [-1, 0.5, 2]])
        return np.log(got / (1 - got))

    agree(explanation, *brute(f, rows[60:], rows[:60]), within=2e-5)


def test_trees_that_read_doubles_made_on_the_way_compare_doubles(tmp_path):
    """Thresholds between two neighbouring floats: of single precision, the columns would be on the other side."""
    split = 1.0 + 1e-10
    tree = ("BRANCH_LEQ", 0, split, (), False, ("BRANCH_LT", 1, split, (), False, 1.0, 3.0), 7.0)
    nodes = [
        helper.make_node("Add", ["x", "one"], ["t"]),
        old_node([tree], 1, np.float64, tracks=False, inputs="t"),
    ]
    proto = graph(
        nodes,
        inputs={"x": (np.float64, 2)},
        outputs={"y": (np.float32, 1)},
        constants={"one": [1.0, 1.0]},
    )
    model = saved(proto, tmp_path)
    rows = np.random.default_rng(0).choice([-1.0, 0.0, 1e-10, 2e-10, 3.0], (60, 2))
    explainer = mk.Explainer(model, background=rows[:30])
    assert explainer.plan().method == "trees", explainer.plan()
    agree(explainer.explain(rows), *brute(lambda r: answers(proto, r), rows, rows[:30]))


def test_large_whole_numbers_are_compared_as_onnxruntime_does(tmp_path):
    tree = ("BRANCH_LEQ", 0, 16777216.0, (), False, tree_of(1, 16777218.0, 0.1, 0.7), -0.3)
    node = old_node([tree, tree_of(1, 3.0)], 2, np.float32, tracks=False, op="TreeEnsembleClassifier",
                    outputs=("label", "y"), classlabels_int64s=[0, 1])  # fmt: skip
    proto = graph([node], inputs={"x": (np.int64, 2)}, outputs={"y": (np.float32, 2)})
    rows = np.random.default_rng(0).choice(
        [0, 5, 16777215, 16777216, 16777217, 16777218, 16777219], (50, 2)
    )
    explanation = mk.Explainer(saved(proto, tmp_path), background=rows[:20]).explain(rows)
    agree(explanation, *brute(lambda r: answers(proto, r), rows, rows[:20]))


# Raw columns.


def penguin_pipeline(last):
    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    imputed = make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    encoded = make_pipeline(
        impute.SimpleImputer(strategy="most_frequent"),
        preprocessing.OneHotEncoder(handle_unknown="ignore"),
    )
    columns = compose.make_column_transformer((imputed, numbers), (encoded, ["island", "sex"]))
    return make_pipeline(columns, last)


def raw_models():
    yield "boosting", "trees", lambda: ensemble.GradientBoostingClassifier(n_estimators=15, **SEED)
    yield "forest", "trees", lambda: ensemble.RandomForestClassifier(10, max_depth=6, **SEED)
    yield "linear", "additive", lambda: linear_model.LogisticRegression(max_iter=1000)
    yield (
        "rotated",
        "enumeration",
        lambda: make_pipeline(
            decomposition.PCA(4, **SEED),
            ensemble.GradientBoostingClassifier(n_estimators=10, **SEED),
        ),
    )
    if LIBRARIES:
        import lightgbm
        import xgboost

        yield "xgboost", "trees", lambda: xgboost.XGBClassifier(n_estimators=15, n_jobs=1)
        yield (
            "lightgbm",
            "trees",
            lambda: lightgbm.LGBMClassifier(n_estimators=15, n_jobs=1, verbose=-1),
        )


@pytest.mark.parametrize(("name", "method", "make"), list(raw_models()), ids=by_name)
def test_values_are_of_raw_columns_whatever_encodes_them(name, method, make, tmp_path):
    X, y = penguins()
    y = (
        (y == "Adelie").astype(int)
        if name in ("rotated", "lightgbm")
        else y.astype("category").cat.codes.to_numpy()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = penguin_pipeline(make()).fit(X, y)
        model = saved(estimator, tmp_path, X)
        rows, background = X.iloc[[0, 3, 8, 150, 271, 320]], X.iloc[::23]
        explainer = mk.Explainer(model, background=background)
        explanation = explainer.explain(rows)
        assert explanation.method == method, explainer.plan()
        assert explanation.exact
        assert explanation.feature_names == tuple(X.columns)
        assert explanation.data[1, 1] is None or np.isnan(
            explanation.data[1, 1]
        )  # the row with gaps
        if name == "rotated":
            assert "depend on several raw columns" in str(explainer.plan())
        in_margins = explanation.output_space == "margin"

        def f(mixed):
            if not in_margins:
                return model.predict_proba(mixed)
            prepared = estimator[:-1].transform(mixed)
            return margin(estimator[-1])(prepared)

        agree(explanation, *brute_by_codes(f, rows, background, in_margins))


# Invariants.


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(model, data, method) of every method."""
    folder = tmp_path_factory.mktemp("models")
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


METHODS = ["trees", "deep", "additive", "enumeration", "sampling"]


@pytest.mark.parametrize("method", METHODS)
def test_values_add_up_to_what_is_served(method, models):
    model, X = models[method]
    explainer = mk.Explainer(model, background=X[:40])
    explanation = explainer.explain(X[50:70])
    assert explanation.method == {"deep": "trees"}.get(method, method)
    total = explanation.base_values + explanation.values.sum(axis=1)
    expected = served(model)(X[50:70])
    if explanation.output_space == "margin":
        total = 1 / (1 + np.exp(-total))
    within = 1e-9 if method == "sampling" else 1e-5
    np.testing.assert_allclose(total, expected[:, -total.shape[1] :], rtol=0, atol=within)
    assert explanation.additivity_gap.max() <= within
    most = 20 * explainer.plan().rows_per_row
    assert (
        explanation.evaluations <= most
        if method == "sampling"
        else explanation.evaluations == pytest.approx(most)
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_row_has_the_same_values_alone_in_any_batch_and_from_any_thread(method, models):
    model, X = models[method]
    explainer = mk.Explainer(model, background=X[:20])
    rows = X[100:116]
    whole = explainer.explain(rows)
    alone = [explainer.explain(rows[i : i + 1]) for i in range(len(rows))]
    np.testing.assert_array_equal(np.concatenate([e.values for e in alone]), whole.values)
    np.testing.assert_array_equal(np.concatenate([e.base_values for e in alone]), whole.base_values)
    order = np.random.default_rng(0).permutation(len(rows))
    np.testing.assert_array_equal(explainer.explain(rows[order]).values, whole.values[order])
    with ThreadPoolExecutor(8) as pool:
        for i, e in enumerate(
            pool.map(lambda i: explainer.explain(rows[i : i + 1]), range(len(rows)))
        ):
            np.testing.assert_array_equal(e.values, whole.values[i : i + 1])
    again = mk.Explainer(model, background=X[:20])
    np.testing.assert_array_equal(again.explain(rows).values, whole.values)
    with mk.Batcher(model) as batcher:
        through = mk.Explainer(batcher, background=X[:20])
        assert through.plan() == explainer.plan()
        np.testing.assert_array_equal(through.explain(rows).values, whole.values)


@pytest.mark.parametrize("method", ["trees", "deep", "additive"])
def test_one_row_is_as_good_as_thousands(method, models):
    model, X = models[method]
    explainer = mk.Explainer(model, background=X[:20])
    many = np.tile(X, (8, 1))[:3000]
    whole = explainer.explain(many).values
    np.testing.assert_array_equal(whole[:400], whole[400:800])
    np.testing.assert_array_equal(explainer.explain(X[7:8]).values, whole[7:8])
    np.testing.assert_array_equal(explainer.explain(X[:37]).values, whole[:37])


def test_enumeration_and_tables_say_the_same(tmp_path):
    X, y = small(0)
    model = saved(ensemble.RandomForestRegressor(10, max_depth=6, **SEED).fit(X, y), tmp_path, X)
    tables = mk.Explainer(model, background=X[:20]).explain(X[50:60])
    everything = mk.Explainer(model, background=X[:20], method="enumeration").explain(X[50:60])
    assert (tables.method, everything.method) == ("trees", "enumeration")
    agree(everything, tables.values, tables.base_values[0])
    assert everything.background_id == tables.background_id


def test_a_column_that_is_not_read_gets_nothing_and_twins_get_the_same(tmp_path):
    """The model is even in two columns, and each is given the same numbers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)).astype(np.float32)
    X[:, 1] = X[:, 0]
    both = [(0, 1), (1, 0)]
    trees = [
        ("BRANCH_LEQ", a, 0.3, (), False, tree_of(b, -0.2, 1.0, 5.0), tree_of(2, 0.1))
        for a, b in both
    ]
    proto = graph([old_node(trees, 1, np.float32, tracks=False)], inputs={"x": (np.float32, 4)},
                  outputs={"y": (np.float32, 1)})  # fmt: skip
    model = saved(proto, tmp_path)
    for method in ("trees", "enumeration", "sampling"):
        values = mk.Explainer(model, background=X[:50], method=method).explain(X[100:120]).values
        assert not values[:, 3].any()
        if method != "sampling":
            np.testing.assert_allclose(values[:, 0], values[:, 1], rtol=0, atol=1e-7)


def test_a_background_of_the_row_itself_explains_nothing(models):
    for method in METHODS:
        model, X = models[method]
        one = mk.Explainer(model, background=np.repeat(X[:1], 12, axis=0)).explain(X[:1])
        np.testing.assert_allclose(one.values, 0, atol=1e-6)


def test_samples_converge_within_their_errors_and_telescope(tmp_path):
    X, y = small(0, columns=8)
    model = saved(
        ensemble.GradientBoostingRegressor(n_estimators=40, **SEED).fit(X, y), tmp_path, X
    )
    rows, background = X[100:140], X[:64]
    truth = mk.Explainer(model, background=background).explain(rows).values
    errors = {}
    for passes in (1, 16):
        sampled = mk.Explainer(
            model, background=background, method="sampling", budget=14 * 64 * passes
        ).explain(rows)
        assert not sampled.exact
        assert sampled.additivity_gap.max() <= 1e-9
        off = np.abs(sampled.values - truth)
        inside = off <= 4 * sampled.std_error + 1e-6
        assert inside.mean() >= (
            0.99 if passes > 1 else 0.97
        )  # of 64 orders, some see a rare effect never
        errors[passes] = np.sqrt((off**2).mean())
    assert errors[16] < 0.5 * errors[1]


def test_samples_are_those_of_their_seed(models):
    model, X = models["sampling"]

    def values(**options):
        return mk.Explainer(model, background=X[:20], **options).explain(X[30:33]).values

    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global one must be left alone
    np.testing.assert_array_equal(values(), values(seed=0))
    np.testing.assert_array_equal(values(seed=7), values(seed=7))
    assert (values(seed=7) != values(seed=8)).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@settings(max_examples=30, deadline=None)
@given(players=st.integers(2, 5), background=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_every_order_once_is_exact(players, background, seed):
    """With all orders on all background rows, the sampler gives the values of the definition."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(size=(1 << players, background, 2))

    def ask(masks, rows):
        return worth[masks @ (1 << np.arange(players)), rows]

    orders = np.array(list(itertools.permutations(range(players))))
    ranks = np.repeat(np.argsort(orders, axis=1), background, axis=0)
    rows = np.tile(np.arange(background), len(orders))
    full = (1 << players) - 1
    worth[full] = worth[full, :1]  # the explained row itself, on whatever background
    inner = ask(sampling.coalitions(ranks), np.repeat(rows, 2 * (players - 1)))
    values = sampling.gains(inner, ranks, worth[0][rows], worth[full, 0]).mean(axis=0)
    base = worth[0][rows].mean(axis=0)
    expected, expected_base = sampling.enumerate_all(ask, players, background)
    np.testing.assert_allclose(values, expected, atol=1e-12)
    np.testing.assert_allclose(base, expected_base, atol=1e-12)
    truth = np.zeros((players, 2))
    for order in orders:
        at = 0
        for player in order:
            truth[player] += worth[at | 1 << player].mean(axis=0) - worth[at].mean(axis=0)
            at |= 1 << player
    np.testing.assert_allclose(values, truth / len(orders), atol=1e-12)


def test_a_pass_draws_each_background_row_once_and_orders_of_its_own():
    seen = set()
    for number in range(4):
        ranks, rows = sampling.draw_orders(6, 25, number, 3)
        assert (np.sort(ranks, axis=1) == np.arange(6)).all()
        np.testing.assert_array_equal(np.sort(rows), np.arange(25))
        seen.add(ranks.tobytes())
    assert len(seen) == 4


def test_without_a_budget_passes_are_made_until_the_error_is_small(tmp_path):
    X, y = small(0, columns=8)
    easy = saved(svm.SVR().fit(X, y), tmp_path, X)
    rough = mk.FunctionModel(
        lambda feeds: {"y": np.sin(40 * feeds["x"]).prod(axis=1, keepdims=True)}, eight_columns()
    )
    found = {}
    for name, model in (("easy", easy), ("rough", rough)):
        explainer = mk.Explainer(model, background=X[:40], method="sampling")
        found[name] = explainer.explain(X[100:103])
        assert explainer.plan().rows_per_row == 32 * 40 * 14 + 2
        for i in range(3):  # alone, a row takes what it takes beside others
            alone = explainer.explain(X[100 + i : 101 + i])
            np.testing.assert_allclose(alone.values[0], found[name].values[i], rtol=0, atol=1e-6)
            np.testing.assert_array_equal(alone.std_error[0], found[name].std_error[i])
    size = {name: np.sqrt((one.values**2).mean(axis=(1, 2))) for name, one in found.items()}
    error = {name: np.sqrt((one.std_error**2).mean(axis=(1, 2))) for name, one in found.items()}
    assert (error["easy"] <= 0.03 * size["easy"]).all()
    assert not found["easy"].warnings
    assert found["easy"].evaluations < found["rough"].evaluations / 3
    assert found["rough"].evaluations == 3 * (32 * 40 * 14 + 2)
    assert (error["rough"] > 0.03 * size["rough"]).any()
    assert "after 32 passes" in found["rough"].warnings[0]


def eight_columns():
    spec = mk.TensorSpec("x", "float64", ("batch", 8))
    return mk.Signature((spec,), (mk.TensorSpec("y", "float64", ("batch", 1)),))


def test_standard_errors_of_several_passes_cover_what_they_should(tmp_path):
    X, y = small(0, columns=8)
    model = saved(
        ensemble.GradientBoostingRegressor(n_estimators=40, max_depth=5, **SEED).fit(X, y),
        tmp_path,
        X,
    )
    truth = mk.Explainer(model, background=X[:64]).explain(X[100:130]).values
    inside = []
    for seed in range(5):
        options = {"background": X[:64], "method": "sampling", "budget": 14 * 64 * 4, "seed": seed}
        sampled = mk.Explainer(model, **options).explain(X[100:130])
        inside.append(np.abs(sampled.values - truth) <= 1.96 * sampled.std_error + 1e-7)
    assert 0.92 <= np.mean(inside) <= 0.99


# The answer, as a value.


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    X, y = penguins()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = penguin_pipeline(
            ensemble.GradientBoostingClassifier(n_estimators=5, **SEED)
        ).fit(X, y)
        model = saved(estimator, tmp_path_factory.mktemp("mixed"), X, background=X.iloc[::7])
        return model, X, mk.Explainer(model, background=X.iloc[::7]).explain(X.iloc[:9])


def test_json_and_back(mixed, models):
    model, X = models["sampling"]
    sampled = mk.Explainer(model, background=X[:30], budget=26 * 12).explain(X[:3])
    assert sampled.warnings
    for explanation in (
        mixed[2],
        sampled,
        mixed[2].__class__(**{**vars(mixed[2]), "fidelity": {"r2": math.nan}}),
    ):
        text = explanation.to_json()
        assert "\n" not in text
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        back = mk.Explanation.from_json(text)
        for name in ("values", "base_values", "additivity_gap"):
            np.testing.assert_array_equal(getattr(back, name), getattr(explanation, name))
            assert getattr(back, name).shape == getattr(explanation, name).shape
        assert (back.std_error is None) == (explanation.std_error is None)
        assert [list(map(repr, row)) for row in back.data.tolist()] == [
            list(map(repr, row)) for row in explanation.data.tolist()
        ]
        for name in ("feature_names", "output_names", "output_space", "method", "exact", "seed", "background_id",
                     "background_rows", "model_digest", "warnings", "evaluations"):  # fmt: skip
            assert getattr(back, name) == getattr(explanation, name)
        assert back.to_json() == text
    data = mixed[2].data
    assert None in data[3].tolist()
    assert any(isinstance(value, float) and math.isnan(value) for value in data[3])


def test_an_explanation_of_an_earlier_version_is_read_and_written_unchanged():
    """Written at commit c198415, before `fields` read it."""
    text = EXPLANATION.read_text().strip()
    read = mk.Explanation.from_json(text)
    assert read.to_json() == text
    assert read.values.shape == read.std_error.shape == (2, 3, 2)
    assert math.isnan(read.fidelity["r2"][0][1])
    assert read.fidelity["ess"] == [3.0, math.inf]
    assert read.data.tolist()[0] == ["a", None, 1.5]
    assert "R2 nan" in read.card(row=0)


@pytest.mark.parametrize(
    "odd",
    [{"exact": 1}, {"seed": "0"}, {"feature_names": "abc"}, {"warnings": "a"}, {"additivity_gap": None},
     {"more": 1}, {"std_error": [1.0]}],
)  # fmt: skip
def test_an_explanation_with_a_field_of_another_type_is_refused(odd):
    plain = json.loads(EXPLANATION.read_text()) | odd
    with pytest.raises(ExplainError, match="explanation"):
        mk.Explanation.from_json(json.dumps(plain))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", "null", "[" * 100_000, '{"schema": "other/1"}',
                                  '{"schema": "modelkit.explanation/1"}'])  # fmt: skip
def test_what_is_no_record_is_refused(text):
    with pytest.raises(ExplainError):
        mk.Explanation.from_json(text)


def test_frames_tops_and_unknown_outputs(mixed):
    explanation = mixed[2]
    assert explanation.output_names == ("Adelie", "Chinstrap", "Gentoo")
    frame = explanation.to_dataframe("Gentoo")
    assert list(frame.columns) == ["base", *explanation.feature_names]
    np.testing.assert_array_equal(frame.to_numpy()[:, 1:], explanation.values[:, :, 2])
    np.testing.assert_array_equal(frame["base"], explanation.base_values[:, 2])
    np.testing.assert_array_equal(
        explanation.to_dataframe(0)["base"], explanation.base_values[:, 0]
    )
    top = explanation.top(3, row=2, output="Adelie")
    sizes = [abs(added) for _, _, added in top]
    assert len(top) == 3
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == np.abs(explanation.values[2, :, 0]).max()
    assert len(explanation) == 9
    assert "9 rows, 6 columns, 3 outputs" in repr(explanation)
    assert "bill_length_mm" in explanation._repr_html_()
    assert "other column" not in explanation._repr_html_()
    others = explanation.values[2, :, 0].sum() - sum(added for _, _, added in top)
    bars = explanation.card(row=2, output="Adelie", most=3)
    assert "3 other columns" in bars
    assert f"{others:+.3g}<" in bars
    assert "1 other column<" in explanation.card(most=5)
    for output in ("Emperor", 3, -4):
        for ask in (explanation.top, explanation.to_dataframe):
            with pytest.raises(ExplainError, match="no output"):
                ask(output=output)
    with pytest.raises(AttributeError):
        explanation.values = None


def test_shap_takes_it(mixed):
    shap = pytest.importorskip("shap")
    explanation = mixed[2]
    assert isinstance(explanation.to_shap(), shap.Explanation)
    assert explanation.to_shap().values.shape == (9, 6, 3)
    one = explanation.to_shap("Chinstrap")
    np.testing.assert_array_equal(one.values, explanation.values[:, :, 1])
    np.testing.assert_array_equal(one.base_values, explanation.base_values[:, 1])
    assert one.feature_names == list(explanation.feature_names)
    with pytest.raises(ExplainError, match="no output"):
        explanation.to_shap("Emperor")


@pytest.mark.parametrize("method", METHODS)
def test_no_rows(method, models):
    model, X = models[method]
    nothing = mk.Explainer(model, background=X[:20]).explain(X[:0])
    assert nothing.values.shape == (0, X.shape[1], len(nothing.output_names))
    assert (
        nothing.base_values.shape == nothing.additivity_gap.shape == (0, len(nothing.output_names))
    )


def test_one_column(tmp_path):
    X, y = small(0)
    single = saved(svm.SVR().fit(X[:, :1], y), tmp_path, X[:, :1])
    explanation = mk.Explainer(single, background=X[:30, :1]).explain(X[40:50, :1])
    agree(explanation, *brute(single.predict, X[40:50, :1], X[:30, :1]))


def test_a_constant_model_explains_nothing(tmp_path):
    X, _ = small(0)
    for estimator in (ensemble.GradientBoostingRegressor(n_estimators=2), linear_model.Ridge()):
        model = saved(estimator.fit(X, np.full(len(X), 2.5)), tmp_path, X)
        explanation = mk.Explainer(model, background=X[:30]).explain(X[:5])
        assert explanation.values.shape == (5, 6, 1)
        np.testing.assert_allclose(explanation.values, 0, atol=1e-6)
        np.testing.assert_allclose(explanation.base_values, 2.5)


# Background rows of the package.


def test_the_background_of_the_package_is_that_which_was_passed(mixed):
    model, X, passed = mixed
    stored = mk.Explainer(model).explain(X.iloc[:9])
    np.testing.assert_array_equal(stored.values, passed.values)
    assert stored.background_id == passed.background_id
    assert stored.background_rows == len(X.iloc[::7])
    assert stored.model_digest == model.manifest.model_digest
    other = mk.Explainer(model, background=X.iloc[::8]).explain(X.iloc[:9])
    assert other.background_id != stored.background_id


# Misuse.


def test_misuse_is_told_apart(models, mixed, tmp_path):
    model, X = models["sampling"]
    penguin, frame, _ = mixed
    for options, text in (
        ({}, "background"),
        ({"background": X[:0]}, "no rows"),
        ({"background": X[:20], "method": "magic"}, "unknown"),
        ({"background": X[:20], "output": "logits"}, "unknown"),
        ({"background": X[:20], "budget": 100}, "budget=260"),
        ({"background": X[:20], "budget": 0}, "budget"),
        ({"background": X[:5]}, "larger background"),
        ({"background": X[:20], "method": "trees"}, "does not fit"),
        ({"background": X[:20], "method": "additive"}, "does not fit"),
        ({"background": X[:20], "method": "enumeration"}, "smaller background"),
        ({"background": X[:20], "output": "margin"}, "margin"),
    ):
        with pytest.raises(ExplainError, match=text):
            mk.Explainer(model, **options)
    line, wide = models["additive"]
    with pytest.raises(ExplainError, match="additive"):
        mk.Explainer(line, background=wide[:20], method="trees")
    with pytest.raises(ExplainError, match="structure for 'trees'"):
        mk.Explainer(models["trees"][0], background=models["trees"][1][:20], method="additive")
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20, :5])
    with pytest.raises(SignatureError, match="sex"):
        mk.Explainer(penguin, background=frame.drop(columns="sex"))
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20]).explain(X[:2, :5])
    with pytest.raises(SignatureError):
        mk.Explainer(model, background=X[:20]).plan(X[:2, :5])
    holes = np.where(np.arange(14) == 3, np.nan, X[:20])
    with pytest.raises(SignatureError, match=r"(?i)missing|nan"):
        mk.Explainer(model, background=holes)
    with pytest.raises(SignatureError, match=r"(?i)missing|nan"):
        mk.Explainer(model, background=X[:20]).explain(holes)


def test_a_model_of_labels_alone_cannot_be_explained(tmp_path):
    proto = graph([helper.make_node("LinearClassifier", ["x"], ["label", "s"], domain="ai.onnx.ml",
                   coefficients=[1.0, 2, -1, -2], intercepts=[0.0, 0.0], classlabels_ints=[0, 1])],
                  inputs={"x": (np.float32, 2)}, outputs={})  # fmt: skip
    proto.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    with pytest.raises(ExplainError, match="labels alone"):
        mk.Explainer(saved(proto, tmp_path), background=np.zeros((20, 2), np.float32))


def test_probabilities_of_trees_are_enumerated_on_request(models):
    model, X = models["trees"]
    explainer = mk.Explainer(model, background=X[:20], output="probability")
    explanation = explainer.explain(X[50:54])
    assert explanation.output_space == "probability"
    assert explanation.method == "enumeration"
    agree(explanation, *brute(model.predict_proba, X[50:54], X[:20]))


def test_values_that_do_not_add_up_are_not_given(models, monkeypatch):
    model, X = models["trees"]
    explainer = mk.Explainer(model, background=X[:20])
    run_exact = explainer._method._run
    monkeypatch.setattr(
        explainer._method, "_run", lambda feeds: (run_exact(feeds)[0] * 1.01, run_exact(feeds)[1])
    )
    with pytest.raises(AdditivityError) as caught:
        explainer.explain(X[50:60])
    assert caught.value.gap > 1e-5
    with pytest.raises(AdditivityError):
        check_gap(np.array([[np.nan]]), np.ones((1, 1)))


def test_explaining_a_linear_package_loads_no_shap_and_no_lime(penguins_mk, tmp_path):
    run(
        """
        import sys, modelkit as mk
        unwanted = {"shap", "lime", "sklearn", "pandas", "matplotlib", "numba", "tqdm"}
        assert not unwanted & set(sys.modules)
        mk.Explainer
        assert not unwanted & set(sys.modules)
        row = dict(island="Biscoe", bill_length_mm=50.0, bill_depth_mm=None, flipper_length_mm=230.0,
                   body_mass_g=5500.0, sex=None, year=2008)
        other = row | dict(island="Dream", bill_depth_mm=17.0, sex="female", body_mass_g=3000.0)
        with mk.load(sys.argv[1]) as model:
            explanation = mk.Explainer(model, background=[row, other]).explain([other])
        assert explanation.method == "additive"
        assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
        """,
        penguins_mk,
    )


def test_a_column_that_moves_what_is_said_to_be_anothers_is_noticed(tmp_path):
    X, y = small(0)
    scaled = make_pipeline(
        preprocessing.MinMaxScaler(), ensemble.GradientBoostingRegressor(n_estimators=5)
    )
    packed = saved(scaled.fit(X, y), tmp_path, X)
    about = subject.make_subject(packed, X[:30])
    found = structure.read_structure(whole_proto(*packed.graph), packed.signature, "prediction")
    assert found.kind == "trees"
    exact._run_trees(about, found)
    swapped = dataclasses.replace(found, groups=found.groups[::-1].copy())
    with pytest.raises(structure.NoStructureError, match="moves what should not depend on it"):
        exact._run_trees(about, swapped)


def test_what_a_model_does_not_serve_is_refused(tmp_path):
    X, y = small(0)
    regressor = saved(ensemble.GradientBoostingRegressor(n_estimators=3).fit(X, y), tmp_path, X)
    with pytest.raises(ExplainError, match="serves a value, not a probability"):
        mk.Explainer(regressor, background=X[:20], output="probability")
    nothing = mk.FunctionModel(
        lambda feeds: {"y": feeds["x"][:, :1] / 0}, two_columns(), batchable=True
    )
    with (
        np.errstate(all="ignore"),
        pytest.raises(ExplainError, match=r"row 0: .* only finite outputs"),
    ):
        mk.Explainer(nothing, background=np.ones((5, 2)), method="sampling", budget=40).explain(
            np.ones((1, 2))
        )


def two_columns():
    return mk.Signature(
        (mk.TensorSpec("x", "float64", ("n", 2)),), (mk.TensorSpec("y", "float64", ("n", 1)),)
    )


@pytest.mark.parametrize("link", ["identity", "logistic"])
def test_contributions_that_a_model_gives_itself_are_taken_where_they_add_up(link):
    weights = np.array([1.0, -2.0, 0.5])
    classes = ("no", "yes") if link == "logistic" else None
    name, shape = ("probabilities", ("n", 2)) if classes else ("prediction", ("n",))
    outputs = (
        mk.TensorSpec(name, "float64", shape),
        mk.TensorSpec("contributions", "float64", ("n", 3)),
    )
    signature = mk.Signature((mk.TensorSpec("x", "float64", ("n", 3)),), outputs, name, classes)

    def answer(feeds, off=0.0):
        parts = feeds["x"] ** 2 * weights
        margin = 0.25 + parts.sum(axis=1) + off * feeds["x"][:, 0]
        likely = 1 / (1 + np.exp(-margin))
        served = np.stack([1 - likely, likely], axis=1) if classes else margin
        return {name: served, "contributions": parts}

    X = np.random.default_rng(0).normal(size=(60, 3))
    explanation = mk.Explainer(
        mk.FunctionModel(answer, signature, batchable=True), background=X[:40]
    ).explain(X[40:])
    assert (explanation.method, explanation.exact) == ("contributions", False)
    assert "contributions, the model's own" in repr(explanation)
    np.testing.assert_allclose(explanation.values[:, :, 0], X[40:] ** 2 * weights, atol=1e-9)
    np.testing.assert_allclose(explanation.base_values, 0.25, atol=1e-9)
    wrong = mk.FunctionModel(lambda feeds: answer(feeds, 0.1), signature, batchable=True)
    plan = mk.Explainer(wrong, background=X[:40]).plan()
    assert plan.method == "enumeration"
    assert "no one base add up" in str(plan)
    with pytest.raises(ExplainError, match="'contributions' does not fit"):
        mk.Explainer(wrong, background=X[:40], method="contributions")


def test_names_are_drawn_as_they_are(tmp_path):
    """matplotlib would read what stands between two dollars as mathematics."""
    pytest.importorskip("matplotlib").use("Agg")
    X = pd.DataFrame(
        {"a$b_$": np.arange(9.0), "a": np.arange(9.0) % 2, "a = 1": np.arange(9.0) % 3}
    )
    mk.save(
        linear_model.LinearRegression().fit(X, X["a"]),
        tmp_path / "m.mk",
        example=X,
        name="m",
        version="1",
    )
    axes = mk.Explainer(mk.load(tmp_path / "m.mk"), background=X).explain(X[:2]).plot()
    axes.figure.savefig(tmp_path / "p.png")
    assert len(axes.patches) == 3
    assert any("a$b_$" in label.get_text() for label in axes.get_yticklabels())


def test_softmax_that_is_divided_by_its_sum_is_additive(tmp_path):
    X, y = datasets.load_iris(return_X_y=True, as_frame=True)
    X = X.assign(kind=np.where(X.iloc[:, 0] > 5.8, "u", "v"))
    parts = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(), ["kind"]), remainder=preprocessing.StandardScaler()
    )
    mk.save(
        make_pipeline(parts, linear_model.LogisticRegression()).fit(X, y),
        tmp_path / "m.mk",
        example=X,
        name="m",
        version="1",
    )
    model = mk.load(tmp_path / "m.mk")
    explanation = mk.Explainer(model, background=X[:40]).explain(X[50:60])
    assert (explanation.method, explanation.exact) == ("additive", True)
    margin = explanation.base_values + explanation.values.sum(axis=1)
    shares = np.exp(margin - margin.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(axis=1, keepdims=True), model.predict_proba(X[50:60]), atol=1e-5
    )


@pytest.mark.parametrize(
    "wrong", [{"budget": 1e4}, {"budget": np.nan}, {"budget": 0}, {"seed": -1}, {"seed": 1.5}]
)
def test_a_budget_and_a_seed_are_whole_numbers(mixed, wrong):
    with pytest.raises(ExplainError, match="is an integer of at least"):
        mk.Explainer(mixed[0], background=mixed[1][:50], **wrong)


def test_rows_that_are_not_there_are_named(mixed):
    explanation = mixed[2]
    for ask in (explanation.top, explanation.card):
        with pytest.raises(ExplainError, match="there are 9 rows and no row 9"):
            ask(row=9)
    with pytest.raises(ExplainError, match="k is at least 0"):
        explanation.top(-1)


@pytest.mark.parametrize("method", ["auto", "sampling", "enumeration"])
def test_a_model_whose_rows_depend_on_their_batch_is_not_explained(method, tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    proto = graph(nodes, inputs={"x": (np.float32, 5)}, outputs={"y": (np.float32, 5)})
    mk.save(proto, tmp_path / "centred.mk", name="centred", version="1")
    centred = mk.load(tmp_path / "centred.mk")
    background = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    with pytest.raises(ExplainError, match="depends on the rows beside it"):
        mk.Explainer(centred, background=background, method=method)
