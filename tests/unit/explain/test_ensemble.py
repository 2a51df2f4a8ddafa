"""Ensembles of trees made by hand: what is decoded is what onnxruntime computes, and so are the explanations."""

import numpy as np
import pytest
from helpers.coalitions import agree, brute, saved
from helpers.ensembles import MODES, answers, graph, new_node, old_node, tree_of
from helpers.examples import examples, some
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

import modelkit as mk
from modelkit.explain.ensemble import decode_ensemble
from modelkit.explain.nodes import NotDecodableError

pytestmark = pytest.mark.usefixtures("one_thread")

EDGES = np.array([-np.inf, -2, -1, -0.0, 0.0, 0.5, 1, 1.5, 2, 3, 29, 30, 30.5, 31, np.inf, np.nan])
SPLITS = [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]
MEMBERS = [1.0, 2.0, 3.0, 29.0, 30.0]


def grow(rng, modes, columns, depth, splits):
    """A random tree: a leaf is its weights by target, a node (mode, column, split, members, tracks, true, false)."""
    if depth == 0 or rng.random() < 0.15:
        return float(np.round(rng.normal(), 2))
    members = tuple(float(v) for v in rng.choice(MEMBERS, rng.integers(1, 4), replace=False))
    split = float(rng.choice(splits))
    kind = str(rng.choice(modes))
    return (kind, int(rng.integers(columns)), split, members, bool(rng.integers(2)),
            *(grow(rng, modes, columns, depth - 1, splits) for _ in range(2)))  # fmt: skip


def by_leaves(leaves, rows):
    met = leaves.conditions.met(rows)
    out = np.repeat(leaves.base[None], len(rows), axis=0)
    parts = np.split(leaves.path, leaves.starts[1:-1])[
        : len(leaves.values)
    ]  # one piece where there is no leaf
    for path, value in zip(parts, leaves.values, strict=True):
        out += met[:, path].all(axis=1)[:, None] * value
    return out


def near(splits, dtype, columns, rng):
    """Rows of edges, splits and the numbers beside them."""
    splits = np.array(splits, dtype)
    both = [np.nextafter(splits, dtype(np.inf)), np.nextafter(splits, dtype(-np.inf))]
    return rng.choice(np.concatenate([EDGES.astype(dtype), splits, *both]), (300, columns))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1), new=st.booleans(), dtype=st.sampled_from([np.float32, np.float64]),
    modes=st.sets(st.sampled_from(MODES), min_size=1), tracks=st.booleans(), targets=st.integers(1, 3),
    average=st.booleans(), bases=st.booleans(), edge=st.sampled_from([None, None, np.inf, -np.inf, 0.1, 1e-40]),
)  # fmt: skip
def test_leaves_say_what_onnxruntime_says(
    seed, new, dtype, modes, tracks, targets, average, bases, edge
):
    rng = np.random.default_rng(seed)
    modes = sorted(modes if new else (modes - {"BRANCH_MEMBER"}) or {"BRANCH_EQ"})
    splits = SPLITS if edge is None else [*SPLITS, edge, edge]
    trees = [
        grow(rng, modes, 3, 4, [float(dtype(s)) for s in splits])
        for _ in range(rng.integers(targets, 5))
    ]
    if new:
        node = new_node(trees, targets, dtype, tracks, aggregate_function=0 if average else 1)
    else:
        more = {"base_values": np.arange(1, targets + 1)} if bases else {}
        node = old_node(
            trees,
            targets,
            dtype,
            tracks,
            aggregate_function="AVERAGE" if average else "SUM",
            **more,
        )
    proto = graph(
        [node], inputs={"x": (dtype, 3)}, outputs={"y": (dtype if new else np.float32, targets)}
    )
    rows = near(splits, dtype, 3, rng)
    leaves = decode_ensemble(node, dtype)
    assert leaves.base.shape == (targets,)
    np.testing.assert_allclose(by_leaves(leaves, rows), answers(proto, rows), rtol=0, atol=1e-5)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    new=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_values_of_random_ensembles_are_those_of_all_coalitions(seed, new, dtype, tmp_path_factory):
    rng = np.random.default_rng(seed)
    trees = [grow(rng, MODES if new else MODES[:-1], 4, 4, SPLITS) for _ in range(5)]
    make = new_node if new else old_node
    proto = graph([make(trees, 2, dtype, tracks=True)], inputs={"x": (dtype, 4)},
                  outputs={"y": (dtype if new else np.float32, 2)})  # fmt: skip
    model = saved(proto, tmp_path_factory.mktemp("random"))
    rows = near(SPLITS, dtype, 4, rng)
    explanation = mk.Explainer(model, background=rows[:20]).explain(rows[20:30])
    assert explanation.method == "trees"
    agree(explanation, *brute(lambda r: answers(proto, r), rows[20:30], rows[:20]))


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("classes", [[0, 0], [1, 1], [0, 1]])
@some("bases", [None, [0.125], [0.125, 0.25]], 1)
def test_classifiers_of_two_classes_are_right_or_refused(
    transform, positive, classes, bases, tmp_path
):
    """onnxruntime writes the second column in several ways: whatever is claimed must be what it serves."""
    if bases == [0.125] and classes == [0, 1]:
        pytest.skip("onnxruntime reads past the end of such bases")
    sign = 1 if positive else -1
    trees = [
        tree_of(0, 0.0, 0.125, 0.25),
        tree_of(1, 1.0, 0.25 * sign, 0.0625),
        tree_of(0, 2.0, 0.0625, 0.125),
    ]
    given = {
        "classlabels_int64s": [0, 1],
        "post_transform": transform,
        **({"base_values": bases} if bases else {}),
    }
    node = old_node(
        trees,
        2,
        np.float32,
        tracks=False,
        op="TreeEnsembleClassifier",
        outputs=("label", "y"),
        **given,
    )
    ids = next(a for a in node.attribute if a.name == "class_ids")
    ids.ints[:] = [classes[i % 2] for i in range(len(ids.ints))]
    proto = graph([node], inputs={"x": (np.float32, 2)}, outputs={"y": (np.float32, 2)})
    rows = np.random.default_rng(0).choice(np.float32([-1, 0, 0.5, 1, 2, 3]), (60, 2))
    try:
        model = saved(proto, tmp_path)
        if np.isnan(answers(proto, rows)).any():
            pytest.skip("onnxruntime gives no numbers")
    except mk.errors.GraphError:
        pytest.skip("onnxruntime refuses it")
    explanation = mk.Explainer(model, background=rows[:20]).explain(rows[20:])
    assert explanation.values.shape[2] == len(explanation.output_names)
    total = explanation.base_values + explanation.values.sum(axis=1)
    if explanation.output_space == "raw_score":
        bare = helper.make_node("Identity", ["x"], ["y"])
        bare.CopyFrom(node)
        next(a for a in bare.attribute if a.name == "post_transform").s = b"NONE"
        plain = graph([bare], inputs={"x": (np.float32, 2)}, outputs={"y": (np.float32, 2)})

        def f(r):
            got = answers(plain, r)
            return (
                got
                if total.shape[1] == 2
                else got[:, 1:] - (got[:, :1] if transform == "SOFTMAX" else 0)
            )

        odds = 1 / (1 + np.exp(-total[:, -1])) if total.shape[1] == 1 else None
        if odds is not None:
            np.testing.assert_allclose(odds, answers(proto, rows[20:])[:, -1], atol=1e-5)
    else:

        def f(r):
            return answers(proto, r)[:, -total.shape[1] :]

    agree(explanation, *brute(f, rows[20:], rows[:20]))


