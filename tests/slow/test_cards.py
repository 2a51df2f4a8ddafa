"""What is looked at: notebook cards in any theme, plots of long names, and reports of what nobody asked for."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

import modelkit as mk
from modelkit.errors import ExplainError
from modelkit.report import html

LONG = "number_of_days_since_the_customer_last_contacted_the_support_desk_by_telephone_or_mail"
DARK, LIGHT = 0.006, 1.0  # the relative luminance of #111 and of white


@pytest.fixture(scope="module")
def long_names(tmp_path_factory):
    """An explanation of columns with names that no plot has room for."""
    pytest.importorskip("matplotlib").use("Agg")
    rng = np.random.default_rng(0)
    names = [
        LONG,
        "x" * 300,
        "a column with many short words in its name, all of them separated by spaces",
        "age",
    ]
    X = pd.DataFrame(rng.normal(size=(50, 4)), columns=names)
    y = pd.Series(X.to_numpy() @ [3.0, -2.0, 1.0, 0.5], name="y" * 200)
    path = tmp_path_factory.mktemp("long") / "m.mk"
    mk.save(LinearRegression().fit(X, y), path, example=X, name="m", version="1", background=X)
    with mk.load(path) as model:
        yield mk.Explainer(model).explain(X[:2])


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_a_plot_has_room_for_names_of_any_length(long_names, style, tmp_path):
    import matplotlib.pyplot as plt
    from matplotlib.style import context

    with context(style):
        axes = long_names.plot()
        figure = axes.figure
        figure.savefig(
            tmp_path / "p.png"
        )  # where matplotlib finds no room, it warns, and warnings are errors
        whole = figure.bbox
        for label in axes.get_yticklabels():
            assert label.get_window_extent().x0 >= whole.x0
        assert axes.xaxis.label.get_window_extent().x1 <= whole.x1
        assert axes.bbox.width > whole.width * 0.45
        texts = [label.get_text() for label in axes.get_yticklabels()]
        assert any(text.replace("\n", "").startswith(LONG) for text in texts)
        assert any(
            text.endswith("x" * 30 + f" = {html.short(long_names.data[0, 1])}") for text in texts
        )
        plt.close(figure)


def contrast(color, luminance):
    """The ratio that WCAG 2 asks 3 of for graphics."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    own = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return (max(own, luminance) + 0.05) / (min(own, luminance) + 0.05)


def test_cards_take_the_colours_of_their_notebook(long_names, penguins_mk):
    with mk.load(penguins_mk) as model:
        cards = [model._repr_html_(), model.manifest._repr_html_(), long_names._repr_html_()]
    for card in cards:
        own = set(re.findall(r"(?<![-\w])(?:color|background|background-color):([^;\"]+)", card))
        assert own <= {"inherit", "none", html.BLUE, html.RED, "rgba(128,128,128,.45)"}
    for color in (html.BLUE, html.RED):
        assert min(contrast(color, DARK), contrast(color, LIGHT)) > 3.8


def test_a_page_of_its_own_follows_the_reader_into_the_dark(long_names):
    assert '<meta name="color-scheme" content="light dark">' in html.page(
        "title", long_names.card()
    )


def test_of_many_classes_a_card_names_some(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 2)), np.array([f"article {i:03d}" for i in np.arange(400) % 200])
    manifest = mk.save(
        GaussianNB().fit(X, y), tmp_path / "m.mk", example=X[:50], name="m", version="1"
    )
    with mk.load(tmp_path / "m.mk") as model:
        for card in (manifest._repr_html_(), model._repr_html_()):
            assert "article 029 and 170 more" in card
            assert "article 030" not in card


def test_long_words_do_not_widen_a_card(long_names):
    for name in long_names.feature_names:
        fit = re.search(rf'<div style="([^"]*)">{re.escape(name)}</div>', long_names.card()).group(
            1
        )
        assert "overflow-wrap:anywhere" in fit if len(name) > 28 else "nowrap" in fit


def test_a_sum_that_is_only_rounding_is_shown_as_0(long_names):
    values = np.array([[[-0.1], [-0.2]]])
    almost = mk.Explanation(
        **{
            **long_names.__dict__,
            "values": values,
            "base_values": np.array([[0.1 + 0.2]]),
            "data": np.ones((1, 2)),
            "feature_names": ("a", "b"),
        }
    )
    assert values.sum() + 0.1 + 0.2 != 0
    assert "0.3, 0<" in almost.card()


@pytest.fixture(scope="module")
def multi_label(tmp_path_factory):
    X, Y = make_multilabel_classification(200, 4, n_classes=3, random_state=0)
    X = X.astype(np.float32)
    path = tmp_path_factory.mktemp("labels") / "m.mk"
    forest = RandomForestClassifier(5, random_state=0).fit(X, Y)
    mk.save(forest, path, example=X, name="m", version="1", background=X[:20])
    with mk.load(path) as model:
        yield model, X


def test_of_several_outputs_the_explainer_asks_for_one(multi_label):
    model, _ = multi_label
    for output in ("auto", "probability", "margin"):
        with pytest.raises(
            ExplainError, match=r"several outputs.*'probabilities_0', 'probabilities_1'.*output="
        ):
            mk.Explainer(model, output=output)
    with pytest.raises(ExplainError, match="no output 'label' of numbers"):
        mk.Explainer(model, output="label")
    with pytest.raises(
        ExplainError, match=r"output 'probabilities_9' is unknown.*'probabilities_2'"
    ):
        mk.Explainer(model, output="probabilities_9")


@pytest.mark.parametrize("method", ["auto", "lime", "sampling"])
def test_the_output_that_is_named_is_the_one_that_is_explained(multi_label, method):
    model, X = multi_label
    for name in ("probabilities_0", "probabilities_2"):
        found = mk.Explainer(model, method=method, output=name).explain(X[:3])
        assert found.output_names == (f"{name}[0]", f"{name}[1]")
        served = model.run(X[:3])[name]
        if method != "lime":  # which explains the neighbourhood
            np.testing.assert_allclose(
                found.base_values + found.values.sum(axis=1), served, atol=1e-6
            )
        assert (
            model.run(X[:3])["probabilities_0"].tolist()
            != model.run(X[:3])["probabilities_2"].tolist()
        )


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


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (857618.5, "857618"),
        (999.96, "1000"),
        (54421.0, "54421"),
        (0.123456, "0.1235"),
        (1e-7, "1e-07"),
        (2e12, "2e+12"),
    ],
)
def test_numbers_are_shown_without_exponents_where_people_write_none(value, shown):
    assert html.number(value) == html.short(value) == shown
    assert html.number(-value) == f"-{shown}"
    assert html.number(value, sign="+") == f"+{shown}"
