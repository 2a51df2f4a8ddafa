"""Losses, labels, and performance without labels."""

import numpy as np
import pandas as pd
import pytest
from helpers.streams import APART, SMALL, column, labelled_profile, rng, still

import modelkit as mk
from modelkit.drift.cells import GONE, UNKNOWN_CATEGORY
from modelkit.drift.losses import TargetLabels, losses_of
from modelkit.drift.profile import Profile
from modelkit.errors import UsageError


def test_a_rise_of_the_loss_is_found_and_none_is_not():
    profile = labelled_profile()
    for guarantee in ("ever", "arl"):
        detector = mk.Detector(profile, guarantee=guarantee)
        assert detector.update_labels(losses=(rng(1, 42).random(1000) < 0.1).astype(float)) == []
        new = detector.update_labels(losses=(rng(2, 42).random(1500) < 0.25).astype(float))
        assert new[0].kind == "performance"
        assert (len(new) > 1) == (guarantee == "arl")
        assert 600 <= new[0].began <= new[0].row <= 2500
        assert detector.report().performance.labelled == 2500
    better = mk.Detector(profile).update_labels(losses=np.zeros(2000))
    assert better == []


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ([(2000, 0.25), (8000, 0.25)], [[False], []]),
        ([(2000, 0.25), (2000, 0.6)], [[False], [True]]),
        ([(2000, 0.4), (3000, 0.1), (2000, 0.4)], [[False], [], [False]]),
    ],
)
def test_the_loss_alarms_again_where_it_grows_or_comes_back(parts, found):
    detector = mk.Detector(labelled_profile(), clock=still)
    for run, ((n, rate), again) in enumerate(zip(parts, found, strict=True)):
        new = detector.update_labels(losses=(rng(run, 43).random(n) < rate).astype(float))
        assert [alarm.again for alarm in new] == again
        assert all(alarm.p <= alarm.level for alarm in new)
        state = detector.state()
        detector = mk.Detector.resume(detector.profile, state, clock=still)
        assert detector.state() == state


def test_labels_and_predictions_are_the_losses_they_make():
    n = 300
    truth, guess = rng(1).integers(3, size=n), rng(2).integers(3, size=n)
    words = np.array(["a", "b", "c"])
    profile = labelled_profile()
    expected = mk.Detector(profile, clock=still)
    expected.update_labels(losses=(truth != guess).astype(float))
    for y, predicted in (
        (truth, guess), (truth.tolist(), guess.tolist()), (words[truth], words[guess]),
        (column(words[truth].tolist()), words[guess]),
        (truth.astype(float), guess), (pd.Series(words[truth]), pd.Series(words[guess])),
    ):  # fmt: skip
        detector = mk.Detector(profile, clock=still)
        detector.update_labels(y, predicted)
        assert detector.state() == expected.state()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (([1, 2], [1]), "must both be"), (([1], None), "labels and what was predicted"),
        ((None, [1]), "labels and what"), (([None], [1]), "missing"),
        (([np.nan], [1]), "missing"), (([1.0], [np.nan]), "missing"), ((["a"], [0.5]), "not all numbers"),
        (([[1]], [[1]]), "must both"), ((), "pass labels"),
        ((None, None, [1.5]), "0 to 1"), ((None, None, [np.nan]), "0 to 1"), ((None, None, ["a"]), "not all numbers"),
        (([1], [1], [1.0]), "or losses"),
    ],
    ids=range(13),
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(arguments, match):
    detector = mk.Detector(labelled_profile(200))
    before = detector.state()
    y, predicted, losses = (*arguments, None, None, None)[:3]
    with pytest.raises(UsageError, match=match):
        detector.update_labels(y, predicted, losses=losses)
    assert detector.state() == before
    assert detector.update_labels([], []) == []
    assert detector.update_labels(losses=[]) == []


def test_without_losses_labels_are_refused():
    with pytest.raises(UsageError, match="fit it with labels="):
        mk.Detector(Profile.fit({"x": np.arange(200.0)})).update_labels([1], [1])


