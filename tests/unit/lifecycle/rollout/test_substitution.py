"""Which candidates can answer in the place of a champion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.rollouts import COLUMNS, ROWS, SIGNATURE, model

import modelkit as mk
from modelkit.errors import UsageError

ERRORS = (mk.Guard("errors"),)


def changed(**changes):
    return replace(SIGNATURE, **changes)


def with_columns(*columns, **more):
    spec = mk.TensorSpec("X", "float64", ("batch", len(columns)), columns)
    return changed(inputs=(spec,), **more)


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        (changed(outputs=SIGNATURE.outputs[:1]), "its outputs are"),
        (changed(primary="who"), "its primary output is 'who'"),
        (changed(classes=("a", "b")), "its classes are"),
        (with_columns(*COLUMNS[:2]), "refuses rows with the column 'c2'"),
        (with_columns(*COLUMNS, mk.Column("new")), "needs the column 'new'"),
        (with_columns(*COLUMNS[::-1]), "another order"),
        (with_columns(mk.Column("c0", categories=(1.0, 2.0)), *COLUMNS[1:]), "takes only"),
        (
            changed(inputs=(mk.TensorSpec("X", "float64", ("batch", 3)),)),
            "takes no|needs the tensor",
        ),
    ],
)
def test_a_candidate_that_cannot_answer_in_place_is_refused(signature, why):
    with pytest.raises(UsageError, match=why):
        mk.Rollout(model(1), model(2, signature=signature), share=0.5)


def test_a_candidate_may_read_columns_that_the_champion_ignores():
    champion = model(1, signature=changed(ignored=("new",)))
    wide = with_columns(*COLUMNS, mk.Column("new"))
    candidate = mk.FunctionModel(
        lambda feeds: {"y": feeds["X"][:, 3], "who": np.full(len(feeds["X"]), 2)}, wide
    )
    rollout = mk.Rollout(
        champion, candidate, policy=mk.RolloutPolicy((mk.RolloutStage(1.0),), ERRORS)
    )
    rows = {name: ROWS[:, i] for i, name in enumerate(("c0", "c1", "c2"))}
    assert rollout.predict({**rows, "new": np.full(3, 7.0)}).tolist() == [7.0] * 3
    missing = mk.TensorSpec(
        "X", "float64", ("batch", 3), tuple(replace(c, nullable=True) for c in COLUMNS)
    )
    with pytest.raises(UsageError, match="no missing values"):
        mk.Rollout(model(1, signature=changed(inputs=(missing,))), model(2), share=0.5)


def test_an_array_is_not_read_as_other_columns():
    def signature(columns, ignored):
        spec = mk.TensorSpec("X", "float64", ("batch", 2), tuple(map(mk.Column, columns)))
        outputs = (mk.TensorSpec("y", "float64", ("batch",)),)
        return mk.Signature((spec,), outputs, primary="y", ignored=(ignored,))

    one = mk.FunctionModel(lambda feeds: {"y": feeds["X"][:, 1]}, signature("ab", "c"))
    other = mk.FunctionModel(lambda feeds: {"y": feeds["X"][:, 1]}, signature("ac", "b"))
    with pytest.raises(UsageError, match="would read an array"):
        mk.Rollout(one, other, share=0.5)
