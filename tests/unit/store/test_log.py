"""A log is a pure fold over entries: each is appended once, and every reader comes to the same state."""

from __future__ import annotations

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.examples import examples
from helpers.stores import Memory, Troubled
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.errors import RegistryError
from modelkit.store import open_store
from modelkit.store import sequence as sequences
from modelkit.store.log import Log, read_entry, write_entry
from modelkit.store.sequence import Sequence

TROUBLES = st.lists(st.sampled_from(["none", "lost", "rival", "hidden"]), max_size=20)


@dataclass(frozen=True)
class Name:
    """An entry that adds a name."""

    generation: int
    previous: str
    id: str
    name: str


@dataclass(frozen=True)
class Names:
    """What holds: all names."""

    generation: int = 0
    last: str = ""
    names: tuple[str, ...] = ()

    def after(self, entry):
        return Names(entry.generation, entry.id, (*self.names, entry.name))

    def contradiction(self, stated, entry):
        return "" if stated == self else "names"


class NamesLog:
    """A log of names, as lists of them."""

    def __init__(self, store):
        self.log = Log(Sequence(store, "log"), Name, Names())

    def append(self, decide):
        return self.log.append(lambda state: {"name": decide([*state.names])}).name

    def state(self):
        return [*self.log.state().names]

    def entries(self):
        return tuple(entry.name for entry in self.log.entries())

    def check(self):
        self.log.check()

    @property
    def gone(self):
        return self.log.gone


IDS = itertools.count()
log_in = NamesLog


def forget_what_it_states(store, number):
    """As an entry of which nobody can read what holds after it."""
    path = f"log/{number:010d}"
    plain = json.loads(store.files[path])
    store.files[path] = json.dumps(plain | {"state": None}).encode()


def entry_after(state, name):
    """The file of the next entry."""
    entry = Name(state.generation + 1, state.last, f"{name} {next(IDS)}", name)
    return write_entry(entry, state.after(entry))


def state_of(data, number):
    return read_entry(Name, Names, data, number, "")[1]


class Troubles(Troubled):
    """A store where others append to the same log."""

    def rival(self, name, count):
        number = int(name[-10:]) - 1
        before = self.files.get(f"log/{number:010d}")
        return entry_after(state_of(before, number) if before else Names(), f"rival {count}")


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
    kept = [log_in(store) for number in range(3)]
    names = []
    for number, (act, which, is_new) in enumerate(turns):
        log = log_in(store) if is_new or which == 0 else kept[which]
        if act == "a":
            log.append(lambda state, name=str(number): name)
            names.append(str(number))
            if which == 0:
                forget_what_it_states(store, len(names))
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
    for number, name in enumerate(names, 1):
        log_in(store).append(lambda state, name=name: name)
        if number != 4:
            forget_what_it_states(store, number)
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
    for look in (NamesLog.state, NamesLog.entries, lambda log: log.append(lambda state: "d")):
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
    for look in (NamesLog.check, lambda log: log.append(lambda state: "d")):
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
    for look in (NamesLog.check, lambda log: log.append(lambda state: "d")):
        with pytest.raises(
            RegistryError, match="removed, or replaced by another one, after it was"
        ):
            look(log)
    assert len(store.files) == len(names)


@pytest.mark.parametrize("names", ["", "x"], ids=["removed", "replaced"])
def test_who_wrote_an_entry_and_read_nothing_since_writes_nothing_after_another_log(names):
    """It began the log anew, as if nobody had written."""
    store = Memory()
    log = log_in(store)
    log.append(lambda state: "a")
    store.files.clear()
    for name in names:
        log_in(store).append(lambda state, name=name: name)
    with pytest.raises(RegistryError, match="removed, or replaced by another one, after it was"):
        log.append(lambda state: "b")
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
    forge(store, 3, ["forged"])
    for look in (NamesLog.state, NamesLog.entries):
        with pytest.raises(RegistryError, match="states other names"):
            look(log_in(store))
    # What older entries state is believed, until somebody asks for all of them.
    forge(store, 3, ["a", "forged", "c"])
    forge(store, 2, ["a", "forged"])
    assert log_in(store).state() == ["a", "forged", "c"]
    with pytest.raises(RegistryError, match="states other names"):
        log_in(store).entries()


def forge(store, number, names):
    """Let an entry state other names."""
    path = f"log/{number:010d}"
    plain = json.loads(store.files[path])
    plain["state"]["names"] = names
    store.files[path] = json.dumps(plain).encode()
