"""Drift of the labels, and of the probabilities of each class."""

import numpy as np
import pytest
from helpers.examples import examples
from helpers.streams import classes, column, inputs, rng
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.cells import Feature
from modelkit.drift.limits import FIRST_PART
from modelkit.drift.losses import TARGET, label_values
from modelkit.errors import UsageError


def scores(labels, seed):
    """Probabilities (n, 3) that know the labels a little."""
    p = rng(seed, 83).dirichlet([1, 1, 1], len(labels))
    return 0.7 * p + 0.3 * np.eye(3)[labels]


@pytest.fixture(scope="module")
def profile():
    labels = classes(5000, 2)
    return mk.Profile.fit(
        inputs(1000, 1), reference=inputs(5000, 2), scores=scores(labels, 2), labels=labels
    )


# Labels.


def test_another_mix_of_labels_is_found_though_the_losses_stay(profile):
    detector = mk.Detector(profile)
    usual = classes(3000, 3)
    assert detector.update_labels(usual, usual) == []
    more = classes(3000, 4, (0.3, 0.3, 0.4))
    alarms = detector.update_labels(more, more)
    assert {(alarm.feature, alarm.kind) for alarm in alarms} == {
        (TARGET, "changed"),
        (TARGET, "material"),
    }
    assert detector.alarms == tuple(alarms)
    drift = detector.report().features[-1]
    assert (drift.feature, drift.kind) == (TARGET, "category")
    assert {label: new > old for label, old, new in drift.cells}["2"]
    again = mk.Detector.resume(profile, detector.state())
    assert again.state() == detector.state()
    assert again.report() == detector.report()


def test_labels_alone_are_enough(profile):
    detector = mk.Detector(profile)
    detector.update_labels(classes(4000, 5, (0.2, 0.3, 0.5)))
    assert {alarm.feature for alarm in detector.alarms} == {TARGET}
    assert detector.report().performance.labelled == 0


def test_labels_that_are_numbers_are_compared_by_size():
    r = rng(6)
    truth = r.normal(10, 2, 4000)
    profile = mk.Profile.fit(
        inputs(200, 1), reference=inputs(4000, 2), scores=truth + r.normal(size=4000), labels=truth
    )
    assert profile.target.feature.kind == "number"
    detector = mk.Detector(profile)
    later = r.normal(11, 2, 3000)
    detector.update_labels(later, later + r.normal(size=3000))
    assert {alarm.feature for alarm in detector.alarms} == {TARGET}
    assert detector.alarms[0].effect.name == "ks"


FORMS = (
    lambda labels: labels,
    lambda labels: labels.astype(np.float64),
    lambda labels: labels.astype(np.int8),
    lambda labels: labels.astype(str),
    lambda labels: column(labels.tolist()),
    lambda labels: labels.tolist(),
)


@given(st.lists(st.integers(-3, 5), min_size=1, max_size=30))
@settings(max_examples=examples(40), deadline=None)
def test_a_label_has_one_name_in_whatever_form_it_comes(labels):
    blank = Feature(TARGET, "category")
    expected = [str(label) for label in labels]
    for form in FORMS:
        assert label_values(blank, form(np.array(labels))).tolist() == expected


def test_labels_that_do_not_fit_are_refused(profile):
    detector = mk.Detector(profile)
    with pytest.raises(UsageError, match=r"labels must be \(n,\)"):
        detector.update_labels(np.zeros((3, 2)))
    with pytest.raises(UsageError, match="labels and what was predicted"):
        detector.update_labels(None, np.zeros(3))
    assert detector.state() == mk.Detector(profile).state()
    plain = mk.Profile.fit(inputs(60, 1), reference=inputs(60, 2), losses=np.zeros(60))
    assert plain.target is None
    with pytest.raises(UsageError, match="fit the profile with labels="):
        mk.Detector(plain).update_labels(np.zeros(3))


def test_the_target_takes_its_share_of_alpha(profile):
    total = sum(feature.weight for feature in profile.features)
    assert total == pytest.approx(1)
    # x, confidence and all classes together count one each, and so does the target.
    assert profile.target.feature.weight == pytest.approx(1 / 4)
    detector = mk.Detector(profile, alpha=0.4)
    detector.update_labels(classes(4000, 5, (0.1, 0.2, 0.7)))
    level = {alarm.kind: alarm.level for alarm in detector.alarms}
    parts = {"changed": 0.2 / 4 * FIRST_PART, "material": 0.1 / 4 * FIRST_PART}
    assert level == pytest.approx(parts)
    detector.update(inputs(3000, 7) | {"x": rng(7).normal(3, 1, 3000)})
    of_x = {alarm.kind: alarm.level for alarm in detector.alarms if alarm.feature == "x"}
    assert of_x == pytest.approx(parts)


