"""A Detector and its state are the same however rows come in, and whatever their form."""

import io
import threading
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers.examples import examples
from helpers.places import GOLDEN
from helpers.streams import column, fit_profile, mixed, rng, scored, still
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.values import Effect
from modelkit.errors import PackageError, UsageError

# However rows come in.


@pytest.fixture(scope="module")
def profile():
    return fit_profile()


def cut(rows, start, stop):
    return {name: values[start:stop] for name, values in rows.items()}


@settings(max_examples=examples(12), deadline=None)
@given(
    st.lists(st.integers(0, 700), max_size=12),
    st.sampled_from(["ever", "arl"]),
    st.integers(0, 700),
)
def test_any_chunks_and_a_pause_give_the_same_state(profile, cuts, guarantee, pause):
    rows, scores, losses = mixed(700, 3), scored(700, 3), (rng(5).random(700) < 0.4).astype(float)
    at_once = mk.Detector(profile, guarantee=guarantee, clock=still)
    at_once.update(rows, scores=scores, order="time")
    at_once.update_labels(losses=losses, order="time")
    parts = mk.Detector(profile, guarantee=guarantee, clock=still)
    ends = sorted([0, *cuts, pause, 700])
    for start, stop in pairwise(ends):
        if start == pause:
            parts = mk.Detector.resume(profile, parts.state(), clock=still)
        parts.update(cut(rows, start, stop), scores=scores[start:stop], order="time")
        parts.update_labels(losses=losses[start:stop], order="time")
    mine, theirs = states(at_once), states(parts)
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        if name.startswith("/label_free") or "performance/source/mean" in name or name == "about":
            continue  # sums of floats in another order
        assert np.array_equal(array, theirs[name], equal_nan=True), name
    mine, theirs = (
        [replace(a, effect=None) if a.kind == "performance" else a for a in d.alarms]
        for d in (at_once, parts)
    )
    assert sorted(mine, key=str) == sorted(theirs, key=str)


def states(detector):
    import io

    with np.load(io.BytesIO(detector.state())) as file:
        return dict(file)


def test_a_detector_goes_on_from_its_state_bit_for_bit(profile):
    whole, resumed = (mk.Detector(profile, alpha=0.1, seed=4, clock=still) for _ in range(2))
    for step in range(4):
        rows, scores = mixed(777, 10 + step), scored(777, 10 + step)
        rows["x"] = rows["x"] + step
        for detector in (whole, resumed):
            detector.update(rows, scores=scores)
            detector.update_labels(
                (scores[:, 1] > 0.3).astype(int), (scores[:, 1] > 0.6).astype(int)
            )
        state = resumed.state()
        assert state == whole.state()
        resumed = mk.Detector.resume(profile, state, clock=still)
        assert resumed.state() == state
    assert whole.alarms
    assert resumed.alarms == whole.alarms
    assert resumed.report().to_json() == whole.report().to_json()


def test_a_state_does_not_grow_nor_do_alarms_without_end():
    profile = Profile.fit({"x": rng(1).normal(size=1000), "y": rng(2).normal(size=1000)})
    detector = mk.Detector(profile)
    detector.update({"x": rng(3).normal(size=9000), "y": rng(4).normal(size=9000)})
    small = len(detector.state())
    detector.update({"x": rng(5).normal(size=91_000), "y": rng(6).normal(size=91_000)})
    assert abs(len(detector.state()) - small) < 1500  # the pending rows, and digits
    assert detector.rows == 100_000
    many = mk.Detector(profile, guarantee="arl")
    alarm = mk.Detector(profile).update({"x": np.full(500, 9.0), "y": np.zeros(500)})[0]
    for _ in range(3):
        many._tracker._keep([alarm] * 700)
    assert len(many.alarms) == 1000


def test_states_of_others_and_no_states_are_refused(profile):
    other = Profile.fit(mixed(600, 9), stratum="s")
    state = mk.Detector(profile).state()
    with pytest.raises(UsageError, match="another profile"):
        mk.Detector.resume(other, state)
    short = states(mk.Detector(profile))
    del short["/_streams/0/bettors/changed/evidence/_wealth"]
    for wrong in (
        b"",
        b"PK",
        state[:500],
        profile.to_bytes(),
        packed(short),
        packed(states(mk.Detector(other)) | {"about": short["about"]}),
    ):
        with pytest.raises(PackageError, match="not a state"):
            mk.Detector.resume(profile, wrong)


