"""A DriftReport is a value that can be kept, and its page shows what is there, safely."""

import json
import math
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.drift import page
from modelkit.drift.report import DriftReport
from modelkit.drift.values import (
    Acknowledgement,
    Alarm,
    DriftCheck,
    Effect,
    FeatureDrift,
    Performance,
    SegmentDrift,
)
from modelkit.errors import MissingExtraError, PackageError

HOSTILE = '"><script>alert(1)</script>&<img src=x onerror=alert(1)>\x00\x1b[31m\ud800'
EDGES = [f"{edge / 7:.4g}" for edge in range(1, 64)]
LABELS = [
    "-inf", f"up to {EDGES[0]}", *(f"{a} to {b}" for a, b in pairwise(EDGES)),
    f"above {EDGES[-1]}", "+inf", "(missing)",
]  # fmt: skip


def feature(name="amount", **changes):
    cells = tuple((label, 1 / 67, (i + 1) / 2278) for i, label in enumerate(LABELS))
    given = FeatureDrift(
        name,
        "number",
        None,
        1024,
        1e-9,
        0.25,
        (Effect("KS", 0.25, 0.2, 0.3),),
        (0.01, 0.05),
        0.05,
        cells,
        bins=(),
        reference_rows=5000,
        compared=1024,
    )
    return replace(given, **changes)


def alarm(name="amount", **changes):
    given = Alarm(
        "changed",
        name,
        None,
        "martingale",
        1e-9,
        1e-4,
        900,
        812,
        Effect("KS", 0.25, 0.2, 0.3),
        "own words",
        ("a",),
    )
    return replace(given, **changes)


def report(**changes):
    given = DriftReport(
        "stream", 1024, 5000, 0.01, "at most 0.01, ever", ("no strata",), (), (), (), None, 0
    )
    return replace(given, **changes)


PERFORMANCE = Performance(
    200,
    (0.2, 0.15, 0.25),
    (0.1, 0.09, 0.11),
    {"accuracy": (0.8, 0.7, 0.9), "f1": (0.6, math.nan, math.nan)},
    "outside",
)
FULL = report(
    alarms=(alarm(),),
    features=(feature(), feature("x", kind="category", cells=(("a", 0.5, 0.1), ("b", 0.5, 0.9)))),
    checks=(
        DriftCheck("missing rate", "amount", "5 %", "1 %", 1e-4),
        DriftCheck("constant", "x", "all", "some"),
    ),
    performance=PERFORMANCE,
    skipped=7,
)

numbers = st.floats(allow_nan=False)
ps = st.none() | st.floats(0, 1)
texts = st.text()
three = st.tuples(numbers, numbers, numbers)
effects = st.builds(Effect, texts, numbers, numbers, numbers)
strings = st.lists(texts, max_size=3).map(tuple)


def some(strategy):
    return st.lists(strategy, max_size=3).map(tuple)


alarms = st.builds(
    Alarm, st.sampled_from(["changed", "material", "performance"]), texts, st.none() | texts, texts, numbers, numbers,
    st.integers(), st.none() | st.integers(), st.none() | effects, texts, strings,
)  # fmt: skip
features = st.builds(
    FeatureDrift, texts, st.sampled_from(["number", "flag", "time", "text", "category"]), st.none() | texts,
    st.integers(), ps, ps, some(effects), st.tuples(st.floats(0, 1), st.floats(0, 1)), st.floats(0, 1),
    some(st.tuples(texts, st.floats(0, 1), st.floats(0, 1))), st.just(()), st.integers(),
    st.integers(),
)  # fmt: skip
performances = st.builds(
    Performance, st.integers(), st.none() | three, st.none() | three, st.dictionaries(texts, three, max_size=3),
    st.none() | texts,
)  # fmt: skip
reports = st.builds(
    DriftReport, st.sampled_from(["stream", "batch"]), st.integers(), st.integers(), numbers, texts, strings,
    some(alarms), some(features), some(st.builds(DriftCheck, texts, texts, texts, texts, ps)), st.none() | performances,
    st.integers(),
)  # fmt: skip


@settings(max_examples=examples(30))
@given(reports)
def test_json_gives_the_report_back(found):
    text = found.to_json()
    assert DriftReport.from_json(text) == found
    assert text.isascii()
    assert text.isprintable()


