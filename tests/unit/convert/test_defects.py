"""Each known defect of a converter ends in a package that is right, or in an error that says what is wrong."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.kinds import coded, diabetes, docstrings, two_labels, wine, wine_holes
from helpers.packages import saved
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array, to_array
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import CategoricalNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    MaxAbsScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, NuSVC

import modelkit as mk
from modelkit.convert.estimators.forests import leaves_of
from modelkit.convert.estimators.tensors import Columns
from modelkit.convert.estimators.trees import LEQ, LESS
from modelkit.convert.gate import strange as probes
from modelkit.convert.gate.parity import prove_parity
from modelkit.convert.gate.probes import at_thresholds
from modelkit.convert.gate.rows import rows_of
from modelkit.convert.sklearn import from_sklearn
from modelkit.convert.source import Source
from modelkit.errors import ConversionError, ParityError, SignatureError
from modelkit.runtimes.onnx import OnnxModel


@pytest.fixture
def lightgbm():
    return pytest.importorskip("lightgbm")


@pytest.fixture
def xgboost():
    return pytest.importorskip("xgboost")


def digits():
    """Digits at a fifth of the width, in which classes are close."""
    X, y = load_digits(return_X_y=True)
    return X[:, ::5] + 0.0, np.array([f"d{label}" for label in y])


def shops(n=300):
    """Codes of shops and a letter, and whether the shop is number 20."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"shop": rng.choice([10, 20, 30], n), "sex": rng.choice(["u", "v"], n)})
    return X, (X["shop"] == 20).astype(int) ^ (rng.random(n) < 0.1)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(
    ("encoder", "closed"),
    [
        (OneHotEncoder(), True),
        (OneHotEncoder(drop="first"), True),
        (OneHotEncoder(handle_unknown="ignore"), False),
        (OneHotEncoder(handle_unknown="ignore", dtype=int), False),
        (OrdinalEncoder(), True),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), False),
    ],
)
def test_codes_that_an_encoder_does_not_know(encoder, closed, alone, tmp_path):
    """The converter cuts numbers off, so that 20.9 was 20; and a code that the source refuses got an answer."""
    X, y = shops()
    parts = [(encoder, ["shop"])] if alone else [(encoder, ["shop"]), (OneHotEncoder(), ["sex"])]
    X = X[["shop"]] if alone else X
    pipeline = make_pipeline(make_column_transformer(*parts), LogisticRegression()).fit(X, y)
    manifest, model = saved(pipeline, X, tmp_path)
    assert mk.inspect(tmp_path / "m.mk") == manifest
    assert model.signature.inputs[0].columns[0].categories == ((10, 20, 30) if closed else None)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    assert model.verify() == 0.0
    for code in (20.9, 19.999, 40, -1, 0):
        strange = X[:2].assign(shop=code)
        if closed:
            with pytest.raises(ValueError, match="unknown categories"):
                pipeline.predict(strange)
            with pytest.raises(
                SignatureError, match=rf"unknown category {float(code)} in rows 0, 1; known are"
            ):
                model.predict(strange)
        else:
            np.testing.assert_allclose(
                model.predict_proba(strange), pipeline.predict_proba(strange), atol=1e-6
            )


def grid(pipeline):
    return GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2)


@pytest.mark.parametrize("form", ["integers", "floats", "array", "float32"])
@pytest.mark.parametrize(
    "build",
    [
        lambda: make_pipeline(OneHotEncoder(), LogisticRegression()),
        lambda: make_pipeline(make_pipeline(OneHotEncoder(), MaxAbsScaler()), LogisticRegression()),
        lambda: make_pipeline(make_pipeline(make_column_transformer((OneHotEncoder(), [0])), MaxAbsScaler()), LogisticRegression()),
        lambda: make_pipeline(OrdinalEncoder(), OneHotEncoder(), LogisticRegression()),
        lambda: make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(), LogisticRegression()),
        lambda: make_pipeline(make_union(OneHotEncoder(), StandardScaler()), LogisticRegression()),
        lambda: grid(make_pipeline(OneHotEncoder(), LogisticRegression())),
        lambda: VotingClassifier([("a", make_pipeline(OneHotEncoder(), LogisticRegression()))], voting="soft"),
    ],
)  # fmt: skip
def test_an_encoder_is_found_wherever_it_stands(build, form, tmp_path):
    X, y = shops()
    X = {"integers": X[["shop"]], "floats": X[["shop"]].astype(float)}.get(
        form, X[["shop"]].to_numpy()
    )
    X = X.astype(np.float32) if form == "float32" else X
    pipeline = build().fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    assert model.verify() == 0.0
    with pytest.raises(SignatureError, match="unknown category"):
        model.predict(X + 1)


