"""Rows that an example lacks and an application will have: at thresholds, between values, far away."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.kinds import diabetes
from helpers.packages import saved
from helpers.rows import ties
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelkit.convert.estimators.tensors import Columns
from modelkit.convert.parity.check import open_signature
from modelkit.convert.parity.probes import at_thresholds
from modelkit.convert.parity.rows import columns_of
from modelkit.convert.sklearn import from_sklearn
from modelkit.errors import ParityError


def test_the_gate_looks_halfway_between_values(tmp_path, monkeypatch):
    as_doubles = Columns.matrix
    monkeypatch.setattr(Columns, "matrix", lambda columns, _: as_doubles(columns, np.float64))
    X, y = ties(1)
    forest = RandomForestClassifier(5, max_depth=4, random_state=0)
    model = make_pipeline(StandardScaler(), forest).fit(X, y)
    with pytest.raises(ParityError, match="halfway between those of the example"):
        saved(model, X, tmp_path)


def test_values_equal_to_double_thresholds_go_where_they_went(tmp_path):
    X, y = diabetes()
    model = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(X, y)
    manifest, _ = saved(model, X, tmp_path)
    assert manifest.parity.threshold_rows > 256


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
    assert manifest.parity.threshold_rows > 256
    source = from_sklearn(model, frame, "float64")
    rows = at_thresholds(source, columns_of(source, open_signature(source.signature)))
    changed = [
        name
        for name in "abc"
        if not set(rows[name]) <= set(frame[name].where(frame[name].notna(), None))
    ]
    assert changed == ["a", "b"]


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


def test_what_gives_no_labels_is_not_said_to_flip_them(tmp_path):
    X = np.random.default_rng(0).normal(size=(50, 2))
    numbers, _ = saved(LinearRegression().fit(X, X[:, 0]), X, tmp_path)
    assert "labels" not in str(numbers.parity)
    labels, model = saved(LogisticRegression().fit(X, X[:, 0] > 0), X, tmp_path)
    assert ", 0 labels flipped, " in str(labels.parity)
    assert ", 0 labels flipped, " in str(model.manifest.parity)
    assert b"labels" not in numbers.to_json()
    far = replace(numbers.parity, large_rows=4, large_max_rel=0.5, ties=3)
    assert ", 3 at ties, in " in str(far)
    assert str(far).endswith("DIFFER: max rel diff 0.5")
