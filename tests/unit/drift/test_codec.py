"""What changes of an object comes back bit for bit, and nothing that does not fit comes back at all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from helpers.frozen import thawed
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelkit._internal.arrays import Array
from modelkit.drift.codec import freeze, pack, reading, thaw, unpack
from modelkit.errors import PackageError

SCHEMA = "test/1"


@dataclass(frozen=True)
class Place:
    row: int
    time: float


@dataclass(frozen=True)
class Note:
    name: str
    at: float | None = None
    sums: Array | None = None


class Bag:
    changing = ("counts", "rng", "limit")

    def __init__(self, seed=0):
        self.counts = np.zeros((2, 3))
        self.rng = np.random.default_rng(seed)
        self.limit = 1.0


class Stream:
    changing = ("bags", "named", "rows", "grown", "trail", "notes", "open", "born")
    entries: ClassVar = {"trail": Place, "notes": Note}

    def __init__(self):
        self.size = 3
        self.bags = [Bag(1), Bag(2)]
        self.named = {"a": Bag(3), "b": None}
        self.rows = 0
        self.grown = np.zeros((0, 2), np.int64)
        self.trail = deque(maxlen=4)
        self.notes = ()
        self.open = None
        self.born = 0


def same(left, right):
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=True)
    if isinstance(left, np.random.Generator):
        return left.bit_generator.state == right.bit_generator.state
    if hasattr(left, "changing"):
        return same(vars(left), vars(right))
    if isinstance(left, dict):
        return [*left] == [*right] and all(same(left[name], right[name]) for name in left)
    if isinstance(left, Note | Place):
        return same(vars(left), vars(right))
    if isinstance(left, list | deque | tuple):
        pairs = zip(left, right, strict=True)
        return type(left) is type(right) and all(same(*pair) for pair in pairs)
    return type(left) is type(right) and (left == right or (left != left and right != right))


FLOATS = st.floats(allow_nan=True)
ARRAYS = hnp.arrays(np.float64, (2, 3), elements=FLOATS)
PLACES = st.builds(Place, st.integers(0, 10), st.floats(allow_nan=False))
NOTES = st.builds(Note, st.text("ab c"), st.none() | st.floats(0, 1), st.none() | ARRAYS)


@st.composite
def streams(draw):
    stream = Stream()
    for bag in (*stream.bags, stream.named["a"]):
        bag.counts = draw(ARRAYS)
        bag.limit = draw(FLOATS)
        bag.rng.random(draw(st.integers(0, 5)))
    stream.rows = draw(st.integers(-(1 << 60), 1 << 60))
    stream.grown = draw(hnp.arrays(np.int64, st.tuples(st.integers(0, 5), st.just(2))))
    stream.trail.extend(draw(st.lists(PLACES, max_size=6)))
    stream.notes = tuple(draw(st.lists(NOTES, max_size=3)))
    stream.open = draw(st.none() | st.integers(0, 9) | st.text("abc"))
    stream.born = draw(st.just(0) | hnp.arrays(np.int64, (2, 1)))
    return stream


@given(streams())
def test_all_that_changes_comes_back_bit_for_bit(stream):
    fresh = Stream()
    assert thawed(stream, fresh) is fresh
    assert same(stream, fresh)
    assert all(
        bag.rng.random() == own.rng.random()
        for bag, own in zip(stream.bags, fresh.bags, strict=True)
    )


def test_equal_objects_have_equal_bytes():
    def data():
        arrays = {}
        plain = freeze(Stream(), arrays)
        return pack(SCHEMA, {"value": plain}, arrays)

    assert data() == data()


WAYS = {
    "shape": lambda plain, arrays: arrays.update({"/bags/0/counts": np.zeros((3, 2))}),
    "type": lambda plain, arrays: arrays.update({"/bags/0/counts": np.zeros((2, 3), "U1")}),
    "digits": lambda plain, arrays: arrays.update({"/grown": np.full((1, 2), 0.5)}),
    "lost": lambda plain, arrays: arrays.pop("/bags/0/counts"),
    "array for an object": lambda plain, arrays: arrays.update({"/bags/0": np.zeros(2)}),
    "array for a number": lambda plain, arrays: arrays.update({"/rows": np.array(3)}),
    "entries": lambda plain, arrays: plain["bags"].pop(),
    "names": lambda plain, arrays: plain["named"].pop("b"),
    "attribute": lambda plain, arrays: plain.pop("rows"),
    "number": lambda plain, arrays: plain.update(rows="3"),
    "whole": lambda plain, arrays: plain.update(rows=True),
    "generator": lambda plain, arrays: plain["bags"][0].update(rng={"bit_generator": "MT19937"}),
    "field": lambda plain, arrays: plain.update(trail=[{"row": 1}]),
    "value": lambda plain, arrays: plain.update(notes=[{"name": 1, "at": None, "sums": None}]),
    "list": lambda plain, arrays: plain.update(notes=3),
    "nothing": lambda plain, arrays: plain.update(trail=[None]),
}


@pytest.mark.parametrize("spoil", WAYS.values(), ids=[*WAYS])
def test_what_does_not_fit_is_refused_with_the_reason(spoil):
    arrays = {}
    plain = freeze(Stream(), arrays)
    spoil(plain, arrays)
    with pytest.raises(PackageError, match="this is not a stream: "), reading("stream"):
        thaw(Stream(), plain, arrays)


def test_what_is_not_bytes_and_what_is_of_another_kind_say_so():
    for given_, kind in (("state.npz", "str"), (80, "int"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"a thing is bytes, not {kind}"):
            unpack(SCHEMA, given_, "thing")
    with pytest.raises(PackageError, match="'other/1', another kind or version"):
        unpack(SCHEMA, pack("other/1", {}, {}), "thing")
