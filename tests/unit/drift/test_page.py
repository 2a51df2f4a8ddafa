"""The page of a drift report about what no recent row has."""

import re

import numpy as np

import modelkit as mk


def test_an_output_that_nobody_asked_for_is_not_drawn_as_vanished(penguins_mk, penguins):
    X, _ = penguins
    with mk.load(penguins_mk) as model:
        profile = mk.Profile.fit(X[::2], reference=X[1::2], model=model)
        watched = mk.Monitor(model, profile)
        for start in range(0, 320, 40):
            watched.predict_proba(X[start : start + 40])
        stream = watched.detector.report()
        batch = mk.Detector(profile).test(X, scores={"probabilities": model.predict_proba(X)})
    for report in (stream, batch):
        drift = next(drift for drift in report.features if drift.feature == "label")
        assert drift.rows == 0
        assert report.ranked()[-1] is drift
        frame = report.to_dataframe().set_index("feature")
        assert np.isnan(frame.loc["label", "missing_recent"])
        page = report.to_html()
        (section,) = re.findall(r"<section><h3>label</h3>.*?</section>", page, re.DOTALL)
        assert "no recent row has it" in section
        assert section.count('class="old"') == 3
        assert 'class="new"' not in section
        assert "recent 0 %" not in section
        assert "recent unknown" in section  # in the words that show over the bars
        (other,) = re.findall(r"<section><h3>confidence.*?</section>", page, re.DOTALL)
        assert 'class="new"' in other
        assert "no recent row" not in other


def test_a_number_that_no_recent_row_has_is_an_area_without_an_outline(penguins_mk, penguins):
    X, _ = penguins
    with mk.load(penguins_mk) as model:
        profile = mk.Profile.fit(X[::2], reference=X[1::2], model=model)
        labels = {"label": model.predict(X)}
        page = mk.Detector(profile).test(X, scores=labels).to_html()
    (section,) = re.findall(r"<section><h3>confidence</h3>.*?</section>", page, re.DOTALL)
    assert 'class="old"' in section
    assert 'class="new"' not in section