def packed(arrays):
    import io

    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "options", [{"alpha": 0}, {"alpha": 1}, {"alpha": float("nan")}, {"tolerance": -0.1}, {"tolerance": 1},
    {"guarantee": "often"}], ids=str
)  # fmt: skip
def test_options_out_of_range_are_refused(options, profile):
    with pytest.raises(UsageError):
        mk.Detector(profile, **options)


def test_workers_merge_into_one_report():
    profile = Profile.fit({"x": rng(1).normal(size=4000), "c": rng(2).choice(["a", "b"], 4000)})
    workers = [mk.Detector(profile, seed=w) for w in range(3)]
    for w, worker in enumerate(workers):
        worker.update(
            {
                "x": rng(w, 5).normal(0.4, 1, 3000),
                "c": rng(w, 6).choice(["a", "b", "z"], 3000, p=[0.5, 0.495, 0.005]),
            }
        )
    report = mk.Detector.merge(profile, [worker.state() for worker in workers])
    assert report.rows == 9000
    drift = {f.feature: f for f in report.features}
    assert drift["x"].p_material < 1e-3 < drift["c"].p_material
    assert drift["x"].rows == 3 * 1024
    total = sum(int(w._tracker.streams()[0][1].totals[1, 65]) for w in workers)
    assert f"{total} of 9,000 rows" in next(c for c in report.checks if c.feature == "c").found
    assert DriftReport.from_json(report.to_json()) == report
    with pytest.raises(UsageError, match="list of states is empty"):
        mk.Detector.merge(profile, [])
    with pytest.raises(UsageError, match="alpha"):
        mk.Detector.merge(profile, [workers[0].state(), mk.Detector(profile, alpha=0.2).state()])


def test_merged_evidence_of_arl_is_no_evidence_where_nothing_changed():
    profile = Profile.fit({"x": rng(1).normal(size=4000)})
    workers = [mk.Detector(profile, seed=w, guarantee="arl") for w in range(2)]
    for w, worker in enumerate(workers):
        worker.update({"x": rng(w, 5).normal(size=5000)})
    assert mk.Detector.merge(profile, [w.state() for w in workers]).features[0].p_material > 0.05