def test_strings_behind_two_encoders_have_the_categories_of_the_first(tmp_path):
    X, y = shops()
    pipeline = make_pipeline(OrdinalEncoder(), OneHotEncoder(), LogisticRegression()).fit(
        X[["sex"]], y
    )
    _, model = saved(pipeline, X[["sex"]], tmp_path)
    assert model.signature.inputs[0].columns[0].categories == ("u", "v")


def test_numbers_that_a_source_refuses_for_other_reasons_close_nothing(tmp_path):
    X = np.random.default_rng(0).integers(1, 9, (99, 2))
    pipeline = make_pipeline(PowerTransformer("box-cox"), LogisticRegression()).fit(X, X[:, 0] > 4)
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    assert model.signature.inputs[0].columns[0].categories is None


@pytest.mark.parametrize(
    "before", [OneHotEncoder(dtype=int, handle_unknown="ignore"), OrdinalEncoder(dtype=np.int64)]
)
def test_a_norm_of_integers(before, tmp_path):
    X, y = shops()
    pipeline = make_pipeline(before, Normalizer(), LogisticRegression()).fit(X[["shop"]], y)
    _, model = saved(pipeline, X[["shop"]], tmp_path)
    np.testing.assert_allclose(
        model.predict_proba(X[["shop"]]), pipeline.predict_proba(X[["shop"]]), atol=1e-6
    )


