"""Entries of a log that another modelkit wrote, and what a caller expects of it."""

from __future__ import annotations

import json

import pytest
from helpers.churn import log_of

from modelkit.errors import Conflict, RegistryError
from modelkit.lifecycle.registry.log import State, check_expected, read_entry, write_entry


def test_entries_of_a_newer_modelkit_are_read_over(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    (entry,) = registry.history("churn")
    plain = json.loads(write_entry(entry))
    newer = plain | {"generation": 2, "kind": "frozen", "until": "2027", "previous": entry.id}
    assert registry._store.create("models/churn/log/0000000002", json.dumps(newer).encode())
    assert registry.aliases("churn")["champion"].version == "1.0.0"
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate")
    assert [entry.kind for entry in registry.history("churn")] == ["alias", "frozen", "alias"]
    assert read_entry(write_entry(entry), "here") == entry
    for broken in (b"", b"[]", b"{", b'{"generation": 1}'):
        with pytest.raises(RegistryError, match="here"):
            read_entry(broken, "here")


def test_expectations_are_checked_as_a_table():
    with pytest.raises(Conflict):
        check_expected(State(), "champion", 3, "churn")
    check_expected(State(), "champion", None, "churn")


def edit(change):
    def work(released, number):
        path = log_of(released, number)
        path.chmod(0o644)
        path.write_text(json.dumps(json.loads(path.read_text()) | change(released)))

    return work
