"""Where a change is: joint counts, exact tests in each segment, and what is said about them."""

import numpy as np
import pytest
from helpers import watched
from helpers.examples import examples
from helpers.frozen import thawed
from helpers.shops import SHOPS, by, rows
from helpers.streams import column, rng
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.drift.counts import count_by
from modelkit.drift.segments import (
    GENERATION_ROWS,
    GENERATIONS,
    MOST_SEGMENTS,
    Segmentation,
    Segmented,
    members,
)
from modelkit.errors import PackageError, UsageError

SMALL = mk.Profile.fit(
    {"x": rng(1).normal(size=200), "k": column(["u", "v"] * 100)},
    reference={"x": rng(2).normal(size=200), "k": column(["u", "v"] * 100)},
    segments=("k",),
)


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(rows(3000, 1), reference=rows(8000, 2), segments=("shop", "age"))


# What is found.


def test_the_segment_of_a_change_is_named(profile):
    detector = mk.Detector(profile)
    detector.update(rows(4000, 3))
    assert detector.report().segments == ()
    detector.update(rows(6000, 4, moved=["d"]))
    report = detector.report()
    found = by(report, "price", "shop")
    assert set(found) == set(SHOPS)
    assert found["d"].p < 0.01
    assert found["d"].effect.low > 0.3
    assert min(found[shop].p for shop in "abc") > 0.01
    assert found["d"].share[0] == pytest.approx(0.1, abs=0.02)
    assert "price has changed in shop d, and not visibly in 3 others" in str(report)
    page = report.to_html()
    assert "Where the change is" in page
    assert "price has changed in shop d" in page
    assert mk.DriftReport.from_json(report.to_json()) == report
    assert by(report, "shop", "shop") == {}


def test_a_change_of_all_segments_is_said_to_be_in_all(profile):
    detector = mk.Detector(profile)
    detector.update(rows(6000, 5, moved=SHOPS))
    assert "price has changed in every segment of shop" in str(detector.report())


def test_another_mix_of_segments_is_told_from_a_change_in_them(profile):
    detector = mk.Detector(profile)
    detector.update(rows(8000, 6, shares=(0.05, 0.3, 0.25, 0.4)))
    report = detector.report()
    assert {"price", "shop"} <= {alarm.feature for alarm in report.alarms}
    found = by(report, "price", "shop")
    assert min(drift.p for drift in found.values()) > 0.01
    assert found["d"].share[1] > 3 * found["d"].share[0]
    assert "no single segment of shop shows a change in price: the mix" in str(report)


def test_after_a_rebase_segments_hold_the_rows_since_the_change_however_few_were_looked_at():
    past = {"reference": watched.rows(6000, 2), "model": watched.model(), "segments": ("x1",)}
    profile = mk.Profile.fit(watched.rows(2000, 1), **past)
    monitor = mk.Monitor(watched.model(), profile, budget=1e9)
    for call in range(20):
        monitor.predict(watched.rows(200, 10 + call))  # of which 64 are looked at
    monitor.detector.rebase(profile, reason="the same again")
    for call in range(30):
        monitor.predict(watched.rows(200, 40 + call, shift=1.0 if call >= 20 else 0.0))
    report = monitor.detector.report()
    began = [alarm.began for alarm in report.alarms if alarm.feature == "x0"]
    assert 7000 <= began[0] <= 8200
    counted = 6000  # since the rebase, in generations of 2,048, of which the third is the latest
    assert sum(found.rows for found in by(report, "x0", "x1").values()) == counted - 2 * 2048


def test_dependent_rows_are_in_no_segments():
    r = rng(8, 73)
    level = np.sin(np.arange(6000) / 8) + r.normal(size=6000) / 4

    def side(part):
        return {"x": level[part], "k": column(np.array(["u", "v"])[np.arange(3000) % 2].tolist())}

    profile = mk.Profile.fit(
        side(slice(3000)), reference=side(slice(3000, None)), ordered=True, segments=("k",)
    )
    assert profile.features[0].stride > 1
    detector = mk.Detector(profile, alpha=0.2)
    detector.update({"x": r.normal(3, 1, 6000), "k": column(["u"] * 6000)}, order="time")
    assert detector.alarms
    assert detector.report().segments == ()


# The counts.