def test_codes_that_lightgbm_takes_as_they_are(lightgbm, tmp_path):
    rng = np.random.default_rng(0)
    X = np.stack([rng.integers(0, 6, 300), rng.integers(0, 99, 300)], axis=1)
    model = lightgbm.LGBMClassifier(n_estimators=9, min_data_per_group=1, verbose=-1)
    model.fit(X, np.isin(X[:, 0], (1, 4)), categorical_feature=[0])
    _, packed = saved(model, X, tmp_path)
    np.testing.assert_allclose(packed.predict_proba(X), model.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("form", ["integers", "floats", "frame"])
def test_codes_that_a_naive_bayes_does_not_know(form, tmp_path):
    """Unknown ones ended in an error of the runtime, also where the example held but a few of the known ones."""
    rng = np.random.default_rng(0)
    X = np.stack([rng.integers(0, 4, 300), rng.integers(1, 9, 300)], axis=1)
    few = X[(X[:, 0] < 2) & (X[:, 1] < 5)]
    shaped = {"integers": np.asarray, "floats": lambda rows: rows * 1.0, "frame": pd.DataFrame}[
        form
    ]
    bayes = CategoricalNB().fit(shaped(X), X.sum(axis=1) > 6)
    _, model = saved(bayes, shaped(few), tmp_path)
    assert [c.categories for c in model.signature.inputs[0].columns] == [
        tuple(range(4)),
        tuple(range(9)),
    ]
    np.testing.assert_allclose(
        model.predict_proba(shaped(X)), bayes.predict_proba(shaped(X)), atol=1e-6
    )
    for row in ([4, 2], [0, 9], [-1, 2]):
        with pytest.raises(
            SignatureError, match=r"unknown category (4|9|-1)\.0 in row 0; known are"
        ):
            model.predict(shaped(np.array([row])))


@pytest.mark.parametrize("kind", [SVC, NuSVC])
@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
def test_support_vectors_that_break_ties_by_their_scores(kernel, kind, tmp_path):
    X, y = digits()
    pipeline = make_pipeline(StandardScaler(), kind(kernel=kernel, break_ties=True)).fit(
        X[::3], y[::3]
    )
    votes = make_pipeline(StandardScaler(), kind(kernel=kernel)).fit(X[::3], y[::3])
    _, model = saved(pipeline, X[::3], tmp_path)
    rows = np.concatenate([X, X[::2] * 3, X[::2] * 0.3, -X[::2]])
    assert (votes.predict(rows) != pipeline.predict(rows)).any()
    np.testing.assert_array_equal(model.predict(rows), pipeline.predict(rows))


def test_a_kernel_of_ones_own_is_named(tmp_path):
    X, y = wine()
    model = SVC(kernel=lambda a, b: a @ b.T).fit(X, y)
    with pytest.raises(ConversionError, match="SVC with a kernel of your own cannot be converted"):
        saved(model, X, tmp_path)


@pytest.mark.parametrize("method", ["auto", "sampling", "lime"])
def test_a_closed_set_of_codes_is_explained_by_every_method(method, tmp_path):
    X, y = shops()
    X = X[["shop"]].assign(other=np.arange(len(X)) % 3).to_numpy()
    pipeline = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    explanation = mk.Explainer(model, background=X, method=method, budget=2000).explain(X[:3])
    assert np.abs(explanation.values[:, 0]).max() > np.abs(explanation.values[:, 1]).max()


def test_codes_of_an_encoder_without_a_column_transformer(tmp_path):
    X, y = shops()
    encoder = make_pipeline(OrdinalEncoder(), LogisticRegression()).fit(X[["shop"]], y)
    assert saved(encoder, X[["shop"]], tmp_path)[1].signature.inputs[0].columns[0].categories == (
        10,
        20,
        30,
    )


@pytest.mark.parametrize("numbers", [True, False])
@pytest.mark.parametrize(
    "chosen",
    [
        ["age", "fare"],
        make_column_selector(dtype_include=float),
        np.array([True, True, False]),
        slice("age", "fare"),
        [1],
    ],
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


@pytest.mark.parametrize(
    "name",
    [
        "Body Mass",
        "hours-per-week",
        "price ($)",
        "Größe",
        "capital.gain",
        "1st",
        "a/b",
        "label",
        "probabilities",
        "x0",
    ],
)
def test_a_column_may_have_any_name(name, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            name: rng.normal(size=99),
            "sex": rng.choice(["u", "v"], 99),
            "Body_Mass": rng.normal(size=99),
        }
    )
    parts = make_column_transformer(
        (StandardScaler(), [name, "Body_Mass"]), (OneHotEncoder(), ["sex"])
    )
    pipeline = make_pipeline(parts, LogisticRegression()).fit(X, X[name] > 0)
    manifest, model = saved(pipeline, X, tmp_path)
    assert [column.name for spec in manifest.signature.inputs for column in spec.columns] == [*X]
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(model.predict(X.to_dict("records")), pipeline.predict(X))
    with pytest.raises(SignatureError, match="missing column"):
        model.predict(X.drop(columns=name))
    values = mk.Explainer(model, background=X[:50]).explain(X[:3])
    assert values.feature_names == (*X,)


def test_a_text_column_may_have_any_name(tmp_path):
    texts, y = docstrings()
    column = pd.Series(texts, name="review text")
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(column, y)
    _, model = saved(pipeline, column, tmp_path)
    np.testing.assert_array_equal(
        model.predict({"review text": texts[:9]}), pipeline.predict(column[:9])
    )


def ties(seed):
    """Halves of whole numbers, which scaled lie on the thresholds of trees."""
    rng = np.random.default_rng(seed)
    X = np.rint(rng.normal(size=(300, 4)) * [1, 3, 0.5, 4])
    return X, np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.8])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "wrap",
    [
        lambda pipeline: pipeline,
        lambda pipeline: GridSearchCV(pipeline, {}, cv=2),
        OneVsRestClassifier,
        lambda pipeline: VotingClassifier(
            [("a", pipeline), ("b", LogisticRegression())], voting="soft", weights=[1, 3]
        ),
    ],
)
def test_a_forest_behind_a_scaler_rounds_as_it_does_alone(wrap, seed, tmp_path):
    """Compared as doubles, 80 of 300 labels were others, and the gate saw nothing."""
    X, y = ties(seed)
    forest = RandomForestClassifier(5, max_depth=4, random_state=0)
    model = wrap(make_pipeline(StandardScaler(), forest)).fit(X, y)
    _, packed = saved(model, X, tmp_path)
    X[:, 0] += 0.5
    np.testing.assert_allclose(packed.predict_proba(X), model.predict_proba(X), atol=1e-5)