def test_json_keeps_numbers_that_json_lacks_and_names_that_look_like_them():
    odd = report(
        features=(
            feature(weight=math.nan, effects=(Effect("W1", math.inf, -math.inf, math.nan),)),
        ),
        performance=replace(PERFORMANCE, estimated={"number": (math.nan, 0.0, 1.0)}),
    )
    text = odd.to_json()
    back = DriftReport.from_json(text)
    assert back.to_json() == text
    assert math.isnan(back.features[0].weight)
    assert (back.features[0].effects[0].value, back.features[0].effects[0].low) == (
        math.inf,
        -math.inf,
    )
    assert math.isnan(back.performance.estimated["number"][0])
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert json.loads(text)["schema"] == "modelkit.drift/1"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": "modelkit.drift/2"}', FULL.to_json()[:-1] + ', "more": 1}',
     FULL.to_json().replace('"cells"', '"cell"'),
     FULL.to_json().replace('"missing": [0.01, 0.05]', '"missing": [0.01]'),
     FULL.to_json().replace('"missing": [0.01, 0.05]', '"missing": ["0.01", "0.05"]'),
     FULL.to_json().replace('"kind": "stream"', '"kind": "river"'),
     FULL.to_json().replace('"skipped": 7', '"skipped": true'), "[" * 100_000],
)  # fmt: skip
def test_what_is_no_report_is_refused(text):
    with pytest.raises(PackageError):
        DriftReport.from_json(text)


def test_json_without_a_schema_says_so():
    with pytest.raises(PackageError, match=r'has no "schema": a record names'):
        DriftReport.from_json("{}")


