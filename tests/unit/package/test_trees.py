"""Forests are accepted however they are numbered and ordered, and refused where a branch leads back."""

import contextlib

import numpy as np
import pytest
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

import modelkit as mk
from modelkit.errors import GraphError
from modelkit.package import trees

SEEDS = st.integers(0, 1 << 32)
LEAF, BRANCH = 4, 10  # letters


def grown(seed):
    """The children of the branches of a random tree, and how many branches and leaves it has: nodes 0, 1, ... each."""
    rng = np.random.default_rng(seed)
    branches = int(rng.integers(1, 40))
    children, open_ends = [[None, None]], [(0, 0), (0, 1)]
    for node in range(1, branches):
        parent, side = open_ends.pop(int(rng.integers(len(open_ends))))
        children.append([None, None])
        children[parent][side] = node
        open_ends += [(node, 0), (node, 1)]
    return children, branches


def addressed(seeds):
    """Several random trees as the older operators hold them; the leaves of each follow its branches."""
    lists = {name: [] for name in trees.ADDRESSED}
    for tree, seed in enumerate(seeds):
        children, branches = grown(seed)
        ends = iter(range(branches, 2 * branches + 1))
        pairs = [[next(ends) if to is None else to for to in pair] for pair in children] + [
            [0, 0]
        ] * (branches + 1)
        count = len(pairs)
        lists["nodes_treeids"] += [tree] * count
        lists["nodes_nodeids"] += range(count)
        lists["nodes_modes"] += [BRANCH] * branches + [LEAF] * (branches + 1)
        lists["nodes_featureids"] += [0] * count
        lists["nodes_truenodeids"] += [to for to, _ in pairs]
        lists["nodes_falsenodeids"] += [to for _, to in pairs]
    leaves = [0] * len(seeds)
    weights = {name: np.array(leaves) for name in trees.LIST_GROUPS["TreeEnsembleRegressor"][1]}
    return {name: np.array(values) for name, values in lists.items()} | weights


def indexed(seeds):
    """Several random trees as TreeEnsemble holds them, with one leaf."""
    lists = {name: [] for name in (*trees.INDEXED, "tree_roots")}
    for seed in seeds:
        children, branches = grown(seed)
        start = len(lists["nodes_featureids"])
        lists["tree_roots"].append(start)
        lists["nodes_featureids"] += [0] * branches
        for side, name in enumerate(("true", "false")):
            lists[f"nodes_{name}nodeids"] += [
                0 if pair[side] is None else start + pair[side] for pair in children
            ]
            lists[f"nodes_{name}leafs"] += [int(pair[side] is None) for pair in children]
    return {name: np.array(values) for name, values in (lists | {"leaf_targetids": [0]}).items()}


def renumbered(lists, seed):
    """The same trees with their nodes under other numbers, and in another order."""
    rng = np.random.default_rng(seed)
    lists = dict(lists)
    for tree in np.unique(lists["nodes_treeids"]):
        own = lists["nodes_treeids"] == tree
        names = rng.permutation(len(own))[: own.sum()]
        for name in ("nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids"):
            lists[name] = lists[name].copy()
            lists[name][own] = names[lists[name][own]]
    order = rng.permutation(len(lists["nodes_treeids"]))
    return lists | {name: lists[name][order] for name in trees.ADDRESSED}


def ancestor(lists, node, rng):
    """A node of the way that leads to `node`, or itself; nodes are numbered from 0 in each tree, and in order."""
    way = [node]
    start = node - lists["nodes_nodeids"][node]
    while lists["nodes_nodeids"][way[-1]] > 0:
        number = lists["nodes_nodeids"][way[-1]]
        leads = (lists["nodes_truenodeids"] == number) | (lists["nodes_falsenodeids"] == number)
        leads &= (lists["nodes_treeids"] == lists["nodes_treeids"][node]) & (
            lists["nodes_modes"] != LEAF
        )
        way.append(int(np.flatnonzero(leads)[0]))
    return int(rng.choice(way)) - start


@settings(max_examples=examples(150), deadline=None)
@given(seeds=st.lists(SEEDS, min_size=1, max_size=5), seed=SEEDS)
def test_random_forests_are_accepted(seeds, seed):
    lists = addressed(seeds)
    trees.check_trees("TreeEnsembleRegressor", lists)
    trees.check_trees("TreeEnsembleRegressor", renumbered(lists, seed))
    trees.check_trees("TreeEnsemble", indexed(seeds))