def test_the_gate_looks_halfway_between_values(tmp_path, monkeypatch):
    as_doubles = Columns.matrix
    monkeypatch.setattr(Columns, "matrix", lambda columns, _: as_doubles(columns, np.float64))
    X, y = ties(1)
    forest = RandomForestClassifier(5, max_depth=4, random_state=0)
    model = make_pipeline(StandardScaler(), forest).fit(X, y)
    with pytest.raises(ParityError, match="halfway between those of the example"):
        saved(model, X, tmp_path)


def test_a_value_equal_to_the_threshold_of_a_binarizer(tmp_path):
    X, y = wine()
    pipeline = make_pipeline(Binarizer(threshold=2.0), LogisticRegression()).fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    for value in (2.0, np.nextafter(2.0, 3), np.nextafter(2.0, 1)):
        rows = np.full_like(X[:1], value)
        np.testing.assert_allclose(model.predict_proba(rows), pipeline.predict_proba(rows))


def test_small_outputs_are_compared_by_their_own_size(tmp_path, monkeypatch):
    X, y = coded()
    model = RandomForestRegressor(9).fit(X, y * 1e-9)
    manifest, _ = saved(model, X, tmp_path)
    assert manifest.parity.max_rel < 1e-6
    monkeypatch.setattr(
        "modelkit.convert.estimators.forests.leaves_of", lambda tree: 1.1 * leaves_of(tree)
    )
    with pytest.raises(ParityError, match=r"on \d+ rows of the example"):
        saved(model, X, tmp_path)


@pytest.mark.parametrize("gap", [np.nan, None])
@pytest.mark.parametrize(
    "encoder",
    [OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(), OneHotEncoder(drop="first")],
)
def test_a_missing_string_is_a_category_and_not_the_word_nan(encoder, gap, tmp_path):
    rng = np.random.default_rng(0)
    column = pd.Series(rng.choice(list("abc"), 300), dtype=object)
    column[::4] = gap
    X, y = column.to_frame("c"), column.isna() | (rng.random(300) < 0.1)
    pipeline = make_pipeline(make_column_transformer((encoder, ["c"])), LogisticRegression()).fit(
        X, y
    )
    _, model = saved(pipeline, X, tmp_path)
    assert model.signature.inputs[0].columns[0].nullable
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    words = pd.DataFrame({"c": ["nan", "None"]})
    if encoder.handle_unknown == "ignore":
        np.testing.assert_allclose(
            model.predict_proba(words), pipeline.predict_proba(words), atol=1e-6
        )
    else:
        with pytest.raises(SignatureError, match="unknown category 'nan'"):
            model.predict(words)


@pytest.mark.parametrize(
    "encoder",
    [OneHotEncoder(handle_unknown="ignore"), OneHotEncoder(), OneHotEncoder(drop="if_binary")],
)
def test_booleans_beside_strings_in_one_encoder(encoder, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"b": rng.random(99) < 0.5, "x": rng.normal(size=99), "c": rng.choice(["u", "v"], 99)}
    )
    parts = make_column_transformer((encoder, ["b", "c"]), remainder="passthrough")
    pipeline = make_pipeline(parts, LogisticRegression()).fit(X, X["b"] ^ (X["x"] > 1))
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(model.predict_proba(X), pipeline.predict_proba(X), atol=1e-6)
    half = X[:1].assign(b=[0.5])
    if encoder.handle_unknown == "ignore":
        np.testing.assert_allclose(
            model.predict_proba(half), pipeline.predict_proba(half), atol=1e-6
        )
    else:
        with pytest.raises(SignatureError, match=r"unknown category 0\.5"):
            model.predict(half)