def test_beside_units_labels_are_shown_and_not_judged():
    days = {"x": rng(1).normal(size=3000), "t": np.repeat(np.arange(60) * 86_400.0, 50)}
    past = mk.Profile.fit(
        inputs(1000, 1),
        reference=days,
        scores=classes(3000, 2),
        labels=classes(3000, 2),
        unit="day",
        time="t",
    )
    detector = mk.Detector(past)
    assert TARGET not in {drift.feature for drift in detector.report().features}
    detector.update_labels(classes(5000, 4, (0.1, 0.1, 0.8)), at=1e9)
    (shown,) = (drift for drift in detector.report().features if drift.feature == TARGET)
    assert (shown.rows, shown.p_changed, shown.p_material) == (1024, None, None)
    assert shown.effects[0].low > 0.3
    assert detector.alarms == ()
    again = mk.Detector.resume(past, detector.state())
    assert again.report() == detector.report()


def test_importance_weighs_the_target():
    labels = classes(500, 2)
    given = {"reference": inputs(500, 2), "scores": scores(labels, 2), "labels": labels}
    none = mk.Profile.fit(inputs(100, 1), importance={TARGET: 0}, **given)
    detector = mk.Detector(none)
    assert detector.update_labels(classes(3000, 3, (0, 0, 1))) == []
    much = mk.Profile.fit(inputs(100, 1), importance={TARGET: 9, "probabilities": 0}, **given)
    assert much.target.feature.weight == pytest.approx(9 / 11)
    with pytest.raises(UsageError, match=r"names \['target'\]"):
        mk.Profile.fit(inputs(100, 1), reference=inputs(100, 2), importance={TARGET: 2})
    both = [{TARGET: rng(seed).normal(size=500)} for seed in (1, 2)]
    with pytest.raises(UsageError, match=r"share the names \['target'\]"):
        mk.Profile.fit(both[0], **given | {"reference": both[1]})


def test_a_profile_with_a_target_comes_back(profile):
    again = mk.Profile.from_bytes(profile.to_bytes())
    assert again.to_bytes() == profile.to_bytes()
    assert again.target.feature == profile.target.feature
    assert (again.target.counts == profile.target.counts).all()


# Probabilities of classes.


def test_a_class_that_takes_from_another_is_found_though_confidence_stays(profile):
    def moved(n, seed, swap):
        p = scores(classes(n, seed), seed)
        return p[:, [0, 2, 1]] if swap else p

    names = [feature.name for feature in profile.features if feature.output]
    assert names == ["confidence", "probabilities[0]", "probabilities[1]", "probabilities[2]"]
    detector = mk.Detector(profile)
    detector.update(inputs(3000, 3), moved(3000, 3, swap=False))
    assert detector.alarms == ()
    detector.update(inputs(6000, 4), moved(6000, 4, swap=True))
    assert {alarm.feature for alarm in detector.alarms} == {"probabilities[1]", "probabilities[2]"}


def test_all_classes_together_weigh_as_one_column(profile):
    weights = {feature.name: feature.weight for feature in profile.features}
    assert weights["x"] == weights["confidence"] == pytest.approx(1 / 3)
    assert weights["probabilities[1]"] == pytest.approx(1 / 9)


def test_two_classes_need_one_number_and_many_need_none():
    p = rng(8).dirichlet(np.ones(2), 300)
    two = mk.Profile.fit(inputs(100, 1), reference=inputs(300, 2), scores=p)
    assert [own.name for own in two.features] == ["x", "confidence", "probabilities[1]"]
    p = rng(8).dirichlet(np.ones(21), 300)
    many = mk.Profile.fit(inputs(100, 1), reference=inputs(300, 2), scores=p)
    assert [own.name for own in many.features] == ["x", "confidence"]
    with pytest.raises(UsageError, match="the profile has 2 classes"):
        mk.Detector(two).update(inputs(3, 1), np.full((3, 3), 1 / 3))
