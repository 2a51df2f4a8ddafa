"""A log is a pure fold over entries: each is appended once, and every reader comes to the same state."""

from __future__ import annotations

import json
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
from modelkit.store.log import Log
from modelkit.store.sequence import Sequence

TROUBLES = st.lists(st.sampled_from(["none", "lost", "rival", "hidden"]), max_size=20)


def entry_file(name, state, states=True):
    plain = {"name": name, "state": state} if states else {"name": name}
    return json.dumps(plain).encode()


def read(data, number, where):
    """An entry is a name."""
    plain = json.loads(data)
    return plain["name"], plain.get("state")


def follow(state, name, stated):
    """What holds is the list of names."""
    after = [*state, name]
    if stated not in (None, after):
        raise RegistryError(f"{name} states {stated}, and not {after}")
    return after


def log_in(store, states=True):
    """A log of names; with `states`, entries state what holds after them."""
    write = lambda name, state: entry_file(name, state, states)  # noqa: E731
    return Log(Sequence(store, "log"), [], read=read, write=write, follow=follow)


class Troubles(Troubled):
    """A store where others append to the same log."""

    def rival(self, name, count):
        before = self.files.get(f"log/{int(name[-10:]) - 1:010d}", b'{"state": []}')
        rival = f"rival {count}"
        return entry_file(rival, [*json.loads(before)["state"], rival])


class Counted(Memory):
    """A store that counts what is read and listed."""

    asked = 0

    def read(self, name, most=0):
        self.asked += 1
        return super().read(name)

    def names(self, folder, after=""):
        self.asked += 1
        return super().names(folder, after)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """A file that cannot be seen is looked for again at once."""
    monkeypatch.setattr(sequences, "PAUSE", 0.0)


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    return Memory() if request.param == "memory" else open_store(tmp_path / "kept")


def test_what_holds_is_what_all_entries_come_to(store):
    log = log_in(store)
    assert (log.state(), log.entries(), log.gone) == ([], (), False)
    added = [log.append(lambda state, name=name: f"{name}{len(state)}") for name in "abc"]
    assert log.state() == log_in(store).state() == added == ["a0", "b1", "c2"]
    assert log.entries() == ("a0", "b1", "c2")


@given(st.lists(st.tuples(st.sampled_from("ar"), st.integers(0, 2), st.booleans()), max_size=20))
@settings(max_examples=examples(200), deadline=None)
def test_readers_and_writers_in_turn_come_to_the_same_state(turns):
    """Whenever each of them read, whether it has read before, and whether entries state what holds."""
    store = Memory()
    kept = [log_in(store, states=number > 0) for number in range(3)]
    names = []
    for number, (act, which, is_new) in enumerate(turns):
        log = log_in(store, states=which > 0) if is_new else kept[which]
        if act == "a":
            log.append(lambda state, name=str(number): name)
            names.append(str(number))
        assert log.state() == names
    assert all(log.state() == names for log in kept)
    assert log_in(store).entries() == tuple(names)


@given(TROUBLES)
@settings(max_examples=examples(300), deadline=None)
def test_whatever_a_store_does_each_entry_is_there_once(troubles):
    store = Troubles(troubles)
    log = log_in(store)
    names = [f"entry {number}" for number in range(8)]
    for name in names:
        assert log.append(lambda state, name=name: name) == name
    rivals = [json.loads(data)["name"] for data in store.rivals]
    assert sorted(log.state()) == sorted([*names, *rivals])
    assert [name for name in log.state() if name in names] == names
    assert log.entries() == tuple(log.state()) == tuple(log_in(store).state())


def test_who_was_not_first_decides_anew():
    """And may refuse: what `decide` raises is raised, and nothing is written."""
    store = Troubles(["rival"])
    asked = []

    def decide(state):
        asked.append(state)
        if state:
            raise ValueError("too late")
        return "mine"

    with pytest.raises(ValueError, match="too late"):
        log_in(store).append(decide)
    assert asked == [[], ["rival 0"]]
    assert log_in(store).entries() == ("rival 0",)