@pytest.mark.parametrize("members", [(1.0, 31.0), (-1.0, 2.0), (0.0,), (40.0, 1.0), ()])
def test_sets_that_onnxruntime_misreads_are_not_decoded(members):
    node = new_node(
        [("BRANCH_MEMBER", 0, 1.0, members, False, 1.0, 2.0)], 1, np.float32, tracks=True
    )
    with pytest.raises(NotDecodableError, match="set of a branch"):
        decode_ensemble(node, np.float32)


def test_a_base_that_no_leaf_adds_to_is_left_out_by_onnxruntime():
    node = old_node(
        [tree_of(0), tree_of(1)], 3, np.float32, tracks=False, base_values=[1.0, 2.0, 4.0]
    )
    proto = graph([node], inputs={"x": (np.float32, 2)}, outputs={"y": (np.float32, 3)})
    assert not answers(proto, np.zeros((1, 2), np.float32))[0, 2]
    with pytest.raises(NotDecodableError, match="base value"):
        decode_ensemble(node, np.float32)
    ids = next(a for a in node.attribute if a.name == "target_ids")
    ids.ints[:] = [0, 1, 2, 2]  # the first tree adds to either of two
    with pytest.raises(NotDecodableError, match="base value"):
        decode_ensemble(node, np.float32)


def test_least_and_largest_trees_are_no_sum(tmp_path):
    trees = [tree_of(0), tree_of(1, 1.0)]
    rows = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    for node in (
        new_node(trees, 1, np.float32, tracks=True, aggregate_function=2),
        old_node(trees, 1, np.float32, tracks=True, aggregate_function="MAX"),
    ):
        proto = graph([node], inputs={"x": (np.float32, 2)}, outputs={"y": (np.float32, 1)})
        explainer = mk.Explainer(saved(proto, tmp_path), background=rows)
        assert explainer.plan().method == "enumeration"
        agree(explainer.explain(rows), *brute(lambda r, proto=proto: answers(proto, r), rows, rows))


def test_a_chain_of_seventy_columns_is_too_deep(tmp_path):
    tree = 1.0
    for column in range(70):
        tree = ("BRANCH_LEQ", column, 0.0, (0.0,), False, tree, 0.5)
    proto = graph([old_node([tree], 1, np.float32, tracks=False)], inputs={"x": (np.float32, 70)},
                  outputs={"y": (np.float32, 1)})  # fmt: skip
    rows = -np.abs(np.random.default_rng(0).normal(size=(12, 70))).astype(np.float32)
    explainer = mk.Explainer(saved(proto, tmp_path), background=rows)
    assert explainer.plan().method == "sampling"
    assert "70 columns" in str(explainer.plan())


def test_forty_columns_on_one_path_are_exact(tmp_path):
    """The leaf is reached by nobody but all together: of what it adds, each of those that differ gets an equal part."""
    tree = 8.0
    for column in range(40):
        tree = ("BRANCH_LEQ", column, 0.0, (0.0,), False, tree, 0.0)
    proto = graph([old_node([tree], 1, np.float32, tracks=False)], inputs={"x": (np.float32, 40)},
                  outputs={"y": (np.float32, 1)})  # fmt: skip
    explainer = mk.Explainer(saved(proto, tmp_path), background=np.ones((3, 40), np.float32))
    assert explainer.plan().method == "trees"
    values = explainer.explain(-np.ones((1, 40), np.float32)).values
    np.testing.assert_allclose(values, 0.2, rtol=1e-6)