FILMS = ["a fine film", "not good", "bad city", "good town"] * 10
GREEK = ["ο δρόμος καλός", "ο λόγος κακός", "a fine film", "not good"] * 10  # noqa: RUF001


@pytest.mark.parametrize(
    ("texts", "words"),
    [(GREEK, TfidfVectorizer()), (FILMS, CountVectorizer(analyzer="char", ngram_range=(1, 2)))],
)
def test_texts_that_no_graph_reads_as_python_does(texts, words, tmp_path):
    """Python writes the last sigma of a word otherwise; scikit-learn takes white space together before it counts."""
    model = make_pipeline(words, LogisticRegression()).fit(texts, [1, 0, 0, 1] * 10)
    _, packed = saved(model, texts, tmp_path)
    strange = [*(text.upper() for text in texts), "a  fine\t\tfilm"]
    np.testing.assert_allclose(
        packed.predict_proba({"text": strange}), model.predict_proba(strange), atol=1e-12
    )


def test_a_text_that_is_no_unicode_is_answered_as_the_source_does(tmp_path):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(FILMS, [1, 0, 0, 1] * 10)
    _, packed = saved(model, FILMS, tmp_path)
    broken = ["good \ud83d", "go\ud83dod film"]
    np.testing.assert_allclose(
        packed.predict_proba({"text": broken}), model.predict_proba(broken), atol=1e-12
    )


def test_steps_that_do_nothing_and_weights_in_a_list(tmp_path):
    X, y = diabetes()
    voting = VotingRegressor([("a", LinearRegression()), ("b", Ridge())], weights=[1, 3])
    pipeline = make_pipeline("passthrough", StandardScaler(), voting).fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    np.testing.assert_allclose(model.predict(X), pipeline.predict(X), rtol=1e-4)


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_a_row_of_zeros_has_no_norm(norm, tmp_path):
    X, y = wine()
    pipeline = make_pipeline(Normalizer(norm), LogisticRegression()).fit(X, y)
    _, model = saved(pipeline, X, tmp_path)
    for rows in (0 * X[:3], np.full_like(X[:3], 1e-30), np.full_like(X[:3], 1e-14), -X[:9]):
        np.testing.assert_allclose(
            model.predict_proba(rows), pipeline.predict_proba(rows), atol=1e-9
        )


def test_equal_models_give_equal_bytes_in_every_process(tmp_path, monkeypatch):
    """Python draws another order of sets for each."""
    code = """
import sys, modelkit as mk
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
texts = ["a river", "the moon", "rivers of the moon", "kitchen table"] * 5
model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [0, 1, 1, 0] * 5)
digest = mk.save(model, sys.argv[1], example=texts, name="t", version="1").digest
"""
    command = [sys.executable, "-c", code + "print(digest)", str(tmp_path / "t.mk")]
    digests = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", command[2:])
    here = {}
    exec(code, here)  # noqa: S102 - in this process too
    assert digests == {here["digest"]}


@pytest.mark.parametrize("trees", [4, 20])
def test_lightgbm_forests_are_averaged_by_their_number_of_trees(lightgbm, trees, tmp_path):
    forest = lightgbm.LGBMRegressor(
        n_estimators=trees, boosting_type="rf", bagging_freq=1, bagging_fraction=0.7, verbose=-1
    ).fit(*diabetes())
    _, model = saved(forest, diabetes()[0], tmp_path)
    np.testing.assert_allclose(
        model.predict(diabetes()[0]), forest.predict(diabetes()[0]), rtol=1e-5
    )


def test_categories_of_lightgbm_are_open_as_its_own_are(lightgbm, tmp_path):
    from helpers.kinds import penguin_categories

    X, y = penguin_categories()
    model = lightgbm.LGBMClassifier(n_estimators=20, min_data_per_group=1, verbose=-1).fit(X, y)
    _, packed = saved(model, X, tmp_path)
    rows = X.to_dict("records")
    plain = [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in rows
    ]
    np.testing.assert_allclose(packed.predict_proba(plain), model.predict_proba(X), rtol=1e-13)
    unseen = X.assign(island=pd.Categorical(["Atlantis"] * len(X)))
    plain = [row | {"island": "Atlantis"} for row in plain]
    np.testing.assert_allclose(packed.predict_proba(plain), model.predict_proba(unseen), rtol=1e-13)


