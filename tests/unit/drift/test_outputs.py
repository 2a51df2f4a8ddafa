"""A Profile knows the classes of its model: columns of probabilities are told by name, never by place."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

import modelkit as mk
from modelkit.errors import UsageError
from modelkit.integrations.scorer.tallier import TALLY, Tallier

R = np.random.default_rng(0)
NAMES = ["a", "b"]
COLUMNS = tuple(mk.Column(name, "float64") for name in NAMES)
X = pd.DataFrame(R.normal(size=(4000, 2)), columns=NAMES)
KINDS = np.array(["low", "middle", "high"])[np.digitize(X["a"], [-0.5, 0.5])]


def model_of(folder, labels, kind=LogisticRegression):
    path = folder / "m.mk"
    mk.save(kind().fit(X, labels), path, example=X, name="m", version="1")
    return mk.load(path, threads=1)


def profile_of(model, **options):
    return mk.Profile.fit(X[:2000], reference=X[2000:], model=model, **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_of(tmp_path_factory.mktemp("classes"), KINDS)


@pytest.fixture(scope="module")
def profile(model):
    return profile_of(model)


@pytest.fixture(scope="module")
def rows(model):
    served = model.run(X[:300])["probabilities"]
    columns = {f"probabilities_{name}": served[:, i] for i, name in enumerate(model.classes_)}
    return X[:300].assign(**columns, note="probabilities_are_here")


@pytest.fixture(scope="module")
def whole(model, profile):
    served = model.run(X[:300])
    return profile.tally(X[:300], {"probabilities": served["probabilities"]})


def test_the_names_are_those_of_the_model_and_are_stored(profile):
    assert profile.layout.class_names == ("high", "low", "middle")
    again = mk.Profile.from_bytes(profile.to_bytes())
    assert again.layout.class_names == profile.layout.class_names
    assert again.digest == profile.digest
    assert mk.Profile.fit(X[:2000], reference=X[2000:]).layout.class_names == ()


@settings(max_examples=examples(25), deadline=None)
@given(order=st.permutations(range(6)))
def test_columns_in_any_order_give_the_same_tally(profile, rows, whole, order):
    turned = rows[[rows.columns[i] for i in order]]
    tallier = Tallier(profile, ["probabilities"])
    wanted = tallier.columns(list(turned))
    assert "note" not in wanted
    assert tallier.frame(turned) == [whole]
    table = tallier.arrow(pa.Table.from_pandas(turned, preserve_index=False))
    assert [mk.types.Tally.from_bytes(data) for data in table[TALLY].to_pylist()] == [whole]


def test_a_missing_class_and_an_unknown_one_are_told(profile, rows):
    tallier = Tallier(profile, ["probabilities"])
    with pytest.raises(UsageError, match=r"they lack \['probabilities_low'\]"):
        tallier.frame(rows.drop(columns="probabilities_low"))
    with pytest.raises(UsageError, match=r"they have \['probabilities_none'\]"):
        tallier.columns([*rows, "probabilities_none"])
    renamed = rows.rename(columns={"probabilities_low": "probabilities_0"})
    with pytest.raises(UsageError, match=r"lack \['probabilities_low'\], and they have"):
        tallier.frame(renamed)


def test_more_classes_than_are_watched_one_by_one_are_told_apart(tmp_path):
    """Only their confidence is watched: a column too many was taken for one more class."""
    many = model_of(tmp_path, np.arange(len(X)) % 24, GaussianNB)
    profile = profile_of(many)
    tallier = Tallier(profile, ["probabilities"])
    names = [f"probabilities_{i}" for i in range(24)]
    served = many.run(X[:300])["probabilities"]
    frame = X[:300].assign(**dict(zip(names, served.T, strict=True)), probabilities_sum=1.0)
    with pytest.raises(UsageError, match=r"they have \['probabilities_sum'\]"):
        tallier.frame(frame)
    whole = profile.tally(X[:300], {"probabilities": served})
    assert tallier.frame(frame[[*reversed(names), *NAMES]]) == [whole]


def test_a_profile_that_was_fitted_to_scores_has_numbers_alone(model):
    """Whose order is in their names, as a Scorer adds them where a model has no classes."""
    served = model.run(X)["probabilities"]
    profile = mk.Profile.fit(X[:2000], reference=X[2000:], scores={"probabilities": served[2000:]})
    tallier = Tallier(profile, ["probabilities"])
    frame = X.assign(**{f"probabilities_{i}": served[:, i] for i in (2, 0, 1)})
    assert tallier.frame(frame) == [profile.tally(X, {"probabilities": served})]
    with pytest.raises(UsageError, match="fitted with model="):
        tallier.frame(frame.rename(columns={"probabilities_1": "probabilities_low"}))


def test_numbers_of_a_vector_are_in_their_own_order():
    vectors = R.normal(size=(4000, 12)).astype(np.float32)
    profile = mk.Profile.fit(X[:2000], reference=X[2000:], scores={"embedding": vectors[2000:]})
    names = sorted(f"embedding_{i}" for i in range(12))  # of which 10 comes before 2
    columns = {name: vectors[:, int(name.removeprefix("embedding_"))] for name in names}
    tallier = Tallier(profile, ["embedding"])
    assert tallier.frame(X.assign(**columns)) == [profile.tally(X, {"embedding": vectors})]


def test_a_column_of_the_rows_may_begin_like_an_output(model):
    rows = X.assign(probabilities_before=0.5 + X["a"] / 9)
    served = model.run(X)["probabilities"]
    profile = mk.Profile.fit(
        rows[:2000], reference=rows[2000:], scores={"probabilities": served[2000:]}
    )
    frame = rows.assign(**{f"probabilities_{i}": served[:, i] for i in range(3)})
    found = Tallier(profile, ["probabilities"]).frame(frame)
    assert found == [profile.tally(rows, {"probabilities": served})]


def test_profiles_of_other_classes_do_not_go_together(profile, model, tmp_path):
    order = {"low": "z", "middle": "y", "high": "x"}
    other = model_of(tmp_path, pd.Series(KINDS).map(order).to_numpy())
    with pytest.raises(UsageError, match="the classes"):
        profile.layout.check(other.signature)
    profile.layout.check(model.signature)


def test_a_frame_of_scores_is_read_by_name(model, profile, whole):
    served = model.run(X[:300])["probabilities"]
    frame = pd.DataFrame(served, columns=list(model.classes_))
    turned = frame[frame.columns[::-1]]
    named = turned.rename(columns="probabilities_{}".format)
    for scores in (frame, turned, named, pa.Table.from_pandas(turned, preserve_index=False)):
        assert profile.tally(X[:300], scores) == whole
        assert profile.tally(X[:300], {"probabilities": scores}) == whole
    tested = mk.Detector(profile).test(X[:300], turned)
    by_array = mk.Detector(profile).test(X[:300], {"probabilities": served})
    assert tested.features == by_array.features


def test_a_frame_without_the_names_of_classes_is_refused(model, profile):
    served = model.run(X)["probabilities"]
    frame = pd.DataFrame(served[:300], columns=["low", "high", "other"])
    for scores in (frame, frame[["low", "high"]], {"label": frame[["low"]]}):
        with pytest.raises(UsageError, match="scores are a frame with the columns"):
            profile.tally(X[:300], scores)
    nameless = mk.Profile.fit(X[:2000], reference=X[2000:], scores=served[2000:])
    for ask in (
        lambda: nameless.tally(X[:300], frame),
        lambda: mk.Detector(nameless).update(X[:300], frame),
        lambda: mk.Profile.fit(X[:2000], reference=X[2000:2300], scores=frame),
    ):
        with pytest.raises(UsageError, match="does not know the names of classes"):
            ask()


def test_two_classes_of_one_name_are_not_told_by_it():
    """One column would be counted twice, for both of them."""
    inputs = [mk.TensorSpec("X", "float64", ("batch", 2), columns=COLUMNS)]
    outputs = [mk.TensorSpec("probabilities", "float64", ("batch", 2))]

    def answer(feeds):
        share = 1 / (1 + np.exp(-feeds["X"][:, 0]))
        return {"probabilities": np.c_[1 - share, share]}

    odd = mk.FunctionModel(answer, mk.Signature(inputs, outputs, classes=(1, "1")))
    profile = profile_of(odd)
    assert profile.layout.class_names == ()
    served = odd.run(X[:300])["probabilities"]
    with pytest.raises(UsageError, match="does not know the names of classes"):
        profile.tally(X[:300], pd.DataFrame(served, columns=[1, "1"]))
    with pytest.raises(UsageError, match="'probabilities_0'"):
        Tallier(profile, ["probabilities"]).frame(X[:300].assign(probabilities_1=served[:, 1]))
    numbered = X[:300].assign(probabilities_1=served[:, 1], probabilities_0=served[:, 0])
    whole = profile.tally(X[:300], {"probabilities": served})
    assert Tallier(profile, ["probabilities"]).frame(numbered) == [whole]
