"""Counts that several processes write are added up, each once, whatever comes late or from where."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.examples import examples
from helpers.rollouts import ledger_on, model, next_sum, until, who
from helpers.stores import Unsure
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.lifecycle.rollout.counts import (
    ByArm,
    CompleteKey,
    Counts,
    EventCounts,
    Label,
    PostedLoss,
    read_counts,
    write_value,
)
from modelkit.lifecycle.rollout.status import progress_afar

X = np.eye(3)
LOSS = (mk.Guard("loss", margin=0.02),)
STAGES = (mk.RolloutStage(0.1, calls=1), mk.RolloutStage(0.9))
STAGED = mk.RolloutPolicy(STAGES, LOSS, tick=0.05)
GUARDS = (mk.Guard("errors", floor=0.05),)
LONG = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), GUARDS, tick=0.05)
TWO_STAGES = mk.RolloutPolicy(
    (mk.RolloutStage(0.3, calls=100), mk.RolloutStage(0.5, calls=100)),
    (mk.Guard("errors", floor=0.1),),
    tick=0.05,
)


def until_answered(work):
    """What is not answered is done again, as at the next tick."""
    while True:
        try:
            return work()
        except OSError:
            pass


def new_sums(ledger):
    """How many calls are in the sums that were not read yet."""
    calls = [each.counts.calls for each in ledger.read()]
    return sum(each.champion + each.candidate for each in calls)


@given(
    turns=st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30),
    troubles=st.lists(st.sampled_from(["none", "lost", "error", "late"]), max_size=20),
)  # fmt: skip
@settings(max_examples=examples(200), deadline=None)
def test_whatever_a_store_does_each_count_is_in_one_sum(turns, troubles):
    """Answers that are lost, that never come, and files that are seen late."""
    store = Unsure(troubles)
    processes = [ledger_on(store, f"process {number}") for number in range(3)]
    written = 0
    seen = [0, 0, 0]
    for at, (which, writes) in enumerate(turns):
        ledger = processes[which]
        if writes:
            written += at + 1
            counts = Counts(calls=ByArm(at, 1))
            until_answered(lambda ledger=ledger, counts=counts: ledger.post(0, counts))
        else:
            until_answered(lambda ledger=ledger, at=at: ledger.add_up(float(at)))
            seen[which] += new_sums(ledger)
    for _ in range(20):
        for which, ledger in enumerate(processes):
            until_answered(lambda ledger=ledger: ledger.add_up(99.0))
            seen[which] += new_sums(ledger)
    assert seen == [written] * 3
    assert new_sums(ledger_on(store)) == written


def test_losses_of_any_float_are_written(clock):
    guards = [mk.Guard("loss", margin=0.02)]
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
    )
    for i in range(4):
        who(rollout, f"k{i}")
        assert rollout.outcome(f"k{i}", np.float32(0.5))
    json.dumps(rollout._switch.session.collect(), default=write_value)


def test_late_counts_that_show_harm_roll_back_after_the_stage_has_changed(registry):
    stages = (mk.RolloutStage(0.3, calls=100), mk.RolloutStage(0.5, seconds=3600))
    policy = mk.RolloutPolicy(stages, (mk.Guard("errors"),), tick=0.05)
    underway = registry.start_rollout("m", "2", policy, reason="try")
    rollout = mk.Rollout(registry, "m", poll=0.01, threads=1)
    other = ledger_on(registry.rollout_folder("m", underway), "other")
    arms = ByArm(300, 700)
    other.post(0, Counts(calls=arms, plain=arms))
    until(lambda: rollout.status().stage == 2)
    other.post(0, Counts(arms, arms, events={"errors": EventCounts(plain=ByArm(300, 0))}))
    until(lambda: not rollout.status().under_way)
    until(lambda: registry.state("m").rollout is None)
    assert registry.history("m")[-1].about["decision"] == "rollback"
    rollout.close()


def test_a_sum_from_the_future_stops_nothing(registry):
    stages = (mk.RolloutStage(0.5, seconds=3600),)
    policy = mk.RolloutPolicy(stages, (mk.Guard("errors"),), tick=0.05)
    underway = registry.start_rollout("m", "2", policy, reason="try")
    other = ledger_on(registry.rollout_folder("m", underway), "a machine with another clock")
    other.post(0, Counts(calls=ByArm(1, 1), plain=ByArm(1, 1)))
    other.add_up(1e6)
    rollout = mk.Rollout(registry, "m", poll=0.01, threads=1)
    rollout.run(np.eye(3))
    until(lambda: sum(rollout.status().calls) == 3)
    rollout.close()


class Files:
    """The files of a rollout, in memory: those of a Subfolder."""

    def __init__(self):
        self.files = {}

    def create(self, name, data):
        return self.files.setdefault(name, data) == data

    def read(self, name):
        return self.files.get(name)

    def names(self, folder, after=""):
        found = (name.rsplit("/", 1)[1] for name in self.files if name.startswith(folder))
        return sorted(name for name in found if name > after)

    def folders(self, folder):
        return sorted({name.split("/")[1] for name in self.files if name.startswith(folder)})


def all_sums(files, most):
    """The sums that are made of files, in their order."""
    found = []
    for number in range(most):
        shared = ledger_on(files, f"reader {number}")
        sums = []
        while (one := next_sum(shared)) is not None:
            sums.append(one)
        found = sums
        shared.add_up(float(number))
    return found


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=12))
@settings(max_examples=examples(50), deadline=None)
def test_every_file_is_in_one_sum_whatever_its_stage(written):
    """A job may write what it read of a stage after another one has written of the next."""
    files = Files()
    writers = {name: ledger_on(files, name) for name in "abc"}
    for number, (name, stage) in enumerate(written):
        writers[name].post(stage, Counts(posted=(PostedLoss(0.5, number),)))
    counted = defaultdict(list)
    sums = all_sums(files, len(written) + 2)
    assert all(one.counts != Counts() for one in sums)
    for one in sums:
        for posted in one.counts.posted:
            assert written[posted.key][1] == one.stage
            counted[written[posted.key][0]].append(posted.key)
    for name in "abc":
        assert counted[name] == [at for at, (writer, _) in enumerate(written) if writer == name]


def test_many_losses_are_added_up_in_parts(monkeypatch):
    """A sum is parsed at once, and no call is answered meanwhile."""
    monkeypatch.setattr("modelkit.lifecycle.rollout.ledger.MOST_LOSSES", 20)
    files = Files()
    labels = ledger_on(files, "labels")
    for start in range(0, 100, 10):
        labels.post_beside(Counts(posted=tuple(PostedLoss(0.5, start + i) for i in range(10))))
    sums = all_sums(files, 10)
    assert [len(one.counts.posted) for one in sums] == [20] * 5


def test_a_slow_job_of_the_stage_before_holds_up_no_rollout(registry):
    """One job posted by what it read before the stage changed, and another one was faster."""
    rollout = registry.start_rollout("m", "2", STAGED, reason="try")
    labels = ledger_on(registry.rollout_folder("m", rollout), "labels")
    number = itertools.count()
    with mk.Rollout(registry, "m", poll=1e-3, threads=1) as served:

        def in_second_stage():
            served.predict(X[:1], key=f"first {next(number)}")
            return registry.state("m").rollout.stage == 1

        until(in_second_stage)
        for stage, key in ((1, 1), (0, 2)):
            labels.rollout = replace(rollout, stage=stage)
            labels.post_beside(Counts(posted=(PostedLoss(0.5, key),)))

        def decided():
            for _ in range(20):
                key = f"second {next(number)}"
                served.outcome(key, 0.1 if served.predict(X[:1], key=key)[0] < 1.5 else 0.9)
            return registry.state("m").rollout is None

        until(decided)
    assert registry.history("m")[-1].reason == "loss: the candidate is shown to be worse"


HASHES = st.integers(0, 2**64 - 1)


UNITS = st.lists(st.tuples(HASHES, st.booleans()), max_size=3).map(tuple)


ARMS = st.builds(ByArm, st.integers(0, 99), st.integers(0, 99))


SHARES = st.dictionaries(st.sampled_from(["errors", "slow:50"]), st.floats(0, 1), max_size=2)


COUNTS = st.builds(
    Counts,
    calls=ARMS,
    plain=ARMS,
    keys=UNITS,
    done=st.lists(st.builds(CompleteKey, HASHES, st.booleans(), SHARES), max_size=2).map(tuple),
    events=st.dictionaries(
        st.sampled_from(["errors", "slow:50"]),
        st.builds(EventCounts, ARMS, UNITS, ARMS).filter(
            lambda happened: happened != EventCounts()
        ),
        max_size=2,
    ),
    shadowed=st.integers(0, 9),
    labels=st.lists(
        st.builds(Label, st.floats(0, 1), HASHES, st.booleans(), st.integers(0, 3)), max_size=3
    ).map(tuple),
)


@given(COUNTS)
def test_counts_are_written_and_read(counts):
    assert read_counts(json.loads(json.dumps(counts, default=write_value))) == counts


def counted(number, stage=0):
    arms = ByArm(number, 2 * number)
    return stage, Counts(calls=arms, plain=arms)


def test_every_count_is_in_one_sum(registry):
    folder = registry.rollout_folder("m", registry.start_rollout("m", "2", LONG, reason="try"))
    one, other = ledger_on(folder, "one"), ledger_on(folder, "other")
    one.add_up(1.0)
    assert next_sum(one) is None  # nothing was counted
    one.post(*counted(1))
    other.post(*counted(10))
    other.post(*counted(100))
    one.add_up(2.0)
    other.add_up(3.0)  # it comes too late
    sums = [next_sum(shared) for shared in (one, other)]
    assert sums[0] == sums[1]
    assert (sums[0].at, sums[0].counts.calls) == (2.0, ByArm(111, 222))
    one.post(*counted(1000, stage=1))
    other.post(*counted(5))
    other.add_up(4.0)
    other.add_up(5.0)
    early = next_sum(other)
    assert (early.stage, early.counts.calls.candidate) == (0, 5)
    other.add_up(6.0)
    late = next_sum(other)
    assert (late.stage, late.counts.calls.candidate) == (1, 1000)
    third = ledger_on(folder, "a process that starts later")
    assert [next_sum(third) for _ in range(4)] == [sums[0], early, late, None]


def file_at(registry, rollout, name, data):
    path = Path(registry.rollout_folder("m", rollout).path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        os.mkfifo(path)
    elif isinstance(data, bytes):
        path.write_bytes(data)
    else:
        path.write_text(json.dumps(data))


def of(**counts):
    return {"stage": 0, "counts": counts}


UNREADABLE = [
    (b'{"stage": 0, "cou', "Unterminated string"),
    (b"", "Expecting value"),
    (b"\xff", "can't decode byte"),
    (b"[" * 100_000, "recursion"),
    (b'{"stage": 0, "stage": 0, "counts": {}}', "a key appears twice"),
    (b'{"stage": 0, "counts": {"differences": [NaN]}}', "NaN is not JSON"),
    ([], "list indices"),
    ({"counts": {}}, "it lacks 'stage'"),
    ({"stage": 7, "counts": {}}, "the rollout has 1 stages, and not 8"),
    ({"stage": -1, "counts": {}}, "a count is a whole number from 0"),
    ({"stage": True, "counts": {}}, "a count is a whole number from 0"),
    (of(calls="x"), "ByArm has 2 values"),
    (of(calls=[-1, 5]), "a count is .*, not -1"),
    (of(calls=[1.5, 5]), "a count is .*, not 1.5"),
    (of(calls=[1 << 60, 5]), "a count is "),
    (of(shadowed=-3), "a count is .*, not -3"),
    (of(events={"errors": [[0, 0], [[1, 2]], [0, 0]]}), "an arm is true or false, not 2"),
    (of(events={"errors": [[0, 0], [[1 << 64, 1]], [0, 0]]}), "a count is "),
    (of(labels=[[2, 1, True, 0]]), "a loss is a number from 0 to 1, not 2"),
    (of(labels=[[0.5, 1, True, 3]]), "the rollout has 1 stages, and not 4"),
    (of(done=[[1, True, {"errors": -0.5}]]), "a loss is a number from 0 to 1, not -0.5"),
    (of(differences=[-2]), "a loss is a number from -1 to 1, not -2"),
    (of(missing=[1]), "a name is a text, not 1"),
    (None, "is a pipe"),
]


@pytest.mark.parametrize(("data", "told"), UNREADABLE, ids=[told for _, told in UNREADABLE])
def test_an_unreadable_file_is_left_out_and_told_and_stops_no_guard(registry, data, told):
    rollout = registry.start_rollout("m", "2", LONG, reason="try")
    folder = registry.rollout_folder("m", rollout)
    file_at(registry, rollout, "counts/aaaa/0000000001", data)
    whole = {"at": 0, "upto": {}} | data if isinstance(data, dict) else data
    file_at(registry, rollout, "sums/0000000001", whole)
    one = ledger_on(folder, "aaaa", 1, 0)
    folder.create("counts/aaaa/0000000002", json.dumps(of(calls=[1, 2])).encode())
    first = next_sum(one)
    assert first.counts == Counts()
    assert re.search(f"^sums/0000000001 cannot be read.*{told}", first.left_out[0])
    assert one.add_up(1.0) == []
    found = next_sum(one)
    assert found.counts == Counts(calls=ByArm(1, 2))  # what came after it
    assert re.search(f"^counts/aaaa/0000000001 cannot be read.*{told}", found.left_out[0])
    assert one.add_up(2.0) == []
    assert next_sum(one) is None  # it is told once
    assert any("aaaa/0000000001" in note for note in progress_afar(registry, "m").notes)


def test_counts_that_a_store_does_not_give_now_wait_and_those_of_others_do_not(registry):
    folder = registry.rollout_folder("m", registry.start_rollout("m", "2", LONG, reason="try"))
    for process in ("one", "other"):
        ledger_on(folder, process).post(*counted(1))
    shared = ledger_on(folder, "reader")
    read = folder.read

    def fails(name):
        if "counts/one" in name:
            raise OSError("the disk answers later")
        return read(name)

    folder.read = fails
    assert shared.add_up(1.0) == ["counts/one cannot be read now, and waits: OSError"]
    assert next_sum(shared).counts.calls == ByArm(1, 2)
    folder.read = read
    assert shared.add_up(2.0) == []
    assert next_sum(shared).counts.calls == ByArm(1, 2)


def test_counts_of_a_later_stage_wait_until_it_has_begun(registry):
    folder = registry.rollout_folder(
        "m", registry.start_rollout("m", "2", TWO_STAGES, reason="try")
    )
    shared = ledger_on(folder, "one", 2, 0)
    shared.post(*counted(1, stage=1))
    shared.post(*counted(10))
    shared.add_up(1.0)
    assert next_sum(shared) is None  # of one process, in their order
    shared.rollout.stage = 1
    shared.add_up(2.0)
    assert (found := next_sum(shared)).stage == 1
    assert found.counts.calls == ByArm(1, 2)


def test_of_many_that_add_up_at_once_one_does(registry):
    folder = registry.rollout_folder("m", registry.start_rollout("m", "2", LONG, reason="try"))
    total = [0] * 6

    def work(place):
        shared = ledger_on(folder, str(place))
        for number in range(1, 21):
            shared.post(*counted(number))
            while next_sum(shared) is not None:
                pass
            shared.add_up(float(number))
        total[place] = sum(range(1, 21))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = ledger_on(folder, "reader")
    found = 0
    while True:
        while (each := next_sum(reader)) is not None:
            found += each.counts.calls.candidate
        if found == sum(total):
            break
        reader.add_up(99.0)
    assert found == 6 * 210
