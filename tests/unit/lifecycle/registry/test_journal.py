"""The log of a registry: read in few looks, written once by whoever is first, and what stands in its way."""

from __future__ import annotations

import os
import threading
import time

import pytest
from helpers.churn import ALL_VERSIONS, Counting, file_of, log_of

import modelkit as mk
from modelkit.errors import Conflict, RegistryError
from modelkit.lifecycle.registry import journal as journals
from modelkit.lifecycle.registry.log import KEPT_EVERY


def test_what_a_dead_writer_left_is_removed_by_a_later_one(released, tmp_path):
    """And not what another one may still be writing, nor what is not of a released."""
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
    monkeypatch.setattr(journals, "PAUSE", None)  # who waits fails
    log_of(released, 2).symlink_to("/nowhere/at/all")
    with pytest.raises(RegistryError, match=r"log/0000000002 is taken"):
        released.set_alias("churn", "b", "1.0.0", expected=None, reason="x")


class Unseen:
    """A store, of which an NFS client does not see the newest file yet."""

    def __init__(self, store):
        self.store = store

    def create(self, name, data):
        return not name.endswith("log/0000000002") and self.store.create(name, data)

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_a_file_that_cannot_be_seen_yet_is_waited_for(released, monkeypatch):
    monkeypatch.setattr(journals, "UNSEEN", 0.05)
    released._journal("churn")._store = Unseen(released._store)
    with pytest.raises(RegistryError, match=r"log/0000000002 is taken"):
        released.set_alias("churn", "b", "1.0.0", expected=None, reason="x")


class Full:
    """A store on a disk on which there is no room for states."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)

    def create(self, name, data):
        if "/states/" in name:
            raise OSError(28, "No space left on device")
        return self.store.create(name, data)


def test_a_state_that_cannot_be_kept_is_no_failure_of_the_change(released):
    """The alias was changed, and the writer was told that it was not."""
    full = mk.Registry(released.url)
    full._store = Full(full._store)
    for i in range(2 * KEPT_EVERY):
        full.set_alias("churn", f"a{i}", "1.0.0", expected=None, reason="x")
    assert mk.Registry(released.url).generation("churn") == 2 * KEPT_EVERY + 1


def test_a_long_log_is_opened_in_a_few_reads(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    for i in range(3 * KEPT_EVERY + 3):
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
    assert cold._store.asked <= KEPT_EVERY + 3
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
