"""The log of a registry: written by another modelkit, in a few looks, by threads, and what a caller expects of it."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest
from helpers.churn import ALL_VERSIONS, Counting, Record, file_of, log_of

import modelkit as mk
from modelkit.errors import Conflict, RegistryError
from modelkit.lifecycle.registry.log import KINDS, Entry, State
from modelkit.lifecycle.registry.rules import check_expected
from modelkit.store import sequence
from modelkit.store.log import after, read_entry, write_entry


def test_entries_of_a_newer_modelkit_are_read_over(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    (entry,) = registry.history("churn")
    state = registry.state("churn")
    plain = json.loads(write_entry(entry, state))
    newer = plain | {"generation": 2, "kind": "frozen", "until": "2027", "previous": entry.id}
    assert registry._store.create("models/churn/log/0000000002", json.dumps(newer).encode())
    assert registry.aliases("churn")["champion"].version == "1.0.0"
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate")
    assert [entry.kind for entry in registry.history("churn")] == ["alias", "frozen", "alias"]
    assert read_entry(Entry, State, write_entry(entry, state), 1, "here") == (entry, state)
    for broken in (b"", b"[]", b"{", b'{"generation": 1}'):
        with pytest.raises(RegistryError, match="here"):
            read_entry(Entry, State, broken, 1, "here")


def test_expectations_are_checked_as_a_table():
    with pytest.raises(Conflict):
        check_expected(State(), "champion", 3, "churn")
    check_expected(State(), "champion", None, "churn")


def test_what_a_newer_modelkit_states_is_believed_and_what_cannot_be_read_is_left_out(registry):
    """By those who open the log and by those who follow it."""
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    state = registry.state("churn")
    alias = state.aliases["champion"]
    entry = Entry(2, "copied", "", "", "", "1.1.0", alias="second", id="x", previous=state.last)
    newer = State(2, {**state.aliases, "second": alias}, last="x")
    plain = json.loads(write_entry(entry, newer))
    plain["state"]["until"] = "2027"
    log_of(registry, 2).write_text(json.dumps(plain))
    for reader in (registry, mk.Registry(registry.url)):
        assert reader.state("churn") == newer
    for broken in ({}, None, [], plain["state"] | {"generation": 1}, plain["state"] | {"last": ""}):
        data = json.dumps(plain | {"state": broken}).encode()
        assert read_entry(Entry, State, data, 2, "here") == (entry, None)
    assert after(state, entry, None).aliases == state.aliases


def test_entries_state_what_they_come_to(released):
    released.set_alias("churn", "old", "1.0.0", expected=None, reason="x")
    released.start_rollout("churn", "1.1.0", Record(), reason="try")
    released.decide_rollout("churn", released.state("churn").rollout, "rollback", reason="worse")
    released.retire("churn", "1.1.0", reason="worse")
    state = State()
    entries = released.history("churn")
    for number, entry in enumerate(entries, 1):
        state = state.after(entry)
        assert read_entry(Entry, State, log_of(released, number).read_bytes(), number, "") == (
            entry,
            state,
        )
    assert state == released.state("churn") == mk.Registry(released.url).state("churn")
    assert {entry.kind for entry in entries} == KINDS - {"named"}


def test_a_log_of_entries_that_state_nothing_opens(released):
    """As those that were written before entries stated what holds."""
    for number in range(9):
        released.set_alias("churn", f"a{number}", "1.0.0", expected=None, reason="x")
    for number in range(1, 11):
        path = log_of(released, number)
        plain = json.loads(path.read_text())
        del plain["state"]
        path.chmod(0o644)
        path.write_text(json.dumps(plain, indent=1, sort_keys=True))
    cold = mk.Registry(released.url)
    assert cold.state("churn") == released.state("churn")
    cold.set_alias("churn", "b", "1.0.0", expected=None, reason="x")
    assert mk.Registry(released.url).generation("churn") == 11
    assert len(cold.history("churn")) == 11


def test_what_a_dead_writer_left_is_removed_by_a_later_one(released):
    """And not what another one may still be writing, nor what is not of a registry."""
    names = [f".{'a' * 32}.tmp", f".{'b' * 32}.tmp", ".x.tmp"]
    left, written, foreign = (file_of(released, f"models/churn/log/{name}") for name in names)
    for path in (left, written, foreign):
        path.write_text("x")
    for path in (left, foreign):
        os.utime(path, (time.time() - 90_000,) * 2)
    mk.Registry(released.url).set_alias("churn", "old", "1.0.0", expected=None, reason="r")
    assert [path.exists() for path in (left, written, foreign)] == [False, True, True]


def test_a_name_that_is_taken_by_nothing_that_can_be_read_is_told(released, monkeypatch):
    """A link that leads nowhere, where a writer waited for a minute and a half."""
    monkeypatch.setattr(sequence, "PAUSE", None)  # who waits fails
    log_of(released, 2).symlink_to("/nowhere/at/all")
    with pytest.raises(RegistryError, match=r"log/0000000002 is taken"):
        released.set_alias("churn", "b", "1.0.0", expected=None, reason="x")


def test_a_long_log_is_opened_in_a_few_reads(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    for i in range(27):
        registry.set_alias(
            "churn",
            "champion",
            ALL_VERSIONS[(i + 1) % 2],
            expected=ALL_VERSIONS[i % 2],
            reason="to and fro",
        )
    cold = mk.Registry(registry.url)
    cold._store = Counting(cold._store)
    assert cold.aliases("churn") == registry.aliases("churn")
    assert cold._store.asked <= 4
    cold._store.asked = 0
    assert cold.generation("churn") == registry.generation("churn")
    assert cold._store.asked == 1  # news cost one look


def test_threads_of_one_registry_lose_nothing(registry):
    registry.set_alias("churn", "count", "1.0.0", expected=None, reason="0")
    conflicts = []

    def count():
        done = 0
        while done < 15:
            now = registry.aliases("churn")["count"]
            number = int(now.reason)
            try:
                registry.set_alias(
                    "churn", "count", "1.0.0", expected=now.generation, reason=str(number + 1)
                )
                done += 1
            except Conflict:
                conflicts.append(number)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.aliases("churn")["count"].reason == "60"
    assert registry.generation("churn") == 61