def calibrated(n=6000):
    rows, p = rng(1).normal(size=(n, 1)), rng(2).beta(2, 2, n)
    labels = (rng(3).random(n) < p).astype(int)
    train = rng(7).normal(size=(500, 1))
    return Profile.fit(train, reference=rows, scores=np.c_[1 - p, p], labels=labels)


def test_estimates_are_of_the_class_that_is_positive():
    p = rng(2).beta(2, 3, 1500)
    rows = p[:, None]
    labels = np.where(rng(3).random(1500) < p, "on time", "late")
    shares = np.c_[1 - p, p]
    sig = mk.Signature(
        (mk.TensorSpec("p", "float64", ("n", 1), (mk.Column("p"),)),),
        (mk.TensorSpec("probabilities", "float64", ("n", 2)),),
        classes=("late", "on time"),
    )
    model = mk.FunctionModel(
        lambda feeds: {"probabilities": np.c_[1 - feeds["p"], feeds["p"]]}, sig
    )
    train = rng(7).beta(2, 3, (500, 1))
    of = {}
    for positive in ("late", "on time", None):
        profile = Profile.fit(train, reference=rows, model=model, labels=labels, positive=positive)
        back = Profile.from_bytes(profile.to_bytes())
        assert back.to_bytes() == profile.to_bytes()
        report = mk.Detector(back).test({"p": p}, scores=shares)
        of[positive] = found = report.performance
        assert found.positive == (positive or "on time")
        assert f"estimated recall of {found.positive} 0." in str(report)
        chosen = labels == found.positive
        told = (p > 0.5) == (found.positive == "on time")
        real = (chosen & told).sum() / chosen.sum(), (chosen & told).sum() / told.sum()
        for name, value in zip(("recall", "precision"), real, strict=True):
            assert abs(found.estimated[name][0] - value) < 0.03
    assert str(of[None]) == str(of["on time"])
    assert of["late"].estimated["auc"][0] == of["on time"].estimated["auc"][0]
    with pytest.raises(UsageError, match=r"positive='x' is not one of two classes"):
        Profile.fit(train, reference=rows, model=model, labels=labels, positive="x")
    with pytest.raises(UsageError, match="labels= calibrates"):
        Profile.fit(train, reference=rows, model=model, positive="late")
    with pytest.raises(UsageError, match=r"gives; there are \[\]"):
        Profile.fit(train, reference=rows, scores=p, labels=p, positive="late")


def test_performance_without_labels_is_estimated_and_nan_does_not_poison_it():
    detector = mk.Detector(calibrated())
    p = rng(4).beta(2, 2, 1500)
    X = rng(5).normal(size=(1500, 1))
    real = ((rng(6).random(1500) < p) == (p > 0.5)).mean()
    shares = np.c_[1 - p, p]
    for report in (detector.test(X, scores=shares), detector):
        if report is detector:
            detector.update(X, scores=shares)
            detector.update(X[:1], scores=np.full((1, 2), np.nan))
            report = detector.report()  # noqa: PLW2901
        value, low, high = report.performance.estimated["accuracy"]
        assert low <= real <= high
        assert abs(value - real) < 0.05
        assert report.performance.unsupported is None
    only = mk.Detector(calibrated())
    only.update(X[:3], scores=np.full((3, 2), np.nan))
    assert only._tracker.label_free == []
    narrow = np.clip(p, 0.3, 0.7)
    odd = mk.Detector(
        Profile.fit(
            rng(7).normal(size=(500, 1)),
            reference=X,
            scores=np.c_[1 - narrow, narrow],
            labels=(rng(3).random(1500) < narrow).astype(int),
        )
    )
    assert "beyond the reference's" in odd.test(X, scores=shares).performance.unsupported


# One label in two forms.

