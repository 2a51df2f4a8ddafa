"""Public frozen values are values: whatever sequence they were given, they are equal and have a hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

import modelkit as mk
from modelkit._internal import fields

A = mk.Column("a")
X = mk.TensorSpec("x", "float32", ("n", 1), (A,))
Y = mk.TensorSpec("y", "float32", ("n",))


def figure(truth, outputs):
    return 0.0


VALUES = {
    "categories": lambda of: mk.Column("a", "string", categories=of(["b", "c"])),
    "shape": lambda of: mk.TensorSpec("x", "float32", of(["n", 2])),
    "columns": lambda of: mk.TensorSpec("x", "float32", of(["n", 1]), of([A])),
    "signature": lambda of: mk.Signature(
        of([X]), of([Y]), classes=of(["a", "b"]), ignored=of(["id"]), refusals=of(["odd"])
    ),
    "bounds": lambda of: mk.GateMetric("own", figure, bounds=of([0, 1])),
    "policy": lambda of: mk.RolloutPolicy(of([mk.RolloutStage(0.5)]), of([mk.Guard("errors")])),
    "image": lambda of: mk.Preprocess(size=of([8, 8]), mean=of([0.5] * 3), std=of([0.2] * 3)),
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES.keys())
def test_a_value_of_lists_is_the_value_of_tuples(make):
    """A Signature of lists had no hash, and was told from its equal by a message with two equal texts."""
    assert make(list) == make(tuple)
    assert hash(make(list)) == hash(make(tuple))
    assert repr(make(list)) == repr(make(tuple))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: mk.Column("a", "string", categories="bc"), "categories of Column"),
        (lambda: mk.TensorSpec("x", "float32", "nm"), "shape of TensorSpec"),
        (lambda: mk.TensorSpec("x", "float32", ("batch", 2), columns=2), "columns of TensorSpec"),
        (lambda: mk.Signature((X,), (Y,), ignored="id"), "ignored of Signature"),
        (lambda: mk.Signature(X, (Y,)), "inputs of Signature"),
        (lambda: mk.GateMetric("own", figure, bounds="01"), "bounds of GateMetric"),
        (lambda: mk.GateMetric("own", figure, bounds=3), "bounds of GateMetric"),
        (lambda: mk.RolloutPolicy(mk.RolloutStage(0.5)), "stages of RolloutPolicy"),
        (lambda: mk.Signature((X,), (Y,), classes={"a", "b"}), "classes of Signature"),
        (lambda: mk.Column("a", "string", categories=frozenset("bc")), "categories of Column"),
    ],
)
def test_what_is_no_sequence_is_refused(make, name):
    """`columns=2` was "shape ['batch', 2], but 2 columns", and a text a sequence of its letters."""
    with pytest.raises(TypeError, match=f"^{name} is a tuple or a list, not "):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mk.Signature((X, "y"), (Y,)),
            "inputs of Signature holds values of TensorSpec, not 'y'",
        ),
        (
            lambda: mk.TensorSpec("x", "float32", ("batch", 1), ["a"]),
            "columns of TensorSpec holds values of Column, not 'a'",
        ),
        (
            lambda: mk.RolloutPolicy([0.5]),
            "stages of RolloutPolicy holds values of RolloutStage, not 0.5",
        ),
        (
            lambda: mk.RolloutPolicy([mk.RolloutStage(0.5)], guards=["errors"]),
            "guards of RolloutPolicy holds values of Guard, not 'errors'",
        ),
    ],
)
def test_items_of_another_kind_are_refused(make, message):
    """They were an AttributeError: a str has no dtype, and a float no share."""
    with pytest.raises(TypeError, match=message):
        make()


@dataclass(frozen=True)
class Alias:
    version: str
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Named:
    aliases: Mapping[str, Alias]
    why: dict[str, str] = field(default_factory=dict)


def test_a_mapping_of_values_is_written_and_read():
    named = Named({"a": Alias("1", (1, 2)), "b": Alias("2")}, {"x": "y"})
    plain = fields.write_object(named)
    assert plain["aliases"]["a"] == {"version": "1", "numbers": [1, 2]}
    assert fields.read_object(Named, plain, "here") == named


def test_fields_that_a_newer_modelkit_added_are_left_out():
    plain = {"version": "1", "until": "2027"}
    assert fields.read_known(Alias, plain, "here") == Alias("1")
    with pytest.raises(ValueError, match=r"here: unknown fields \['until'\]"):
        fields.read_object(Alias, plain, "here")
    for broken in ({}, None, [], {"version": 1}):
        with pytest.raises(ValueError, match="here"):
            fields.read_known(Alias, broken, "here")