def test_eight_threads_lose_no_row(profile):
    detector = mk.Detector(profile)
    chunks = [(mixed(53, i), scored(53, i)) for i in range(40)]
    states = []

    def work(mine):
        for rows, scores in mine:
            detector.update(rows, scores=scores)
            detector.update_labels(losses=np.full(5, 0.5))
            states.append(detector.state())
            assert len(detector.alarms) < 1000

    failed = []
    threads = [
        threading.Thread(target=guarded, args=(work, chunks[t::8], failed)) for t in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert detector.rows == 40 * 53
    assert max(mk.Detector.resume(profile, state).rows for state in states[::10]) <= 40 * 53
    assert detector._tracker.labels.losses.rows == 200
    assert sum(stream.totals[0].sum() for _, stream in detector._tracker.streams()) == 40 * 53
    ranked = (
        sum(stream.bag.counts.sum(axis=1)[1] for _, stream in detector._tracker.streams())
        - profile.counts[:, 1].sum()
    )
    whole = sum(stream.members // 32 * 32 for _, stream in detector._tracker.streams())
    assert ranked <= whole


def guarded(work, mine, failed):
    try:
        work(mine)
    except Exception as error:  # shown by the test
        failed.append(repr(error))


def test_a_state_measures_no_effect_and_a_resumed_alarm_has_the_same_one(profile, monkeypatch):
    def measured(*arguments):
        raise AssertionError("nobody looked at it")

    detector = mk.Detector(profile, alpha=0.5)
    for seed in range(20):
        rows = mixed(400, seed)
        detector.update(rows | {"x": rows["x"] + 2}, order="time")
    assert detector.alarms
    with monkeypatch.context() as patch:
        patch.setattr(Effect, "__getattr__", measured)
        state = detector.state()
        resumed = mk.Detector.resume(profile, state)
        assert resumed.state() == state
    assert resumed.alarms == detector.alarms
    assert all(alarm.effect.high > 0 for alarm in resumed.alarms)
    assert detector.state() == state


# Rows that are odd.


def test_what_does_not_fit_is_refused_and_nothing_is_taken(profile):
    detector = mk.Detector(profile)
    rows, scores = mixed(10, 1), scored(10, 1)
    before = detector.state()
    for X, given_scores, match in (
        (
            {k: v for k, v in rows.items() if k != "x"} | {"X": rows["x"]},
            None,
            "missing column 'x' \\(is it 'X'",
        ),
        (rows | {"x": column(["1"] * 10)}, None, "holds strings where the profile has numbers"),
        (rows | {"c": np.ones(10)}, None, "holds numbers where the profile has strings"),
        (rows | {"e": rows["e"][:, :2]}, None, "shape"),
        (rows | {"x": rows["x"][:5]}, None, "different lengths"),
        (rows, scores[:5], r"different lengths, such as {10: '[^']+', 5: '[^']+'}"),
        (rows, np.ones(10), "lacks the scores \\['prediction'\\]"),
        (rows, np.full((10, 3), 1 / 3), "2 classes"),
        (rows, {"probabilities": scores, "odd": np.ones(10)}, "lacks the scores \\['odd'\\]"),
        (None, None, "neither rows nor scores"),
        (None, scores, "names the stratum"),
    ):
        with pytest.raises(UsageError, match=match):
            detector.update(X, scores=given_scores)
    assert detector.state() == before


def test_a_missing_column_is_named_with_its_neighbour():
    profile = Profile.fit({"amount": rng(1).normal(size=200), "age": rng(2).normal(size=200)})
    with pytest.raises(UsageError, match="'amount' \\(is it 'amuont'\\?\\)") as caught:
        mk.Detector(profile).update({"amuont": [1.0], "age": [1.0]})
    assert caught.value.feature == "amount"


def test_a_column_that_the_rows_have_is_not_proposed_for_another():
    profile = Profile.fit({f"mean {i}": rng(i).normal(size=200) for i in range(9)})
    with pytest.raises(UsageError) as caught:
        mk.Detector(profile).update({"mean 0": [1.0], "size": [1.0]})
    assert "missing column 'mean 1', missing column 'mean 2'" in str(caught.value)
    assert str(caught.value).endswith("and 2 more; the rows have ['size'] besides")


def test_more_columns_are_ignored_and_order_does_not_matter():
    rows = {"a": rng(1).normal(size=300), "b": rng(2).normal(size=300)}
    profile = Profile.fit(rows)
    one, other = (mk.Detector(profile, clock=still) for _ in range(2))
    one.update(rows)
    other.update(pd.DataFrame({"z": ["?"] * 300, "b": rows["b"], "a": rows["a"]}))
    assert one.state() == other.state()


def test_no_rows_change_nothing_and_single_rows_may_be_missing():
    vectors = rng(1).normal(size=(400, 4))
    profile = Profile.fit(
        {"x": rng(2).normal(size=200)}, reference={"x": rng(3).normal(size=400)}, scores=vectors
    )
    detector = mk.Detector(profile)
    before = detector.state()
    assert detector.update({"x": []}, scores=np.empty((0, 4))) == []
    assert detector.update({"x": np.empty(0, np.float32)}) == []
    assert detector.state() == before
    detector.update([{"x": None}])
    detector.update([{"x": 1.0}], scores=vectors[:1])
    detector.update(None, scores=vectors[:2])
    # An embedding, though its sum is one.
    detector.update({"x": [1.0]}, scores=np.full((1, 4), 0.25))
    assert detector.rows == 5


def test_rows_of_an_unknown_stratum_are_counted_apart(profile):
    detector = mk.Detector(profile)
    rows = mixed(64, 1) | {"s": column(["n"] * 32 + ["elsewhere", None] * 16)}
    detector.update(rows)
    assert (detector.rows, detector._tracker.strangers) == (64, 32)
    check = next(check for check in detector.report().checks if check.name == "unseen stratum")
    assert "32 of 64" in check.found
    assert mk.Detector.resume(profile, detector.state())._tracker.strangers == 32


# The same values in another form.


@pytest.mark.parametrize(
    "form", [lambda p: p, lambda p: np.array(p.tolist(), object), lambda p: np.round(p).astype(int)]
)
def test_what_a_loss_is_does_not_depend_on_the_type_of_predictions(form):
    truth, r = rng(0).normal(50, 20, 4000), rng(1)
    guess = truth + r.normal(0, 5, len(truth))
    profile = Profile.fit(
        {"x": guess[:500]}, reference={"x": guess[500:]}, scores=guess[500:], labels=truth[500:]
    )
    detector = mk.Detector(profile)
    assert detector.update_labels(truth[:500], form(guess[:500])) == []
    assert detector._tracker.labels.losses.interval()[1] < 0.6


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "D"])
def test_strata_of_times_are_the_same_in_every_unit(unit):
    days = np.array(["2024-01-01", "2024-01-02"], "M8[D]")
    reference = {"x": rng(0).normal(size=600), "day": days[rng(1).integers(0, 2, 600)]}
    detector = mk.Detector(Profile.fit(reference, stratum="day"))
    detector.update(
        {"x": rng(2).normal(size=99), "day": days[rng(3).integers(0, 2, 99)].astype(f"M8[{unit}]")}
    )
    assert detector._tracker.strangers == 0


