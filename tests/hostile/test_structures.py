"""A package that lies about what its converter built is explained rightly, or not at all."""

import numpy as np
import onnx.parser
import pytest
from helpers.coalitions import agree, brute, small
from helpers.forge import forge
from sklearn import ensemble, linear_model, preprocessing
from sklearn.pipeline import make_pipeline

import modelkit as mk

pytestmark = pytest.mark.usefixtures("one_thread")

LIES = {
    "groups turned round": {"groups": [5, 4, 3, 2, 1, 0]},
    "one column of another": {"groups": [0, 1, 2, 3, 4, 0]},
    "all of one column": {"groups": [0] * 6},
    "a group too many": {"groups": [0, 1, 2, 3, 4, 5, 5]},
    "no groups": {"groups": []},
    "a column below the first": {"groups": [0, 1, 2, 3, 4, -1]},
    "a column beyond the last": {"groups": [0, 1, 2, 3, 4, 1 << 40]},
    "another link": {"link": "exp"},
    "a link of several classes": {"link": "share"},
    "no link": {"link": "identity"},
    "another factor": {"factor": 2.0},
    "a vast factor": {"factor": 1e300},
    "a factor of none": {"factor": 0.0},
    "the rows as the sum": {"tensor": "X"},
    "the output as the sum": {"tensor": "probabilities"},
    "the label as the sum": {"tensor": "label"},
    "no such tensor": {"tensor": "nothing"},
    "no such table": {"table": "nothing"},
    "the rows as the table": {"table": "X"},
    "a number as the table": {"table": "Constant_2_output"},
    "numbers of axes as the table": {"table": "Constant_1_output"},
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    X, y = small(2)
    folder = tmp_path_factory.mktemp("lies")
    models = {
        "vectors": ensemble.RandomForestClassifier(5, max_depth=4, random_state=0),
        "trees": make_pipeline(
            preprocessing.StandardScaler(),
            ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0),
        ),
        "linear": make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
    }
    for name, model in models.items():
        mk.save(model.fit(X, y), folder / f"{name}.mk", example=X, name=name)
    return X, {name: (folder / f"{name}.mk").read_bytes() for name in models}


@pytest.mark.parametrize("kind", ["trees", "linear", "vectors"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_the_structure_is_caught(kind, lie, packages):
    X, found = packages

    def edit(manifest):
        manifest["structures"]["probabilities"] |= LIES[lie]

    model = mk.load(forge(found[kind], edit=edit))
    honest = mk.Explainer(mk.load(found[kind]), background=X[:20]).explain(X[20:25])
    explained = mk.Explainer(model, background=X[:20]).explain(X[20:25])
    assert explained.exact
    if explained.output_space == honest.output_space:
        agree(explained, honest.values, honest.base_values[0])
    else:
        agree(explained, *brute(model.predict_proba, X[20:25], X[:20]))


def test_a_lie_that_the_background_does_not_show_is_caught_where_a_row_shows_it(packages):
    """Of equal rows, none moves a column of another group."""
    X, found = packages

    def edit(manifest):
        manifest["structures"]["probabilities"]["groups"] = [1, 0, 2, 3, 4, 5]

    model = mk.load(forge(found["trees"], edit=edit))
    explainer = mk.Explainer(model, background=np.repeat(X[:1], 10, axis=0), method="trees")
    explainer.explain(X[:1])
    with pytest.raises(mk.errors.AdditivityError, match="moves what should not depend on it"):
        explainer.explain(X[20:25])


def test_a_sum_that_is_none_is_caught_where_a_row_shows_it(tmp_path):
    """The margin of a network is said to be a sum over columns, which it is on the background alone."""
    from sklearn.neural_network import MLPRegressor

    X, y = small(0)
    network = MLPRegressor(
        hidden_layer_sizes=(8,), solver="lbfgs", max_iter=5000, random_state=0
    ).fit(X, y)
    mk.save(network, tmp_path / "m.mk", example=X, name="m")

    def edit(manifest):
        assert manifest["structures"] == {}
        manifest["structures"]["prediction"] = {"tensor": "prediction"}

    model = mk.load(forge((tmp_path / "m.mk").read_bytes(), edit=edit))
    explainer = mk.Explainer(model, background=np.repeat(X[:1], 10, axis=0), method="additive")
    with pytest.raises(mk.errors.AdditivityError, match="misses what the model served"):
        explainer.explain(X[20:25])
    assert mk.Explainer(model, background=X[:20]).plan().method == "enumeration"


# A sum, and 100 more in rows that share one to four of six values with the row `ref`, but for column 0.
OFF_ON_WHOLE_ROWS = """
    <ir_version: 9, opset_import: ["" : 18]>
    agraph (float[batch, 6] x) => (float[batch, 1] prediction)
        <int64[1] last = {1}, int64[1] start = {0}, int64[1] one = {1}, float few = {0.5}, float most = {4.5},
         float hundred = {100.0}, float[6] ref = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> {
        sum = ReduceSum (x, last)
        same = Equal (x, ref)
        equal = Cast <to = 1> (same)
        count = ReduceSum (equal, last)
        above = Greater (count, few)
        below = Less (count, most)
        between = And (above, below)
        first = Slice (same, start, one, last)
        other = Not (first)
        where = And (between, other)
        hit = Cast <to = 1> (where)
        much = Mul (hit, hundred)
        prediction = Add (sum, much)
    }
"""


def test_a_sum_that_is_none_in_mixed_rows_alone_is_no_exact_explanation(tmp_path):
    """Rows, and rows in which one column is changed, add up: a package knows that these are tried."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6)).astype(np.float32)
    background = np.concatenate([np.arange(1, 7, dtype=np.float32)[None], X[:9]])
    path = tmp_path / "m.mk"
    mk.save(onnx.parser.parse_model(OFF_ON_WHOLE_ROWS), path, example=X, name="m")
    lie = {"prediction": {"tensor": "prediction"}}
    model = mk.load(forge(path.read_bytes(), edit=lambda manifest: manifest.update(structures=lie)))
    # The mixtures are drawn: one maker of explanations in a thousand does not see it.
    found = [mk.Explainer(model, background=background).plan().method for _ in range(5)]
    assert found.count("enumeration") >= 4


@pytest.mark.parametrize(
    "bad", [{"link": "tanh"}, {"groups": [0.5]}, {"kind": "trees"}, {"tensor": None}]
)
def test_a_structure_that_cannot_be_is_no_manifest(bad, packages):
    def edit(manifest):
        manifest["structures"]["probabilities"] |= bad

    with pytest.raises(mk.errors.ManifestError, match="structures"):
        mk.load(forge(packages[1]["trees"], edit=edit))