def test_threads_of_one_log_lose_nothing(store):
    log = log_in(store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: log.append(lambda state: f"{number} {len(state)}"), range(60)))
    assert [name.split()[1] for name in log.state()] == [str(number) for number in range(60)]
    assert {int(name.split()[0]) for name in log.state()} == {*range(60)}


def test_a_long_log_is_opened_in_a_few_reads_and_news_cost_one():
    store = Counted()
    log = log_in(store)
    for number in range(40):
        log.append(lambda state, name=str(number): name)
    names = [str(number) for number in range(40)]
    cold = log_in(store)
    store.asked = 0
    assert cold.state() == names
    assert store.asked == 4  # a listing, the last two, and the next one, which is absent
    store.asked = 0
    assert cold.state() == names
    assert store.asked == 1


def test_entries_that_do_not_state_what_holds_are_read_from_the_last_that_does():
    store = Memory()
    names = list("abcdefgh")
    for number, name in enumerate(names):
        log_in(store, states=number == 3).append(lambda state, name=name: name)
    assert log_in(store).state() == names
    for number in range(4, 9):
        del store.files[f"log/{number:010d}"]
    assert log_in(store).state() == names[:3]


def three_entries(store):
    log = log_in(store)
    for name in "abc":
        log.append(lambda state, name=name: name)
    return log


@pytest.mark.parametrize("number", [1, 2])
def test_an_entry_that_is_gone_is_named(store, number):
    three_entries(store)
    if isinstance(store, Memory):
        del store.files[f"log/{number:010d}"]
    else:
        Path(store.path(f"log/{number:010d}")).unlink()
    for look in (Log.state, Log.entries, lambda log: log.append(lambda state: "d")):
        with pytest.raises(RegistryError, match=f"entry {number} of the log is gone"):
            look(log_in(store))


def test_an_entry_that_is_lost_before_it_was_read_looks_like_no_news_but_to_a_check():
    store = Memory()
    log = log_in(store)
    log.append(lambda state: "a")
    assert log.state() == ["a"]
    other = log_in(store)
    for name in "bc":
        other.append(lambda state, name=name: name)
    del store.files["log/0000000002"]
    for look in (Log.check, lambda log: log.append(lambda state: "d")):
        with pytest.raises(RegistryError, match="entry 2 of the log is gone"):
            look(log)


@pytest.mark.parametrize("names", ["", "xyz"], ids=["removed", "replaced"])
def test_nothing_is_written_after_a_log_that_was_removed_or_replaced(names):
    store = Memory()
    log = three_entries(store)
    assert log.state() == ["a", "b", "c"]
    store.files.clear()
    for name in names:
        log_in(store).append(lambda state, name=name: name)
    for look in (Log.check, lambda log: log.append(lambda state: "d")):
        with pytest.raises(
            RegistryError, match="removed, or replaced by another one, after it was"
        ):
            look(log)
    assert len(store.files) == len(names)


def test_a_log_that_is_gone_from_a_folder_is_seen_in_a_moment(tmp_path):
    store = open_store(tmp_path / "kept")
    log = three_entries(store)
    log.state()
    assert not log.gone
    Path(store.path("log/0000000003")).unlink()
    assert log.gone


def test_an_entry_that_states_what_does_not_follow_is_an_error():
    store = Memory()
    three_entries(store)
    store.files["log/0000000003"] = entry_file("c", ["forged"])
    for look in (Log.state, Log.entries):
        with pytest.raises(RegistryError, match="states"):
            look(log_in(store))
    # What older entries state is believed, until somebody asks for all of them.
    store.files["log/0000000003"] = entry_file("c", ["a", "forged", "c"])
    store.files["log/0000000002"] = entry_file("b", ["a", "forged"])
    assert log_in(store).state() == ["a", "forged", "c"]
    with pytest.raises(RegistryError, match="states"):
        log_in(store).entries()