class Tags(HTMLParser):
    """The elements of a page; fails where they do not nest."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.words = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, attrs))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def check_page(page):
    """It nests, its drawings are XML, and it neither runs nor loads anything."""
    tags = Tags(page)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(svg)  # noqa: S314 - our own
    names = {tag for tag, _ in tags.seen}
    assert not names & {"script", "img", "link", "iframe", "object", "image", "use", "a"}
    assert not [
        name
        for _, attrs in tags.seen
        for name, _ in attrs
        if name.startswith("on") or name in ("src", "href")
    ]
    assert "url(" not in page
    assert "@import" not in page
    return tags


@settings(max_examples=examples(20))
@given(reports)
def test_every_report_can_be_shown(found):
    check_page(found.to_html()).words.index(found._title())
    Tags(found._repr_html_())
    assert repr(found).startswith("<DriftReport Drift of a ")


def test_the_page_says_what_was_found():
    page = FULL.to_html()
    words = "".join(check_page(page).words)
    for text in (
        "amount is no longer like the reference, since about row 812",
        ": values up to 4.571 went from 49 % to 25 % of the latest",
        "What to do: Look at it when there is time", "Begin with 2 data checks below.",
        "1 alarm", "amount is no longer like the reference: KS 0.250 [0.200, 0.300]",
        "The change began at about row 812; the alarm came at row 900.",
        "fewer than 1 in 1,000,000 would look like this; an alarm takes 1 in 10,000",
        "p 1e-09, level 0.0001", "own words", "7 more left out by the row budget",
        "at most 0.01, ever", "no strata", "mean loss 0.200 [0.150, 0.250] of 200 labelled rows", "0.100 [0.090, 0.110]",
        "0.800 [0.700, 0.900]",
        "do not rely on the estimates: outside", "missing rate", "fewer than 1 in 1,000,000 (p 1e-09)", "1 in 4 (p 0.25)",
        "1 %, recent 5 %", "about row 812", "50 %, 90 %", "share of alpha", "The words on this page",
    ):  # fmt: skip
        assert text in words, text
    assert words.index("What to do") < words.index("1,024 rows (7 more") < words.rindex("1 alarm")
    assert "http" not in page
    assert page.count('role="img"') == 2  # two features
    assert "prefers-color-scheme:dark" in page
    assert "@media print" in page


def test_a_batch_speaks_of_one_exact_test():
    batch = replace(FULL, kind="batch", features=(feature(p_material=None, p_changed=0.004),))
    page = batch.to_html()
    assert "1 in 250 (p 0.004)" in page
    assert "Of batches without such a change" in page
    assert "alarm came" not in page
    assert "exact p of 1,024 rows against 5,000, adjusted for all features: 0.004" in str(batch)


def test_the_card_counts_the_alarms_that_it_leaves_out():
    many = replace(FULL, alarms=tuple(alarm(f"x{i}") for i in range(11)))
    assert many._repr_html_().count("changed at row") == 3
    assert "and 8 more alarms" in many._repr_html_()
    assert "and 1 more alarm<" in replace(many, alarms=many.alarms[:4])._repr_html_()
    assert " more alarm" not in replace(many, alarms=many.alarms[:3])._repr_html_()


def test_hostile_names_are_text():
    hostile = report(
        guarantee=HOSTILE,
        assumptions=(HOSTILE,),
        alarms=(
            alarm(
                HOSTILE,
                stratum=HOSTILE,
                statistic=HOSTILE,
                effect=Effect(HOSTILE, 1, 0, 2),
                guarantee="other",
            ),
        ),
        features=(
            feature(
                HOSTILE, stratum=HOSTILE, cells=((HOSTILE, 0.5, 0.5), (f"{HOSTILE} to 1", 0.5, 0.5))
            ),
            feature(
                HOSTILE,
                kind="category",
                cells=((HOSTILE, 1.0, 1.0),),
                effects=(Effect(HOSTILE, 1, 0, 2),),
            ),
            *[feature(HOSTILE, weight=0.0) for _ in range(20)],
        ),
        checks=(DriftCheck(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        performance=Performance(0, None, None, {HOSTILE: (1.0, 0.0, 2.0)}, HOSTILE),
    )
    page = hostile.to_html()
    tags = check_page(page)
    assert any("<script>alert(1)</script>&<img src=x" in words for words in tags.words)
    for text in (page, hostile._repr_html_()):
        text.encode()
        assert "<script" not in text
        assert "\x00" not in text
        assert "\x1b" not in text


def spoken(value, text):
    """A report as plain values, every text in it replaced, but for the kinds and names of fields."""
    if isinstance(value, dict):
        keys = ("kind", "schema", "number")
        return {key: held if key in keys else spoken(held, text) for key, held in value.items()}
    if isinstance(value, list):
        return [spoken(held, text) for held in value]
    return text if isinstance(value, str) else value


@settings(max_examples=examples(20))
@given(st.text("<>&\"'/=! \x00\x1bascript-", min_size=1))
def test_every_text_of_a_report_stays_a_text_on_its_page_and_card(text):
    whole = replace(
        FULL,
        features=(*FULL.features, *[feature(f"x{i}") for i in range(20)]),
        segments=(
            SegmentDrift(
                "amount", "shop", "a", 100, (0.1, 0.2), 0.001, Effect("KS", 0.25, 0.2, 0.3)
            ),
        ),
        acknowledged=(Acknowledgement(alarm(), "known", 1e9),),
    )
    plain = json.loads(whole.to_json())
    hostile, harmless = (DriftReport.from_json(json.dumps(spoken(plain, t))) for t in (text, "x"))
    for shown, expected in (
        (hostile.to_html(), harmless.to_html()),
        (hostile._repr_html_(), harmless._repr_html_()),
    ):
        assert [tag for tag, _ in Tags(shown).seen] == [tag for tag, _ in Tags(expected).seen]
        assert "\x00" not in shown
        assert "\x1b" not in shown


@pytest.mark.parametrize("kind", ["number", "time", "category"])
def test_twenty_features_of_67_cells_stay_under_300_kilobytes(kind):
    long = [f"2026-01-{i:02d}T00:00 to 2026-01-{i:02d}T12:00" for i in range(67)]
    cells = tuple((label, 0.0149253 + i / 1e5, 0.0149253 - i / 1e5) for i, label in enumerate(long))
    many = replace(
        FULL,
        features=tuple(
            feature(f"a feature with a long name {i}", kind=kind, cells=cells) for i in range(20)
        ),
    )
    assert many.to_html().count('role="img"') == 20
    assert len(many.to_html().encode()) < 300_000


def test_more_than_twenty_features_end_in_a_table():
    many = report(features=tuple(feature(f"x{i}", p_changed=10.0**-i) for i in range(900)))
    page = many.to_html()
    assert page.count('role="img"') == 20
    assert "and 480 more" in page
    assert len(page.encode()) < 300_000


def test_evidence_times_importance_ranks_and_effect_size_breaks_ties():
    strong = feature("strong", p_changed=1e-30, weight=0.01)
    heavy = feature("heavy", p_changed=1e-4, p_material=1e-2, weight=0.5)
    material = feature("material", p_changed=None, p_material=1e-3, weight=0.5)
    small = feature("small", p_changed=1.0, p_material=None, effects=(Effect("KS", 0.1, 0, 1),))
    large = feature(
        "large",
        p_changed=1.0,
        p_material=None,
        effects=(Effect("KS", -0.2, -1, 0), Effect("W", 0.0, 0, 0)),
    )
    unknown = feature("unknown", p_changed=math.nan, p_material=None, effects=())
    found = report(features=(unknown, small, large, strong, material, heavy)).ranked()
    assert [drift.feature for drift in found] == [
        "heavy",
        "material",
        "strong",
        "large",
        "small",
        "unknown",
    ]
    certain = report(
        features=(feature("b", p_changed=1e-200), feature("a", p_changed=0.0))
    ).ranked()
    assert [drift.feature for drift in certain] == ["a", "b"]


def test_the_summary_fits_a_terminal():
    many = replace(FULL, alarms=(alarm(),) * 9, features=(feature(),) * 30, checks=FULL.checks * 5)
    lines = str(many).splitlines()
    assert len(lines) <= 15
    assert lines[0] == (
        "Drift of a stream, 9 alarms: 1,024 rows (7 more left out by the row budget) against 5,000 of the reference, "
        "alpha 0.01"
    )
    for text in (
        "and 6 more alarms",
        "and 26 more features",
        "and 8 more checks",
        "loss 0.200 [0.150, 0.250]",
        "at most 0.01",
    ):
        assert text in str(many)


def test_a_frame_has_a_row_for_each_feature():
    found = report(
        features=(
            feature("a", p_changed=None, p_material=None, effects=()),
            feature(
                "b",
                stratum="night",
                effects=(Effect("KS", 0.25, 0.2, 0.3), Effect("W1", 1.0, 0.5, 1.5)),
            ),
        )
    )
    df = found.to_dataframe()
    assert df["feature"].tolist() == ["b", "a"]
    first = df.iloc[0]
    assert (first["stratum"], first["KS"], first["KS low"], first["W1 high"]) == (
        "night",
        0.25,
        0.2,
        1.5,
    )
    assert (first["missing_reference"], first["missing_recent"], first["p_changed"]) == (
        0.01,
        0.05,
        1e-9,
    )
    assert df.iloc[1][["p_changed", "KS"]].isna().all()
    assert report().to_dataframe().shape == (0, 11)


def test_without_pandas_the_frame_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match="frames"):
        FULL.to_dataframe()


@pytest.mark.parametrize(
    "empty",
    [report(), report(rows=0), report(kind="batch"),
     report(features=(feature(cells=()), feature(kind="category", cells=(("a", 0.0, 0.0),)))),
     report(features=(feature(cells=tuple((label, math.nan, math.nan) for label in LABELS)),)),
     report(features=(feature(kind="flag", cells=(("true", math.nan, 1.0),)), feature(cells=(("any", 1.0, 0.0),)))),
     report(performance=Performance(0, None, None, {}))],
)  # fmt: skip
def test_empty_reports_are_shown(empty):
    page = empty.to_html()
    check_page(page)
    assert "No alarm." in page
    assert "nan" not in page
    assert str(empty).startswith(f"Drift of a {empty.kind}, no alarm")
    assert "no alarm" in empty._repr_html_()


def test_an_outline_follows_the_shares_and_cuts_what_would_hide_the_rest():
    cells = tuple((label, 0.015, 0.015) for label in LABELS[1:11])
    plain = page.feature_chart(feature(cells=cells))
    assert len(re.findall(r"\d,16\.0\b", plain)) == 2 * 20  # all at the top
    assert "\N{UPWARDS ARROW}" not in plain
    stuck = page.feature_chart(feature(cells=(*cells[:9], ("above 3", 0.015, 0.9))))
    assert "90 % \N{UPWARDS ARROW}" in stuck
    assert f",{116 - 100 / 8:.1f} " in stuck
    assert "above 3: reference 1.5 %, recent 90 %" in stuck


def test_missing_values_and_empty_ends_have_no_place_among_ordered_cells():
    drawn = page.feature_chart(
        feature(
            cells=(
                ("-inf", 0.0, 0.0),
                *((c, 0.1, 0.1) for c in LABELS[1:5]),
                ("(missing)", 0.6, 0.6),
            )
        )
    )
    assert drawn.count("<rect") == 4
    assert (
        page.feature_chart(feature(cells=(("-inf", 0.0, 0.1), ("any", 1.0, 0.9)))).count("<rect")
        == 2
    )


def test_bars_show_the_largest_categories_and_the_sum_of_the_rest():
    cells = (*((f"c{i}", 0.05, 0.05) for i in range(18)), ("(new)", 0.0, 0.1))
    drawn = page.feature_chart(feature(kind="category", cells=cells))
    assert drawn.count("<g>") == 11
    assert "(new)" in drawn
    assert "9 more cells" in drawn
    assert "45 %, 45 %" in drawn
