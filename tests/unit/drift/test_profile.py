"""A Profile: what it is fitted from, and the package that carries it."""

import numpy as np
import pandas as pd
import pytest
from helpers.drawn import noisy_rows, rng
from helpers.streams import column
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.drift.cells import CELLS
from modelkit.drift.order import rows_apart
from modelkit.drift.profile import Profile
from modelkit.errors import UsageError

# A reference that workers counted.


@pytest.mark.parametrize("more", [{}, {"stratum": "c"}, {"unit": "shop"}], ids=str)
def test_a_tally_is_a_reference_as_its_rows_are(more):
    def rows(n, seed):
        shops = {"shop": np.arange(n) % 20} if "unit" in more else {}
        return noisy_rows(n, seed) | shops

    X, held = rows(600, 5), rows(4000, 6)
    alone = Profile.fit(X, **more)
    parts = [{name: values[k::3] for name, values in held.items()} for k in range(3)]
    tally = mk.types.Tally.total([alone.tally(part) for part in parts])
    profile = Profile.fit(X, reference=tally, **more)
    assert profile.features == alone.features
    assert (profile.rows, profile.train_rows) == (4000, 300)
    kind = X.get("shop", np.arange(600))
    order = np.random.default_rng(0).permutation(np.unique(kind))
    first = np.isin(kind, order[: len(order) // 2])
    of_rows = Profile.fit(
        {name: values[first] for name, values in X.items()}, reference=held, **more
    )
    assert np.array_equal(profile.counts, of_rows.counts)
    assert profile.strata == of_rows.strata
    if "unit" in more:
        assert np.array_equal(
            np.sort(profile.units.shares, axis=0), np.sort(of_rows.units.shares, axis=0)
        )
    mk.Detector(profile).test(rows(1000, 7))
    assert Profile.from_bytes(profile.to_bytes()).digest == profile.digest


def test_the_answers_of_a_model_may_be_in_the_tally(tmp_path):
    X = pd.DataFrame({"a": rng(0).normal(size=400), "b": rng(1).normal(size=400)})
    mk.save(LogisticRegression().fit(X, X["a"] > 0), tmp_path / "m.mk", example=X)
    model = mk.load(tmp_path / "m.mk")
    alone = Profile.fit(X, model=model)
    assert Profile.fit(X, reference=alone.tally(X, model.run(X)), model=model).rows == 400
    with pytest.raises(UsageError, match="lacks the model's answers"):
        Profile.fit(X, reference=alone.tally(X), model=model)


def test_what_counts_alone_cannot_give_is_refused():
    X, held = noisy_rows(300, 5), noisy_rows(200, 6)
    alone = Profile.fit(X)
    tally = alone.tally(held)
    for given, why in (
        ({"labels": np.ones(200)}, "no rows: leave out labels"),
        ({"losses": np.ones(200), "ordered": True}, "leave out losses, ordered"),
        ({"segments": ("c",)}, "leave out segments"),
        ({"seed": 1}, "a tally by another profile"),
        ({"stratum": "c"}, "a tally by another profile"),
    ):
        with pytest.raises(UsageError, match=why):
            Profile.fit(X, reference=tally, **given)
    with pytest.raises(UsageError, match=r"several tallies: pass Tally.total\(reference\)"):
        Profile.fit(X, reference=[tally, tally])
    with pytest.raises(UsageError, match="several tables: concatenate them, or pass unit='batch'"):
        Profile.fit(X, reference=[pd.DataFrame(held)] * 2)
    few = alone.tally({name: values[:49] for name, values in held.items()})
    with pytest.raises(UsageError, match="49 rows left"):
        Profile.fit(X, reference=few)
    known = Profile.fit(X, stratum="c")
    strange = held | {"c": np.full(200, "other", object)}
    with pytest.raises(
        UsageError, match="200 rows of the tally are of strata that X does not have"
    ):
        Profile.fit(X, reference=known.tally(strange), stratum="c")


# Dependence and strata.


def ar(n, rho, seed=0):
    steps = rng(seed).normal(size=n)
    for i in range(1, n):
        steps[i] = rho * steps[i - 1] + (1 - rho**2) ** 0.5 * steps[i]
    return steps


def test_strides_are_for_dependent_rows_only():
    n = 6000
    rows = {
        "iid": rng(1).normal(size=n),
        "ar": ar(n, 0.9),
        "flag": rng(2).random(n) < 0.5,
        "k": np.ones(n),
    }
    profile = Profile.fit(rows, ordered=True)
    strides = {f.name: f.stride for f in profile.features}
    assert strides["ar"] > 20
    assert strides["iid"] == strides["flag"] == strides["k"] == 1
    assert profile.counts[0, 1].sum() == -(-n // 2 // strides["ar"])
    assert {f.stride for f in Profile.fit(rows).features} == {1}
    assert rows_apart(np.zeros(0, np.uint8)) == 1
    assert rows_apart(np.arange(300) % 250) <= 200


def test_strata_have_counts_of_their_own():
    hour = np.arange(3000) % 24
    profile = Profile.fit({"h": hour, "x": rng().normal(hour)}, stratum="h")
    assert profile.strata == tuple(sorted(str(h) for h in range(24)))
    assert [f.name for f in profile.features] == ["x"]
    assert profile.counts.shape == (24, 1, CELLS)
    assert profile.counts.sum() == 1500
    for served in (
        np.array([5.0], np.float32),
        np.array([5], np.uint8),
        column([5]),
        column([5.0]),
    ):
        detector = mk.Detector(profile)
        detector.update({"h": served, "x": [0.0]})
        assert detector._tracker.strangers == 0
        assert dict(detector._tracker.streams())["5"].members == 1
    flags = Profile.fit({"f": [True, False] * 100, "x": np.arange(200.0)}, stratum="f")
    given = {"f": np.array([1, 0], np.float32), "x": np.zeros(2)}
    strata = flags.layout.encode_columns(given, None).strata
    assert strata.tolist() == [1, 0]


# Scores, labels, models.

N = 1000
ROWS = rng(11).normal(size=(N, 2))
TRAIN = rng(13).normal(size=(N, 2))
P = 1 / (1 + np.exp(-ROWS[:, 0]))
BOTH = np.c_[1 - P, P]
LABELS = (rng(12).random(N) < P).astype(int)


@pytest.mark.parametrize(
    ("scores", "labels", "feature"),
    [
        (BOTH, LABELS, "confidence"), (BOTH, LABELS.astype(bool), "confidence"),
        (BOTH, np.array(["no", "yes"])[LABELS], "confidence"),
        (LABELS, LABELS, "label"), (np.array(["no", "yes"])[LABELS], None, "label"), (P, ROWS[:, 1], "prediction"),
        (P.astype(np.float32), None, "prediction"), (ROWS, None, "embedding: centroid"),
        ({"odd": ROWS}, None, "odd[0]"),
        ({"label": LABELS, "probabilities": BOTH}, LABELS, "label"),
    ],
    ids=range(10),
)  # fmt: skip
def test_scores_become_features_and_labels_losses(scores, labels, feature):
    profile = Profile.fit(TRAIN, reference=ROWS, scores=scores, labels=labels)
    found = [f for f in profile.features if f.output]
    assert feature in [f.name for f in found]
    j = profile.features.index(found[0])
    assert profile.counts[0, j].sum() == N - N // 5  # the others made the cells
    assert profile.counts[0, 0].sum() == N
    assert (profile.baseline is None) == (labels is None)
    if labels is not None:
        # The others made the scale.
        assert profile.baseline.n == (N - N // 5 if feature == "prediction" else N)
    assert (profile.calibration is None) == (
        (feature != "confidence" and not isinstance(scores, dict)) or labels is None
    )
    assert mk.Detector(profile).update(ROWS, scores=scores) == []


def test_the_loss_of_the_reference_is_that_of_the_model():
    profile = Profile.fit(TRAIN, reference=ROWS, scores=BOTH, labels=LABELS)
    assert profile.baseline.total == ((P > 0.5) != LABELS).sum()
    assert profile.baseline.binary
    given = Profile.fit(TRAIN, reference=ROWS, losses=np.linspace(0, 1, N)).baseline
    assert (given.total, given.binary) == (pytest.approx(N / 2), False)


def bad(match, **arguments):
    return pytest.param(arguments, match, id=match)


GOOD = {"X": TRAIN, "reference": ROWS}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        bad("reference=", reference=None, scores=P), bad("pass reference", reference=None, losses=P),
        bad("needs 50", X=TRAIN[:10]),
        bad("reference has 49", reference=ROWS[:49]), bad("lack columns", X=TRAIN[:, :0], reference=ROWS[:, :0]),
        bad("lacks the columns \\['x1'\\]", reference=ROWS[:, :1]), bad("unknown column 'h'", stratum="h"),
        bad("at most 64", stratum="x0"),
        bad("text or importance", importance={"z": 1}), bad("not a feature", text=["z"]),
        bad("number, 0 or more", importance={"x0": -1}), bad("got {'x0': 'high'}", importance={"x0": "high"}),
            bad("unit= is the name of one column", unit=["x0"]), bad("stratum= is the name", stratum=["x0"]),
        bad("got {'x0': nan}", importance={"x0": float("nan")}), bad("above zero", importance={"x0": 0, "x1": 0}),
        bad("holds numbers where the profile has texts", text=["x0"]), bad("one entry", scores=P[:5]),
        bad("scores are", scores=[["a"]]),
        bad("1000 reference rows and 5", losses=P[:5]), bad("rows and 5 labels", scores=P, labels=P[:5]),
        bad("from 0 to 1", losses=P + 1),
        bad("from 0 to 1:", losses=np.where(P > 0.5, np.nan, P)), bad("losses are not all numbers", losses=["a"] * N),
        bad("labels are not all", scores=P, labels=["a"] * N), bad("some are texts", scores=P, labels=["1.5"] * N),
        bad("a label is missing", scores=BOTH, labels=[None] * N),
        bad("is missing", scores=P, labels=np.full(N, np.nan)), bad("1 classes", scores=BOTH, labels=np.zeros(N)),
        bad("pass model=, or scores=", labels=LABELS), bad("different lengths", X={"x0": P, "x1": P[:5]}),
        bad("two columns have one name", X=pd.DataFrame(TRAIN, columns=["a", "a"])),
        bad("share the names", X={"prediction": P / 2}, reference={"prediction": P}, scores=P),
    ],
)  # fmt: skip
def test_arguments_that_do_not_go_together_are_refused(arguments, match):
    with pytest.raises(UsageError, match=match):
        Profile.fit(**(GOOD | arguments))


def classifier():
    signature = mk.Signature(
        inputs=[mk.TensorSpec("X", "float32", ("batch", 2),
        columns=(mk.Column("a", "float32"), mk.Column("b", "float32")))],
        outputs=[mk.TensorSpec("label", "int64", ("batch",)), mk.TensorSpec("probabilities", "float32", ("batch", 2))],
        classes=(0, 1),
    )  # fmt: skip

    def answer(feeds):
        p = 1 / (1 + np.exp(-feeds["X"][:, 0].astype(np.float64)))
        return {
            "label": (p > 0.5).astype(np.int64),
            "probabilities": np.c_[1 - p, p].astype(np.float32),
        }

    return mk.FunctionModel(answer, signature, batchable=True)


def test_a_model_is_asked_and_names_the_columns():
    profile = Profile.fit(TRAIN, reference=ROWS, model=classifier(), labels=LABELS)
    outputs = ["label", "confidence", "probabilities[1]"]
    assert [f.name for f in profile.features] == ["a", "b", *outputs]
    assert (profile.counts.sum(axis=2) == N).all()
    assert profile.calibration.classes == ("0", "1")
    assert Profile.fit(ROWS, model=classifier()).rows == N // 2
    with pytest.raises(UsageError, match="not both"):
        Profile.fit(TRAIN, reference=ROWS, model=classifier(), scores=P)
    with pytest.raises(UsageError, match=r"\['7'\] are not classes"):
        Profile.fit(TRAIN, reference=ROWS, model=classifier(), labels=np.where(LABELS == 1, 7, 0))


# In a package.


def test_a_package_carries_its_profile(breast_cancer, tmp_path):
    X, y = breast_cancer
    fitted = LogisticRegression(solver="liblinear").fit(X, y)
    plain, path = tmp_path / "plain.mk", tmp_path / "with.mk"
    mk.save(fitted, plain, example=X, name="b", version="1")
    with mk.load(plain) as model:
        profile = Profile.fit(X[:300], reference=X[300:], model=model, labels=y[300:])
    mk.save(fitted, path, example=X, name="b", version="1", profile=profile)
    with mk.load(path) as model:
        assert Profile.from_bytes(model.attachments["profile"]).digest == profile.digest
        assert mk.Monitor(model).detector.profile.digest == profile.digest
    assert path.stat().st_size - plain.stat().st_size < 2500 * len(profile.features) + 10_000
    for odd in (
        Profile.fit(X.rename(columns={"mean radius": "radius"})),
        Profile.fit(X.iloc[:, :5]),
    ):
        with pytest.raises(UsageError, match="differ in the columns") as caught:
            mk.save(fitted, tmp_path / "odd.mk", example=X, name="b", version="1", profile=odd)
        assert "mean radius" in caught.value.columns or len(caught.value.columns) == 25
    bare = Profile.fit(X.to_numpy())
    with pytest.raises(
        UsageError, match=r"lacks \['mean radius'.*and 24 more.*has \['x0'.*and 24 more.*not take"
    ):
        mk.save(fitted, tmp_path / "odd.mk", example=X, name="b", version="1", profile=bare)
    with pytest.raises(UsageError, match="scores"):
        mk.save(fitted, tmp_path / "odd.mk", example=X, name="b", version="1",
                profile=Profile.fit(X[:300], reference=X[300:], scores=np.ones(len(X) - 300)))  # fmt: skip
    assert not (tmp_path / "odd.mk").exists()


def test_a_profile_of_one_column_has_one_feature():
    assert "of 1 feature (x)" in repr(mk.Profile.fit({"x": np.arange(200.0)}))