@given(st.integers(1, 80), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=examples(50), deadline=None)
def test_joint_counts_are_those_of_each_segment(n, width, segments, seed):
    r = rng(seed, 74)
    cells = r.integers(0, 68, (n, width)).astype(np.uint8)
    cells[cells == 67] = 255
    member = r.integers(0, segments, n)
    counts = count_by(cells, member, segments)
    for k in range(segments):
        for j in range(width):
            own = cells[member == k, j]
            assert (counts[k, j] == np.bincount(own[own != 255], minlength=67)).all()


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8), st.integers(0, 2**31))
@settings(max_examples=examples(25), deadline=None)
def test_the_latest_rows_are_counted_however_they_come(sizes, seed):
    profile = SMALL
    r = rng(seed, 75)
    n = sum(sizes)
    cells = np.stack([r.integers(0, 67, n), r.integers(0, 3, n)], axis=1).astype(np.uint8)
    at_once, in_parts = (Segmented(profile.segments, profile.features) for _ in range(2))
    at_once.count(cells)
    for part in np.split(cells, np.cumsum(sizes)[:-1]):
        in_parts.count(part)
    firsts, found = zip(*[at_once.since(0, j) for j in range(2)], strict=True)
    first = firsts[0]
    counts = np.stack([by_segment for (by_segment,) in found], axis=2)
    for j in range(2):
        assert first == firsts[j] == in_parts.since(0, j)[0]
        assert (counts[:, :, j] == in_parts.since(0, j)[1][0]).all()
    assert first == max((n - 1) // GENERATION_ROWS - GENERATIONS + 1, 0)
    own = profile.segments[0]
    latest = cells[first * GENERATION_ROWS :]
    member = members(own.of_cells, latest[:, 1])
    assert (counts.sum(axis=0) == count_by(latest, member, len(own.labels))).all()
    again = thawed(at_once, Segmented(profile.segments, profile.features))
    assert (again.since(0, 1)[1][0] == counts[:, :, 1]).all()


def test_the_reference_is_counted_in_each_segment(profile):
    reference = rows(8000, 2)
    shop, age = profile.segments
    assert shop.labels == ("a", "b", "c", "d", "(other)", "(new)", "(missing)")
    places = {feature.name: j for j, feature in enumerate(profile.features)}
    for k, name in enumerate(SHOPS):
        inside = reference["shop"] == name
        feature = profile.features[places["price"]]
        found = np.bincount(feature.cells(reference["price"][inside]), minlength=67)
        assert (shop.counts[k, places["price"]] == found).all()
    assert age.counts.sum(axis=0) == pytest.approx(profile.counts[0])
    assert len(age.labels) == 16
    assert age.labels[-1] == "(missing)"
    assert age.labels[0].startswith("up to ")
    assert age.labels[-2].startswith("above ")


def test_many_categories_become_few_segments():
    names = column([f"c{i % 60:02d}" for i in range(1200)])
    sides = [{"k": names, "x": rng(seed).normal(size=1200)} for seed in (1, 2)]
    profile = mk.Profile.fit(sides[0], reference=sides[1], segments=("k",))
    (own,) = profile.segments
    assert len(own.labels) == MOST_SEGMENTS
    assert own.counts.sum() == 2 * 1200
    assert own.counts[MOST_SEGMENTS - 3].sum() == 2 * 20 * (60 - 21)


# In the profile.


def test_segments_come_back_from_bytes(profile):
    again = mk.Profile.from_bytes(profile.to_bytes())
    assert again.to_bytes() == profile.to_bytes()
    assert again.digest == profile.digest
    plain = mk.Profile.fit(rows(3000, 1), reference=rows(500, 3))
    assert len(profile.to_bytes()) - len(plain.to_bytes()) < 3 * 2 * 7000


def test_columns_that_a_model_ignores_are_no_segments(profile):
    less = profile.without(["age"])
    assert [own.name for own in less.segments] == ["shop"]
    assert less.segments[0].counts.shape == (7, 2, 67)
    mk.Detector(less).update(
        {name: values for name, values in rows(50, 1).items() if name != "age"}
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"segments": "shop"}, r"pass \('shop',\)"),
        ({"segments": ("shops",)}, "names 'shops', which is not a column"),
        ({"segments": ("shop", "shop")}, "names a column twice"),
        ({"segments": ("shop",), "stratum": "shop"}, "segments and stratum do not go together"),
        ({"segments": ("shop",), "unit": "batch"}, "segments and unit do not go together"),
    ],
)
def test_segments_that_make_no_sense_are_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        mk.Profile.fit(rows(200, 1), reference=rows(200, 2), **arguments)


def test_damaged_segments_are_no_profile(profile):
    own = profile.segments[0]
    short = Segmentation(own.name, own.labels, own.of_cells, own.counts[:, :1])
    import dataclasses

    damaged = dataclasses.replace(profile, segments=(short,)).to_bytes()
    with pytest.raises(PackageError, match="its segments by 'shop' do not fit"):
        mk.Profile.from_bytes(damaged)


def test_penguins_weighed_in_other_units_on_one_island_are_found(penguins):
    frame, _ = penguins
    r = rng(9, 76)

    def drawn(n, part, island=None):
        chosen = frame.iloc[part::2]
        some = chosen.iloc[r.integers(len(chosen), size=n)][["body_mass_g", "island", "sex"]]
        some = some.reset_index(drop=True)
        pounds = some["island"] == island
        some["body_mass_g"] = some["body_mass_g"].where(~pounds, some["body_mass_g"] / 453.6)
        return some

    profile = mk.Profile.fit(drawn(500, 0), reference=drawn(6000, 1), segments=("island", "sex"))
    detector = mk.Detector(profile)
    assert detector.update(drawn(3000, 1)) == []
    detector.update(drawn(4000, 1, island="Dream"))
    report = detector.report()
    assert {alarm.feature for alarm in report.alarms} == {"body_mass_g"}
    found = by(report, "body_mass_g", "island")
    assert {island for island, drift in found.items() if drift.p < 0.01} == {"Dream"}
    assert "body_mass_g has changed in island Dream, and not visibly in 2 others" in str(report)
    page = report.to_html()
    assert "and not visibly in 2 others" in page


def test_all_segments_of_a_report_are_tested():
    """12 features in 3 columns drew for 20 minutes; then only the first of them were tested."""
    rng = np.random.default_rng(3)

    def rows(n, shift):
        made = {f"x{i}": rng.normal(shift, 1, n) for i in range(4)}
        return made | {f"by{i}": rng.integers(0, 20, n).astype(str) for i in range(2)}

    past = rows(1500, 0)
    profile = mk.Profile.fit(rows(500, 0), reference=past, segments=("by0", "by1"))
    detector = mk.Detector(profile, alpha=0.05)
    detector.update(rows(2500, 1.5))
    segments = detector.report().segments
    assert len({(own.feature, own.by) for own in segments}) == 8
    assert all(own.p is not None for own in segments)
    assert sum(own.p < 0.05 for own in segments) > 100
