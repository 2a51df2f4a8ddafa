"""The log of retrainings is a pure fold: only the last claim adds, whatever a store does to its writers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from helpers.examples import examples
from helpers.stores import Troubled
from hypothesis import given, settings
from hypothesis import strategies as st

from modelkit.lifecycle.retrain.log import (
    CLAIM,
    END,
    KINDS,
    LEFT,
    REFUSED,
    STEPS,
    Retrainings,
    RunEntry,
    StepResults,
)
from modelkit.lifecycle.retrain.records import NotAllowed, RunRecords
from modelkit.lifecycle.retrain.run import RetrainRun
from modelkit.store import sequence
from modelkit.store.log import after as after_entry
from modelkit.store.log import read_entry, write_entry

HOLDERS = 3
ACTS = st.lists(
    st.tuples(
        st.integers(0, HOLDERS - 1), st.sampled_from(["claim", "step", "leave", "end", "refuse"])
    ),
    max_size=25,
)
TROUBLES = st.lists(st.sampled_from(["none", "lost", "rival", "hidden"]), max_size=20)
DAY = 86_400.0


class Store(Troubled):
    """A store where somebody else refuses a retraining in the same moment."""

    def folders(self, folder):
        return []

    def remove(self, name):
        del self.files[name]

    def rival(self, name, count):
        number = int(name[-10:])
        before = self.files.get(f"log/{number - 1:010d}")
        state = Retrainings()
        if before is not None:
            state = read_entry(RunEntry, Retrainings, before, number - 1, "")[1]
        run = RetrainRun("m", 0, "refused", "busy", f"rival {count}", float(number))
        id_ = f"rival {count}"
        entry = RunEntry(number, REFUSED, float(number), "rival", id_, state.last, run=run)
        return write_entry(entry, state.after(entry))


class Holder:
    """Somebody who does retrainings, and may not know that another one took over."""

    def __init__(self, store):
        registry = SimpleNamespace(retraining_folder=lambda name: store, history=lambda name: ())
        self.records = RunRecords(registry, "m")
        self.own = None

    def act(self, what, now):
        """What is added; None where that is not allowed."""
        records, own = self.records, self.own
        try:
            if what == "claim":
                state = records.state()
                if state.open is None:
                    run = RetrainRun("m", state.number + 1, "running", "x", "", now)
                    self.own = records.begin(run, 1, 60.0)
                else:
                    self.own = records.take_over(state.open, now, 60.0)
            elif what == "refuse":
                refusal = RetrainRun("m", 0, "refused", f"at {now}", "", now)
                records.refuse(refusal, 1, every=0.0)
            elif own is None:
                return
            elif what == "step":
                results = StepResults(version=f"v{len(own.run.steps)}")
                step = STEPS[len(own.run.steps) % len(STEPS)]
                self.own = records.add(own, step, now, text="", results=results)
            elif what == "leave":
                records.add(own, LEFT, now)
            else:
                records.end(own, own.ended("blocked", "", now))
        except NotAllowed:
            self.own = None


@given(acts=ACTS, troubles=TROUBLES)
@settings(max_examples=examples(150), deadline=None)
def test_only_the_last_claim_adds_and_every_reader_comes_to_the_same(acts, troubles):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence, "PAUSE", 0.0)
        store = Store(troubles)
        holders = [Holder(store) for _ in range(HOLDERS)]
        for now, (who, what) in enumerate(acts):
            holders[who].act(what, float(now))
        fresh = RunRecords(holders[0].records.registry, "m")
        assert all(each.records.state() == fresh.state() for each in holders)
        entries = fresh._log.entries()
    state = Retrainings()
    claim = None
    for entry in entries:
        if entry.kind in (*STEPS, LEFT, END):
            assert state.open.claim == claim
        before, state = state, state.after(entry)
        if entry.kind == CLAIM:
            assert state.open.number == (before.open.number if before.open else before.number + 1)
            assert entry.claim == (before.open.claim.claim + 1 if before.open else 1)
            claim = entry
        stated = read_entry(
            RunEntry, Retrainings, store.files[f"log/{entry.generation:010d}"], entry.generation, ""
        )[1]
        assert stated == state
    assert state == fresh.state()
    assert {entry.kind for entry in entries} <= KINDS


def state_after(*runs):
    state = Retrainings()
    for number, (at, outcome) in enumerate(runs, 1):
        begun = RetrainRun("m", number, "running", "x", "", at)
        for kind, run in ((CLAIM, begun), (END, RetrainRun("m", number, outcome, "x", "", at))):
            entry = RunEntry(
                state.generation + 1, kind, at, "me", f"{kind} {number}", state.last, run
            )
            state = state.after(entry)
    return state


def test_the_state_holds_the_retrainings_that_a_rule_looks_at_and_no_more():
    """Those since the last promotion, and those of the 30 days in which a budget counts."""
    months = [(30 * DAY * number, "promoted") for number in range(50)]
    assert [run.number for run in state_after(*months).ended] == [50]
    row = state_after(*months[:3], *[(at + 100 * DAY, "blocked") for at, _ in months[:4]])
    assert [run.number for run in row.ended] == [3, 4, 5, 6, 7]
    days = state_after(*[(DAY * number, "promoted") for number in range(50)])
    assert [run.number for run in days.ended] == list(range(21, 51))
    assert days.number == 50


def test_an_entry_of_a_newer_modelkit_changes_nothing_and_is_believed():
    state = state_after((0.0, "promoted"))
    entry = RunEntry(3, "paused", 1.0, "me", "x", state.last)
    after = state.after(entry)
    assert (after.ended, after.open, after.generation) == (state.ended, None, 3)
    other = Retrainings(3, "x")
    assert after_entry(state, entry, other) == other