def test_whole_numbers_are_tried_at_the_thresholds_of_trees(xgboost, tmp_path):
    """`x < t` read as `x <= t` is right everywhere but where x equals t."""
    X = np.random.default_rng(0).integers(0, 5, (400, 3))
    y = (X.sum(axis=1) > 6).astype(int)
    model = xgboost.XGBClassifier(n_estimators=10).fit(X, y)
    manifest, _ = saved(model, X, tmp_path)
    assert manifest.parity.threshold_rows > 0
    source = from_sklearn(model, X, "float32")
    wrong = type(source.proto)()
    wrong.CopyFrom(source.proto)
    for node in wrong.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_modes":
                modes = to_array(attribute.t)
                less = np.where(modes == LESS, LEQ, modes)
                attribute.t.CopyFrom(from_array(less.astype(np.uint8)))
    swapped = Source(**{**source.__dict__, "proto": wrong})
    with pytest.raises(ParityError, match="disagrees with XGBoost"):
        prove_parity(
            swapped, lambda signature: OnnxModel(wrong.SerializeToString(), signature), None
        )


def test_values_equal_to_double_thresholds_go_where_they_went(tmp_path):
    X, y = diabetes()
    model = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(X, y)
    manifest, _ = saved(model, X, tmp_path)
    assert manifest.parity.threshold_rows == 256


def test_thresholds_are_tried_in_a_frame_with_texts_and_gaps(tmp_path):
    rng = np.random.default_rng(0)
    numbers = np.round(rng.normal(size=(300, 2)), 1)
    frame = pd.DataFrame(numbers, columns=["a", "b"]).assign(c=rng.choice(list("xyz"), 300))
    frame.loc[::7, "a"] = np.nan
    y = (frame["b"] > 0) ^ (frame["c"] == "x")
    columns = make_column_transformer(
        (OneHotEncoder(), ["c"]), (SimpleImputer(), ["a"]), remainder="passthrough"
    )
    model = make_pipeline(columns, RandomForestClassifier(20, random_state=0)).fit(frame, y)
    manifest, _ = saved(model, frame, tmp_path)
    assert manifest.parity.threshold_rows == 256
    source = from_sklearn(model, frame, "float64")
    rows = at_thresholds(source.proto, source.signature, rows_of(frame)).raw
    changed = [name for name in "abc" if not rows[name].isin(frame[name]).all()]
    assert changed == ["a", "b"]


