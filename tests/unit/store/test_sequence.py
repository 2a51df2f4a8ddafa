"""Numbered files that are each made once: none is lost, no number is left out, and all readers see the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.examples import examples
from helpers.stores import Memory, Troubled
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.errors import RegistryError
from modelkit.store import open_store
from modelkit.store import sequence as sequences
from modelkit.store.sequence import Sequence

TROUBLES = st.lists(st.sampled_from(["none", "lost", "rival", "hidden"]), max_size=20)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "kept")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """A file that cannot be seen is looked for again at once."""
    monkeypatch.setattr(sequences, "PAUSE", 0.0)


def test_files_have_their_numbers_and_paths(store):
    sequence = Sequence(store, "models/churn/log")
    assert (sequence.last(), sequence.numbers(), [*sequence.after(0)]) == (0, [], [])
    assert [sequence.append(data) for data in (b"a", b"b", b"c")] == [1, 2, 3]
    assert store.names("models/churn/log") == ["0000000001", "0000000002", "0000000003"]
    assert [*sequence.after(1)] == [(2, b"b"), (3, b"c")]
    assert (sequence.read(2), sequence.read(4)) == (b"b", None)
    assert (sequence.last(), sequence.numbers(after=1)) == (3, [2, 3])


def test_foreign_names_have_no_number(store):
    sequence = Sequence(store, "log")
    sequence.append(b"a")
    for name in ("readme.txt", "7", "00000000010", "0000000009.bak"):
        store.create(f"log/{name}", b"x")
    assert sequence.numbers() == [1]


def test_equal_content_is_one_file(store):
    """The same gate again is the same use of a hold-out."""
    sequence = Sequence(store, "uses")
    assert [sequence.append(use) for use in (b"a", b"b", b"a", b"c", b"b")] == [1, 2, 1, 3, 2]
    assert sequence.append(b"a", after=1) == 4  # of those behind a number


@given(TROUBLES)
@settings(max_examples=examples(300), deadline=None)
def test_whatever_a_store_does_each_append_is_there_once(troubles):
    store = Troubled(troubles)
    sequence = Sequence(store, "log")
    given = [b"entry %d" % number for number in range(8)]
    numbers = [sequence.append(data) for data in given]
    for number, data in zip(numbers, given, strict=True):
        assert sequence.read(number) == data
    assert numbers == sorted(set(numbers))
    assert sequence.numbers() == [*range(1, len(given) + len(store.rivals) + 1)]
    files = [data for _, data in sequence.after(0)]
    assert sorted(files) == sorted([*given, *store.rivals])


@given(st.lists(st.sampled_from("abc"), max_size=12))
@settings(max_examples=examples(100), deadline=None)
def test_writers_in_turn_leave_no_gap(turns):
    """Whatever each of them has read before."""
    store = Memory()
    writers = {name: Sequence(store, "log") for name in "abc"}
    written = [b"%d" % at for at, _ in enumerate(turns)]
    numbers = [writers[name].append(data) for name, data in zip(turns, written, strict=True)]
    assert numbers == [*range(1, len(turns) + 1)]
    assert [data for _, data in writers["a"].after(0)] == written


def test_threads_lose_nothing(store):
    def write(writer):
        sequence = Sequence(store, "log")
        last = 0
        for number in range(60):
            last = sequence.append(b"%d %d" % (writer, number), after=last)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    files = [*Sequence(store, "log").after(0)]
    assert [number for number, _ in files] == [*range(1, 241)]
    assert {data for _, data in files} == {b"%d %d" % (i, n) for i in range(4) for n in range(60)}


@pytest.mark.parametrize("trouble", ["rival", "hidden"])
def test_a_file_that_cannot_be_seen_yet_is_waited_for_where_it_is_to_be_read(trouble):
    sequence = Sequence(Troubled([trouble]), "log")
    assert not sequence.put(1, b"a")
    assert sequence.read(1) == b"rival 0"


def test_who_only_creates_waits_for_nothing(monkeypatch):
    monkeypatch.setattr(sequences, "PAUSE", None)  # who waits fails
    sequence = Sequence(Troubled(["hidden"]), "sums")
    assert not sequence.create(1, b"a")
    assert sequence.create(2, b"a")


def test_a_name_that_is_taken_for_ever_is_an_error_after_a_while(monkeypatch):
    monkeypatch.setattr(sequences, "UNSEEN", -1.0)
    with pytest.raises(RegistryError, match=r"the name log/0000000001 is taken"):
        Sequence(Troubled(["hidden"]), "log").put(1, b"a")


def test_a_link_that_leads_nowhere_is_not_waited_for(store, monkeypatch):
    monkeypatch.setattr(sequences, "PAUSE", None)  # who waits fails
    sequence = Sequence(store, "log")
    sequence.append(b"a")
    Path(store.path(sequence.path(2))).symlink_to("/nowhere/at/all")
    with pytest.raises(RegistryError, match=r"log/0000000002 is taken"):
        sequence.append(b"b")
