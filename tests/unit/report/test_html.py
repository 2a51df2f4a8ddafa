"""Cards, plots and numbers as people see them."""

import ast
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB

import modelkit as mk
from modelkit.report import html
from modelkit.report.plot import Axis, Plot, text_at
from modelkit.signature.signature import Signature
from modelkit.signature.spec import Column, TensorSpec


def test_the_notebook_card_shows_the_model_escaped(penguins_mk):
    with mk.load(penguins_mk, threads=2) as model:
        card = model._repr_html_()
        for text in (
            "penguins 1.0.0",
            "2 threads",
            "as asked",
            model.manifest.digest,
            "labels flipped",
            "bill_length_mm",
            "Adelie",
        ):
            assert text in card
    hostile = Column("<script>alert(1)</script>", "float64")
    signature = Signature(
        (TensorSpec("<b>", "float64", ("batch", 1), (hostile,)),),
        (TensorSpec("y", "float64", ("batch",)),),
    )
    card = mk.FunctionModel(lambda feeds: feeds, signature)._repr_html_()
    assert "<script" not in card
    assert "<b>" not in card
    assert "&lt;script&gt;" in card
    assert not re.search(r"https?://", card)


class Parsed(HTMLParser):
    """The elements with the names of their attributes, and all texts, of attributes too."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self.data = [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, [name for name, _ in attrs]))
        self.texts += [value for _, value in attrs]

    def handle_data(self, data):
        self.data += data


def picture_of(text):
    axis = Axis(0, 1, text, [(0, text), (1, text)])
    plot = Plot(axis, axis)
    marks = [plot.line((0, 1), (0, 1), text, text), plot.box((0, 1), (0, 1), text, text)]
    return plot.picture(text, *marks, plot.dot(0, 0, text, text), text_at(0, 0, text, text, text))


RENDERERS = {
    "element": lambda text: html.element("p", text, title=text),
    "joined": lambda text: html.joined(html.element("b", text), text),
    "card": lambda text: html.card(text, [(text, text)], (text, text), [(text, text)]),
    "bars": lambda text: html.bars(text, [(text, text, 1.0)], [(text, text)]),
    "page": lambda text: html.page(text, text),
    "part": lambda text: html.part(text, text),
    "section": lambda text: html.section(text, text, text),
    "table": lambda text: html.table((text, text), [(text, text)]),
    "facts": lambda text: html.facts_list([(text, text)]),
    "bullets": lambda text: html.bullets([text]),
    "more": lambda text: html.more(3, 1, f"{text}s"),
    "plot": picture_of,
}
TAG = re.compile(
    r"</[a-z]|<(b|dd|div|dl|dt|h\d|i|li|p|path|pre|section|span|svg|t[dhr]|table|ul)[ >]"
)
HOSTILE = st.text(min_size=1) | st.text("<>&\"'/=! \x00\x1b\ud800ascript-", min_size=1)


@pytest.mark.parametrize("name", RENDERERS)
@settings(max_examples=examples(30))
@given(text=HOSTILE)
def test_a_text_from_outside_stays_a_text_in_every_renderer(name, text):
    parsed, plain = (Parsed(RENDERERS[name](given)) for given in (text, "x"))
    assert parsed.elements == plain.elements
    shown = "".join(
        c if c.isprintable() or c in " \n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    assert parsed.data.count(shown) >= 1
    assert parsed.texts.count(shown) >= plain.texts.count("x")
    assert not [c for c in RENDERERS[name](text) if not c.isprintable() and c not in " \n"]


def test_no_other_room_writes_html():
    """So every text is escaped: a text that `element` was not given cannot become HTML."""
    source = Path(mk.__file__).parent
    written = []
    for path in source.rglob("*.py"):
        room = path.relative_to(source).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if room != "report" and isinstance(text, str) and TAG.search(text):
                written.append((path.name, node.lineno, text[:40]))
    assert not written


def test_a_part_with_nothing_in_it_is_left_out():
    assert html.part("Alarms", html.bullets([]), html.more(3, 3)) == ""
    assert html.more(1005, 3, "rows") == "<p>and 1,002 more rows</p>"
    assert "<th" not in html.table(("", ""), [("a", "b")])


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


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_a_plot_has_room_for_names_of_any_length(long_names, style, tmp_path):
    import matplotlib.pyplot as plt
    from matplotlib.style import context

    with context(style):
        axes = long_names.plot()
        figure = axes.figure
        # Where matplotlib finds no room, it warns, and warnings are errors.
        figure.savefig(tmp_path / "p.png")
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