def test_thresholds_of_older_ensembles_are_read_in_double():
    inner = np.array([0.1, 0.0, 0.0])
    node = make_node(
        "TreeEnsembleRegressor",
        ["X"],
        ["y"],
        domain="ai.onnx.ml",
        nodes_featureids=[1, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values_as_tensor=from_array(inner),
    )
    columns = tuple(mk.Column(name, "float64") for name in "ab")
    spec = mk.TensorSpec("X", "float64", ("batch", 2), columns)
    given = make_tensor_value_info("X", 11, ["batch", 2])
    proto = make_model(
        make_graph([node], "g", [given], []), opset_imports=[make_opsetid("ai.onnx.ml", 3)]
    )
    rows = at_thresholds(
        proto,
        mk.Signature((spec,), (mk.TensorSpec("y", "float64", ("batch",)),)),
        rows_of(np.zeros((3, 2))),
    ).raw
    assert rows[0].tolist() == [0.0, 0.1]


def test_rows_far_away_are_recorded_and_shown(tmp_path):
    X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    network = MLPClassifier((8,), max_iter=50, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(X, X[:, 0] > 0)
    manifest, _ = saved(network, X, tmp_path)
    assert manifest.parity.large_rows == 64
    assert manifest.parity.large_max_rel < 1
    parity = manifest.parity
    shown = type(parity)(**{**parity.__dict__, "large_flips": 3, "large_max_rel": 0.5})
    assert (
        "10,000 times beyond the example they DIFFER: max rel diff 0.5, 3 of 64 labels flipped"
        in str(shown)
    )


@pytest.mark.parametrize("pairs", [(1, 1), (1, 2)])
def test_words_are_those_of_python_in_any_script(pairs, tmp_path):
    texts, y = docstrings()
    texts = [*texts, "Déjà VU über ÉCOLE", "Вот ГОРОД и мир", "a b cd ef"]
    model = make_pipeline(TfidfVectorizer(ngram_range=pairs), LogisticRegression()).fit(
        texts, [*y, 0, 1, 0]
    )
    _, packed = saved(model, texts, tmp_path)
    strange = [*probes.TEXTS, "ÉCOLE école", "ГОРОД город"]
    np.testing.assert_allclose(
        packed.predict_proba({"text": strange}), model.predict_proba(strange), atol=1e-6
    )
    with pytest.raises(SignatureError):
        packed.predict({"text": [None]})


def test_several_outputs_are_asked_for_by_name(tmp_path):
    from sklearn.multioutput import MultiOutputClassifier

    X, y = two_labels()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MultiOutputClassifier(LogisticRegression(max_iter=50)).fit(X, y)
    _, packed = saved(model, X, tmp_path)
    got = packed.run(X)
    assert list(got) == ["label", "probabilities_0", "probabilities_1"]
    np.testing.assert_array_equal(packed.predict(X), model.predict(X))
    for i, expected in enumerate(model.predict_proba(X)):
        np.testing.assert_allclose(got[f"probabilities_{i}"], expected, atol=1e-6)
    with pytest.raises(SignatureError, match="use predict or run"):
        packed.predict_proba(X)


def test_outliers_have_labels_and_scores(tmp_path):
    from sklearn.ensemble import IsolationForest

    X = wine()[0]
    model = IsolationForest(n_estimators=10, random_state=0).fit(X)
    _, packed = saved(model, X, tmp_path)
    np.testing.assert_array_equal(packed.predict(X), model.predict(X))
    np.testing.assert_allclose(packed.run(X)["scores"], model.decision_function(X), atol=1e-5)


def test_nullability_does_not_depend_on_the_example(tmp_path):
    X, y = wine_holes()
    forest = RandomForestClassifier(5, random_state=0).fit(X, y)
    whole, _ = saved(forest, wine()[0], tmp_path)
    holed, _ = saved(forest, X, tmp_path)
    assert whole.signature == holed.signature
    assert all(column.nullable for column in whole.signature.inputs[0].columns)


def _towns(gap):
    towns = np.array(["Rome", "Oslo", gap, "Oslo"] * 25, object)
    return pd.DataFrame({"town": pd.Series(towns, dtype=object), "age": np.arange(100.0)})


@pytest.mark.parametrize(
    "imputer",
    [SimpleImputer(strategy="most_frequent"), SimpleImputer(strategy="constant", fill_value="?")],
    ids=["most frequent", "constant"],
)
def test_none_in_a_column_that_is_imputed_is_a_value(imputer, tmp_path):
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((make_pipeline(imputer, encoder), ["town"]))
    model = make_pipeline(columns, LogisticRegression())
    towns, labels = _towns(None), np.arange(100) % 3 == 0
    _, loaded = saved(model.fit(towns, labels), towns, tmp_path)
    np.testing.assert_allclose(loaded.predict_proba(towns), model.predict_proba(towns), 1e-12)
    for others in (
        _towns("Oslo"),
        pd.concat([towns, _towns(np.nan)]),
    ):  # which show no None, or both
        with pytest.raises(ConversionError, match=r"None as a category of column 'town'.*fillna"):
            saved(model, others, tmp_path)
    filled = towns.fillna(np.nan)
    _, loaded = saved(model.fit(filled, labels), filled, tmp_path)
    np.testing.assert_array_equal(loaded.predict(towns), model.predict(filled))


def test_neighbours_of_several_targets_answer_with_strings(tmp_path):
    rows, labels = two_labels()
    named = np.where(labels > 0, "yes", "no")
    neighbours = KNeighborsClassifier().fit(rows, named)
    _, model = saved(neighbours, rows, tmp_path)
    np.testing.assert_array_equal(model.predict(rows), neighbours.predict(rows))