def test_a_column_of_no_weight_is_not_tested():
    reference = {"a": rng(0).normal(size=2000), "b": rng(1).normal(size=2000)}
    detector = mk.Detector(Profile.fit(reference, importance={"a": 0}))
    later = {"a": rng(2).normal(3, 1, 300), "b": rng(3).normal(size=300)}
    assert detector.test(later).alarms == ()
    assert mk.Detector(Profile.fit(reference)).test(later).alarms != ()


@pytest.mark.parametrize("values", [["u", "v"], np.array(["2024-01-01", "2024-02-01"], "M8[us]")])
def test_a_column_that_became_empty_is_missing_and_not_of_another_kind(values):
    """A reader of CSV makes floats of it."""
    column = np.asarray(values, object if isinstance(values, list) else None)[
        rng(0).integers(0, 2, 3000)
    ]
    detector = mk.Detector(Profile.fit({"x": rng(1).normal(size=3000), "s": column}))
    alarms = detector.update({"x": rng(2).normal(size=300), "s": np.full(300, np.nan)})
    assert {alarm.feature for alarm in alarms} == {"s"}


# What format 1 wrote, and the face that a Detector shows.


def test_profiles_states_and_reports_of_the_first_format_are_read_and_written_unchanged():
    for name in ("profile1.npz", "watched1.npz"):
        stored = (GOLDEN / name).read_bytes()
        assert unpacked(Profile.from_bytes(stored).to_bytes()) == unpacked(stored)
    state = (GOLDEN / "detector1.npz").read_bytes()
    detector = mk.Detector.resume(Profile.from_bytes(stored), state)
    assert unpacked(detector.state()) == unpacked(state)
    text = (GOLDEN / "report1.json").read_text().strip()
    report = DriftReport.from_json(text)
    assert report.to_json() == text
    assert {alarm.kind for alarm in report.alarms} == {"changed", "material", "performance"}
    assert detector.alarms == report.alarms
    features = zip(detector.report().features, report.features, strict=True)
    assert all(found.cells == stored.cells for found, stored in features)


def unpacked(data):
    with np.load(io.BytesIO(data)) as file:
        return [
            (name, file[name].dtype.str, file[name].shape, file[name].tobytes()) for name in file
        ]


def test_a_detector_shows_its_api_and_nothing_else():
    shown = {name for name in dir(mk.Detector) if not name.startswith("_")}
    arguments = {"alpha", "guarantee", "profile", "seed", "tolerance"}
    answers = {"alarms", "history", "merge", "report", "resume", "rows", "state", "test"}
    verbs = {"acknowledge", "rebase", "update", "update_labels"}
    assert shown == arguments | answers | verbs


def test_a_detector_says_what_it_is(small):
    said = repr(mk.Detector(small))
    assert said == f"<Detector of {small!r}: 0 rows taken, 0 alarms>"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"seed": -1}, "seed is an integer of at least 0, not -1"),
        ({"seed": 0.5}, "seed is an integer of at least 0, not 0.5"),
        ({"history": float("nan")}, "history is in bytes, 0 or more; got nan"),
        ({"history": float("inf")}, "history is in bytes, 0 or more; got inf"),
        ({"history": "1 MB"}, "history is in bytes, 0 or more; got '1 MB'"),
    ],
)
def test_a_seed_and_a_size_that_cannot_be_meant_are_refused(small, argument, message):
    with pytest.raises(UsageError, match=message):
        mk.Detector(small, **argument)
