"""Pictures of an Evaluation."""

import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import modelkit as mk
from modelkit.errors import MissingExtraError, UsageError

mpl.use("Agg")
X = np.random.default_rng(0).normal(size=(300, 3))
CLASSES = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])]
TASKS = {
    "binary": (LogisticRegression(), X[:, 0] + X[:, 1] > 0, "roc precision_recall reliability confusion figures"),
    "multiclass": (LogisticRegression(), CLASSES, "roc precision_recall reliability confusion figures"),
    "regression": (Ridge(), X[:, 0], "residuals figures"),
}  # fmt: skip


@pytest.fixture(scope="module", params=TASKS)
def case(request, tmp_path_factory):
    estimator, y, pictures = TASKS[request.param]
    path = tmp_path_factory.mktemp("drawn") / "m.mk"
    mk.save(estimator.fit(X, y), path, example=X)
    return mk.evaluate(path, X, y), pictures.split()


def test_each_picture_of_the_task_is_drawn(case):
    evaluation, pictures = case
    for picture in pictures:
        axes = evaluation.plot(picture)
        assert axes.get_xlabel() or picture == "figures"
        assert axes.has_data()
        assert evaluation.plot(picture, ax=axes) is axes
    assert evaluation.plot().get_xlabel() == evaluation.plot(pictures[0]).get_xlabel()
    plt.close("all")


def test_an_unknown_picture_is_refused_with_those_there_are(case):
    evaluation, pictures = case
    with pytest.raises(UsageError, match=f"it has {', '.join(pictures)}"):
        evaluation.plot("lift")


def test_the_confusion_shows_its_counts(case):
    evaluation, pictures = case
    if "confusion" not in pictures:
        pytest.skip("a regressor has none")
    texts = [text.get_text() for text in evaluation.plot("confusion").texts]
    counts = [f"{count:,.0f}" for row in evaluation.confusion.counts for count in row]
    assert texts == counts
    plt.close("all")


def test_without_matplotlib_the_extra_is_named(case, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(MissingExtraError, match="plot"):
        case[0].plot()