TRUTH = rng(60).random(3000) < 0.4
FORMS = {
    "booleans": TRUTH,
    "objects": column(TRUTH.tolist()),
    "integers": TRUTH.astype(np.int8),
    "doubles": TRUTH.astype(float),
    "objects of doubles": column(TRUTH.astype(float).tolist()),
    "digits": np.where(TRUTH, "1", "0"),
    "words": np.where(TRUTH, "True", "False"),
    "small words": column(np.where(TRUTH, "true", "false").tolist()),
    "decimals": np.where(TRUTH, "1.0", "0.0"),
}
NUMBERS = {"booleans", "objects", "integers", "doubles", "objects of doubles", "digits"}
SAME = {
    "booleans": NUMBERS,
    "objects": NUMBERS,
    "integers": NUMBERS,
    "doubles": NUMBERS,
    "objects of doubles": NUMBERS,
    "digits": NUMBERS,
    "words": {"words", "booleans", "objects"},
    "small words": {"small words"},
    "decimals": {"decimals"},
}


@pytest.mark.parametrize("fitted", FORMS)
def test_a_label_in_another_form_is_compared_rightly_or_refused(fitted):
    """Never as a class that nobody has seen, which would be a false alarm of the target."""
    target = TargetLabels.fit(FORMS[fitted], classes=True, ordered=False, share=0.1, seed=0)
    for later, labels in FORMS.items():
        if later in SAME[fitted]:
            cells = target.cells(labels)
            assert np.array_equal(cells, target.cells(FORMS[fitted]))
        else:
            with pytest.raises(UsageError, match="probably the same class in another form"):
                target.cells(labels)
    assert set(target.cells(np.array(["2", "maybe", "x"]))[:, 0]) == {65}  # new classes are drift


def test_labels_and_predictions_in_two_forms_are_refused():
    """They are never equal, so that all answers would be wrong."""
    for labels, predicted in (
        ("small words", "booleans"),
        ("digits", "booleans"),
        ("decimals", "integers"),
        ("words", "integers"),
        ("objects", "integers"),
        ("words", "small words"),
    ):
        for one, other in ((labels, predicted), (predicted, labels)):
            with pytest.raises(UsageError, match=r"form|never equal"):
                losses_of(FORMS[one], FORMS[other])
    for labels, predicted in (
        ("words", "booleans"),
        ("booleans", "integers"),
        ("digits", "integers"),
        ("objects", "booleans"),
    ):
        assert not losses_of(FORMS[labels], FORMS[predicted]).any()
        assert losses_of(FORMS[labels], FORMS[predicted][::-1]).mean() > 0.3
    assert losses_of(np.array(["a", "True"]), np.array(["b", "2"])).tolist() == [1, 1]
    codes = np.array(["01", "1e1", "1 ", "1_0", "nan", "7"])  # are not numbers in another form
    assert losses_of(codes, np.array(["1", "10", "1", "10", "nan", "7"])).tolist() == [
        1,
        1,
        1,
        1,
        0,
        0,
    ]
    with pytest.raises(UsageError, match="probably the same class"):
        losses_of(np.array(["1.5", "-2"]), np.array(["1.5", "-2.0"]))


@pytest.mark.parametrize("form", ["booleans", "objects"])
def test_boolean_labels_that_come_as_texts_raise_no_false_alarm(form):
    p = np.where(TRUTH, 0.8, 0.2)
    profile = Profile.fit(
        {"x": rng(62).normal(size=500)},
        reference={"x": rng(63).normal(size=3000)},
        scores=np.c_[1 - p, p],
        labels=FORMS[form],
    )
    detector = mk.Detector(profile, clock=still)
    for later in ("words", "small words", "decimals"):
        with pytest.raises(UsageError, match=r"pass labels as Profile\.fit got them"):
            detector.update_labels(FORMS[later])
    for later in NUMBERS:
        detector.update_labels(FORMS[later])
    assert detector.alarms == ()
    assert detector.history.report().rows == 0


