"""Charts of a drift report: what is written above them."""

import re

import numpy as np

import modelkit as mk


def test_shares_above_a_chart_are_inside_it_and_do_not_touch():
    """They were three at most, each over the middle of its cell, across one another and the axis."""
    rng = np.random.default_rng(0)
    profile = mk.Profile.fit({"x": rng.normal(size=4000)})
    edges = np.quantile(rng.normal(size=4000), [0.001, 0.3, 0.31, 0.32, 0.8, 0.999])
    page = mk.Detector(profile).test({"x": rng.choice(edges, 600)}).to_html()
    places = [
        float(x) for x in re.findall(r'<text x="(\d+)" y="12"[^>]*>\d+ % \N{UPWARDS ARROW}<', page)
    ]
    assert len(places) >= 3
    assert min(places) >= 44 + 22
    assert max(places) <= 480 - 22
    assert np.diff(places).min() >= 44