@settings(max_examples=examples(300), deadline=None)
@given(seeds=st.lists(SEEDS, min_size=1, max_size=5), seed=SEEDS, shuffled=st.booleans())
def test_a_branch_that_leads_back_is_refused(seeds, seed, shuffled):
    """In whatever tree, from whatever node to itself or one above it."""
    lists, rng = addressed(seeds), np.random.default_rng(seed)
    node = int(rng.choice(np.flatnonzero(lists["nodes_modes"] != LEAF)))
    lists[str(rng.choice(["nodes_truenodeids", "nodes_falsenodeids"]))][node] = ancestor(
        lists, node, rng
    )
    with pytest.raises(GraphError, match="run in circles"):
        trees.check_trees("TreeEnsembleRegressor", renumbered(lists, seed) if shuffled else lists)


@settings(max_examples=examples(200), deadline=None)
@given(seeds=st.lists(SEEDS, min_size=1, max_size=5), seed=SEEDS)
def test_a_node_of_tree_ensemble_that_two_branches_lead_to_is_refused(seeds, seed):
    lists, rng = indexed(seeds), np.random.default_rng(seed)
    count = len(lists["nodes_featureids"])
    side, node = str(rng.choice(["true", "false"])), int(rng.integers(count))
    lists[f"nodes_{side}nodeids"][node], lists[f"nodes_{side}leafs"][node] = old = (
        int(rng.integers(count)),
        0,
    )
    trees_of = [
        np.where(lists[f"nodes_{name}leafs"], -1, lists[f"nodes_{name}nodeids"])
        for name in ("true", "false")
    ]
    leads = np.bincount(
        np.concatenate([*(to[to >= 0] for to in trees_of), lists["tree_roots"]]), minlength=count
    )
    with (
        pytest.raises(GraphError, match="lead to one node")
        if leads[old[0]] > 1
        else contextlib.nullcontext()
    ):
        trees.check_trees("TreeEnsemble", lists)


def test_nodes_of_tree_ensemble_that_no_root_leads_to_may_not_run_in_circles():
    lists = indexed([1])
    for name in trees.INDEXED:
        lists[name] = np.append(lists[name], 0)
    lists["nodes_truenodeids"][-1] = len(lists["nodes_featureids"]) - 1
    lists["nodes_falseleafs"][-1] = 1
    with pytest.raises(GraphError, match="1 of its nodes run in circles"):
        trees.check_trees("TreeEnsemble", lists)


def chain(levels, share=False):
    """A tree with one branch a level, whose other sides lead to leaves, or all to the same node."""
    ids = np.arange(2 * levels + 1)
    modes = np.where(ids % 2 | (ids == 2 * levels), LEAF, BRANCH)
    ends = np.full(len(ids), 2 * levels) if share else ids + 1
    lists = dict.fromkeys(
        (*trees.ADDRESSED, *trees.LIST_GROUPS["TreeEnsembleRegressor"][1]), np.zeros(len(ids), int)
    )
    branches = {"nodes_truenodeids": ends, "nodes_falsenodeids": ids + 2}
    return lists | branches | {"nodes_nodeids": ids, "nodes_modes": modes}


def test_how_deep_a_tree_may_be():
    trees.check_trees("TreeEnsembleRegressor", chain(trees.MAX_LEVELS))
    with pytest.raises(GraphError, match="more than 2000 levels"):
        trees.check_trees("TreeEnsembleRegressor", chain(trees.MAX_LEVELS + 1))


def test_branches_may_share_a_node():
    """As converters of LightGBM write a set of categories: a branch for each, all to the same node."""
    trees.check_trees("TreeEnsembleRegressor", chain(30, share=True))
    lists = chain(30)
    lists["nodes_truenodeids"] = lists[
        "nodes_falsenodeids"
    ]  # a billion ways, and none is longer than 30
    trees.check_trees("TreeEnsembleRegressor", lists)


def test_a_forest_of_leaves():
    lists = {
        name: np.array([0, 0])
        for name in (*trees.ADDRESSED, *trees.LIST_GROUPS["TreeEnsembleRegressor"][1])
    }
    lists |= {"nodes_treeids": np.array([0, 1]), "nodes_modes": np.array([LEAF, LEAF])}
    trees.check_trees("TreeEnsembleRegressor", lists)


@pytest.mark.parametrize("kind", [RandomForestClassifier, RandomForestRegressor])
@settings(max_examples=examples(5), deadline=None)
@given(seed=SEEDS, count=st.integers(1, 8), depth=st.integers(1, 12))
def test_forests_of_scikit_learn_are_accepted(tmp_path_factory, kind, seed, count, depth):
    X = np.random.default_rng(seed).normal(size=(60, 4)).astype(np.float32)
    fitted = kind(count, max_depth=depth, random_state=seed % 100).fit(X, (X[:, 0] > 0).astype(int))
    path = tmp_path_factory.mktemp("forest") / "forest.mk"
    mk.save(fitted, path, example=X, name="forest", version="1")
    with mk.load(path) as model:
        assert len(model.predict(X)) == 60