@pytest.mark.parametrize("kind", [int, float])
def test_masked_labels_are_missing(kind):
    y = rng(1, 9).integers(0, 2, 3000).astype(kind)
    X = rng(2, 9).normal(size=(6000, 1))
    name = "label" if kind is int else "prediction"
    past = {"X": X[:3000], "reference": X[3000:], "scores": {name: y}}
    profile = mk.Profile.fit(labels=y, **past)
    masked = np.ma.array(y, mask=np.arange(3000) % 3 == 0)
    cells = profile.target.cells(masked)[:, 0]
    assert ((cells == GONE) == masked.mask).all()
    assert (cells == profile.target.cells(y)[:, 0])[~masked.mask].all()
    detector = mk.Detector(profile)
    for labels, predicted in ((masked, y), (y, masked)):
        with pytest.raises(UsageError, match="is missing; leave such rows out"):
            detector.update_labels(labels, predicted)
    with pytest.raises(UsageError, match="is missing; leave such rows out"):
        mk.Profile.fit(labels=masked, **past)


@pytest.mark.parametrize("dtype", ["S1", object])
def test_labels_that_are_bytes_are_refused(dtype):
    """They are equal to no text, so all of them would be an unknown class and a wrong answer."""
    y = np.where(TRUTH, "1", "0")
    X = rng(2, 9).normal(size=(6000, 1))
    profile = mk.Profile.fit(X[:3000], reference=X[3000:], scores={"label": y}, labels=y)
    texts = y[:40]
    given = texts.astype("S1").astype(dtype)
    for arguments in ((given,), (given, texts), (texts, given)):
        with pytest.raises(UsageError, match=r"are bytes; decode them"):
            mk.Detector(profile).update_labels(*arguments)


def test_masked_scores_are_missing():
    X = rng(2, 9).normal(size=(6000, 2))
    kinds = np.where(X[:, 0] > 0, "a", "b")
    shares = np.c_[np.full(6000, 0.25), np.full(6000, 0.75)]
    names = {"label": kinds, "prediction": X[:, 0], "probabilities": shares}
    past = {name: values[3000:] for name, values in names.items()}
    profile = mk.Profile.fit(X[:3000], reference=X[3000:], scores=past)
    gone = np.arange(100) % 2 == 0
    empty = {"label": None, "prediction": np.nan, "probabilities": np.nan}
    for name, values in names.items():
        served = {each: own[:100] for each, own in names.items()}
        mask = gone if values.ndim == 1 else np.c_[gone, gone]
        masked = served | {name: np.ma.array(values[:100], mask=mask)}
        blank = values[:100].astype(object if name == "label" else float)
        blank[gone] = empty[name]
        expected = profile.tally(X[:100], served | {name: blank})
        assert profile.tally(X[:100], masked) == expected
        assert expected != profile.tally(X[:100], served)


def test_labels_of_any_size_and_none_of_several_lengths():
    target = TargetLabels.fit(FORMS["integers"], classes=True, ordered=False, share=0.1, seed=0)
    assert target.cells(column([10**400, 1]))[0, 0] == UNKNOWN_CATEGORY
    with pytest.raises(UsageError, match="one value for each row"):
        target.cells([[1], [2, 3]])


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0]])
def test_numbers_beside_names_are_refused_as_labels_and_raise_no_alarm(labels):
    names = np.array(["late", "on time"] * 200)
    profile = mk.Profile.fit(SMALL, reference=APART, scores=names, labels=names)
    detector = mk.Detector(profile)
    with pytest.raises(UsageError, match="never equal to predictions such as 'late'"):
        detector.update_labels(labels * 20, ["late", "on time"] * 20)
    assert detector.update_labels(names, names) == []
    digits = np.array(["1", "0"] * 200)
    told = mk.Profile.fit(SMALL, reference=APART, scores=digits, labels=digits)
    assert mk.Detector(told).update_labels([1, 0] * 20, digits[:40]) == []
