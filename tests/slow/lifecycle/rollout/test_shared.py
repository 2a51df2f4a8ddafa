"""Several processes run one rollout: every count is added up once, and all come to the same decision."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit import events
from modelkit.lifecycle.rollout.afar import progress_afar
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened, KeyDone, Label
from modelkit.lifecycle.rollout.shared import SharedCounts, read_counts, write_counts
from modelkit.lifecycle.rollout.trial import Trial
from modelkit.types import Underway

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
ROOM = 30
GUARDS = (mk.Guard("errors", floor=0.05),)
LONG = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), GUARDS, tick=0.05)
STAGED = mk.RolloutPolicy(
    (mk.RolloutStage(0.3, units=100), mk.RolloutStage(0.5, units=100)),
    (mk.Guard("errors", floor=0.1),),
    tick=0.05,
)


@pytest.fixture
def registry(tmp_path):
    registry = mk.Registry(tmp_path / "models")
    for i, version in enumerate(("1", "2")):
        path = tmp_path / f"{version}.mk"
        model = LogisticRegression(C=1.0 + i).fit(X, Y)
        mk.save(model, path, example=X, name="churn", version=version)
        registry.register(path)
    registry.set_alias("churn", "champion", "1", expected=None, reason="first")
    return registry


def until(condition, what="it did not happen in time"):
    end = time.monotonic() + ROOM
    while not condition():
        assert time.monotonic() < end, what


HASHES = st.integers(0, 2**64 - 1)
UNITS = st.lists(st.tuples(HASHES, st.booleans()), max_size=3).map(tuple)
ARMS = st.builds(ByArm, st.integers(0, 99), st.integers(0, 99))
SHARES = st.dictionaries(st.sampled_from(["errors", "slow:50"]), st.floats(0, 1), max_size=2)
COUNTS = st.builds(
    Counts,
    calls=ARMS,
    plain=ARMS,
    keys=UNITS,
    done=st.lists(st.builds(KeyDone, HASHES, st.booleans(), SHARES), max_size=2).map(tuple),
    events=st.dictionaries(
        st.sampled_from(["errors", "slow:50"]),
        st.builds(Happened, ARMS, UNITS, ARMS).filter(lambda happened: happened != Happened()),
        max_size=2,
    ),
    shadowed=st.integers(0, 9),
    labels=st.lists(
        st.builds(Label, st.floats(0, 1), HASHES, st.booleans(), st.integers(0, 3)), max_size=3
    ).map(tuple),
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # where other tests run beside it
@given(COUNTS)
def test_counts_are_written_and_read(counts):
    assert read_counts(json.loads(json.dumps(write_counts(counts)))) == counts


def counted(number, stage=0):
    arms = ByArm(number, 2 * number)
    return stage, Counts(calls=arms, plain=arms)


def test_every_count_is_in_one_sum(registry):
    shelf = registry.shelf("churn", registry.start_rollout("churn", "2", LONG, reason="try"))
    one, other = SharedCounts(shelf, "one"), SharedCounts(shelf, "other")
    one.add_up(1.0)
    assert one.next_sum() is None  # nothing was counted
    one.write(*counted(1))
    other.write(*counted(10))
    other.write(*counted(100))
    one.add_up(2.0)
    other.add_up(3.0)  # it comes too late
    sums = [shared.next_sum() for shared in (one, other)]
    assert sums[0] == sums[1]
    assert (sums[0].at, sums[0].counts.calls) == (2.0, ByArm(111, 222))
    one.write(*counted(1000, stage=1))
    other.write(*counted(5))
    other.add_up(4.0)
    other.add_up(5.0)
    early = other.next_sum()
    assert (early.stage, early.counts.calls.candidate) == (0, 5)
    other.add_up(6.0)
    late = other.next_sum()
    assert (late.stage, late.counts.calls.candidate) == (1, 1000)
    third = SharedCounts(shelf, "a process that starts later")
    assert [third.next_sum() for _ in range(4)] == [sums[0], early, late, None]


def file_at(registry, rollout, name, data):
    path = Path(registry.url, f"models/churn/rollouts/{rollout.generation:010d}", name)
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
    ({"counts": {}}, "it has no 'stage'"),
    ({"stage": 7, "counts": {}}, "the rollout has 1 stages, and not 8"),
    ({"stage": -1, "counts": {}}, "a count is a whole number from 0"),
    ({"stage": True, "counts": {}}, "a count is a whole number from 0"),
    (of(calls="x"), "not enough values"),
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
    rollout = registry.start_rollout("churn", "2", LONG, reason="try")
    shelf = registry.shelf("churn", rollout)
    file_at(registry, rollout, "counts/aaaa/0000000001", data)
    whole = {"at": 0, "upto": {}} | data if isinstance(data, dict) else data
    file_at(registry, rollout, "sums/0000000001", whole)
    one = SharedCounts(shelf, "aaaa", 1)
    shelf.create("counts/aaaa/0000000002", json.dumps(of(calls=[1, 2])).encode())
    first = one.next_sum()
    assert first.counts == Counts()
    assert re.search(f"^sums/0000000001 cannot be read.*{told}", first.left_out[0])
    assert one.add_up(1.0) == []
    found = one.next_sum()
    assert found.counts == Counts(calls=ByArm(1, 2))  # what came after it
    assert re.search(f"^counts/aaaa/0000000001 cannot be read.*{told}", found.left_out[0])
    assert one.add_up(2.0) == []
    assert one.next_sum() is None  # it is told once
    assert any("aaaa/0000000001" in note for note in progress_afar(registry, "churn").notes)


def test_counts_that_a_store_does_not_give_now_wait_and_those_of_others_do_not(registry):
    shelf = registry.shelf("churn", registry.start_rollout("churn", "2", LONG, reason="try"))
    for process in ("one", "other"):
        SharedCounts(shelf, process).write(*counted(1))
    shared = SharedCounts(shelf, "reader")
    read = shelf.read

    def fails(name):
        if "counts/one" in name:
            raise OSError("the disk answers later")
        return read(name)

    shelf.read = fails
    assert shared.add_up(1.0) == ["counts/one cannot be read now, and waits: OSError"]
    assert shared.next_sum().counts.calls == ByArm(1, 2)
    shelf.read = read
    assert shared.add_up(2.0) == []
    assert shared.next_sum().counts.calls == ByArm(1, 2)


def test_counts_of_a_later_stage_wait_until_it_has_begun(registry):
    shelf = registry.shelf("churn", registry.start_rollout("churn", "2", STAGED, reason="try"))
    shared = SharedCounts(shelf, "one", 2)
    shared.write(*counted(1, stage=1))
    shared.write(*counted(10))
    shared.add_up(1.0, 0)
    assert shared.next_sum() is None  # of one process, in their order
    shared.add_up(2.0, 1)
    assert (found := shared.next_sum()).stage == 1
    assert found.counts.calls == ByArm(1, 2)


@pytest.fixture
def clock(monkeypatch):
    """The clock of a Rollout, in seconds, by hand."""
    now = [0.0]
    monkeypatch.setattr(
        "modelkit.lifecycle.rollout.rollout.perf_counter_ns", lambda: int(now[0] * 1_000_000_000)
    )
    return now


def over(rollout):
    """Let a tick come to its end."""
    rollout.predict(X[:1])
    thread = rollout._follower._joined._thread
    if thread is not None:
        thread.join()


@pytest.mark.parametrize("skew", [-8 * 86400, -7200, 20, 600, 8 * 86400])
def test_the_clock_of_who_began_a_rollout_and_of_a_worker_do_not_matter(
    registry, monkeypatch, clock, skew
):
    began = (datetime.now(UTC) + timedelta(seconds=skew)).isoformat()
    stages = (mk.RolloutStage(0.5, seconds=50), mk.RolloutStage(0.9, seconds=3600))
    policy = mk.RolloutPolicy(stages, GUARDS, tick=10)
    told = []
    stop = events.subscribe(told.append, events.Noticed)
    with monkeypatch.context() as patched:
        patched.setattr("modelkit.lifecycle.registry.authors.time_now", lambda: began)
        registry.start_rollout("churn", "2", policy, reason="try")
        one = mk.Rollout(registry, "churn", poll=0.5, threads=1)
        other = mk.Rollout(registry, "churn", poll=0.5, threads=1)
    stop()
    ages = []
    for rollout in (one, other):
        rollout.predict(X[:1])  # something is counted
    for _ in range(8):
        clock[0] += 10
        for rollout in (one, other):
            over(rollout)
        ages.append(one.status().seconds)
        assert one.status().decision in ("continue", "advance")
    assert ages == pytest.approx([10, 20, 30, 40, 50, 60, 70, 80])
    assert one.status().stage == 2
    ahead = [note for note in one.status().notes if "in the future, by the clock of" in note]
    assert len(ahead) == len(told) / 2 == (skew > 0)
    for rollout in (one, other):
        rollout.close()


def test_time_that_nobody_saw_pass_ends_no_stage(registry, clock):
    registry.start_rollout("churn", "2", LONG, reason="try")
    for _ in range(3):
        rollout = mk.Rollout(registry, "churn", poll=0.5, threads=1)
        rollout.predict(X[:1])
        clock[0] += 10
        over(rollout)
        rollout.close()
        clock[0] += 100_000
    again = mk.Rollout(registry, "churn", poll=0.5, threads=1)
    assert again.status().seconds == pytest.approx(30)
    again.close()


def test_of_many_that_add_up_at_once_one_does(registry):
    shelf = registry.shelf("churn", registry.start_rollout("churn", "2", LONG, reason="try"))
    total = [0] * 6

    def work(place):
        shared = SharedCounts(shelf, str(place))
        for number in range(1, 21):
            shared.write(*counted(number))
            while shared.next_sum() is not None:
                pass
            shared.add_up(float(number))
        total[place] = sum(range(1, 21))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = SharedCounts(shelf, "reader")
    found = 0
    while True:
        while (each := reader.next_sum()) is not None:
            found += each.counts.calls.candidate
        if found == sum(total):
            break
        reader.add_up(99.0)
    assert found == 6 * 210


def test_a_service_that_starts_again_goes_on_with_all_evidence(registry):
    rollout = mk.Rollout(registry, "churn", poll=1e-3, threads=1)
    registry.start_rollout("churn", "2", LONG, reason="try")

    def counts_there():
        rollout.predict(X[:1])
        status = rollout.status()
        return sum(status.calls) >= 200

    until(counts_there)
    rollout.close()
    again = mk.Rollout(registry, "churn", poll=1e-3, threads=1)
    assert sum(again.status().calls) >= 200
    assert again.status().guards[0].better > 1
    again.close()


WORKER = """
import sys
import numpy as np
import modelkit as mk

class Broken(mk.Wrapper):
    __slots__ = ()

    def _call(self, X, outputs, call):
        if self.manifest.version == sys.argv[2]:
            raise RuntimeError("broken")
        return self._inner._call(X, outputs, call)

rollout = mk.Rollout(mk.Registry(sys.argv[1]), "churn", wrap=Broken, rescue=True, poll=.01, threads=1)
X = np.zeros((1, 3))
print("ready", flush=True)
number = 0
while True:
    number += 1
    rollout.predict(X, key=f"u{number % 500}" if number % 2 else None)
    if number % 20 == 0:
        print(rollout.manifest.version, flush=True)
"""


def start(registry, broken):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, registry.url, broken],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")
@pytest.mark.parametrize(("broken", "decision"), [("none", "promote"), ("2", "rollback")])
def test_processes_that_are_killed_leave_one_decision(registry, broken, decision):
    workers = [start(registry, broken) for _ in range(3)]
    try:
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        registry.start_rollout("churn", "2", STAGED, reason="try")
        seen = [set() for _ in workers]

        def read(place):
            for line in workers[place].stdout:
                seen[place].add(line.strip())

        readers = [threading.Thread(target=read, args=(place,)) for place in range(3)]
        for reader in readers:
            reader.start()
        until(lambda: list(registry._store.folders("models/churn/rollouts")), "nothing counted")
        workers[0].send_signal(signal.SIGKILL)
        until(lambda: registry.state("churn").rollout is None, "undecided")
        if decision == "promote":
            until(lambda: all("2" in seen[place] for place in (1, 2)), "not followed")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for reader in readers:
            reader.join()
        for worker in workers:
            worker.stdout.close()
    decisions = [e.about["decision"] for e in registry.history("churn") if e.kind == "decided"]
    assert decisions.count(decision) == 1
    assert decisions[-1] == decision
    assert decisions.count("advance") <= 1
    expected = "2" if decision == "promote" else "1"
    assert registry.aliases("churn")["champion"].version == expected
    # Whoever adds up again comes to the same decision.
    history = registry.history("churn")
    entry = next(each for each in history if each.kind == "rollout")
    underway = Underway("2", "1", "", entry.generation, entry.id, 0, "", "", "", "")
    shared = SharedCounts(registry.shelf("churn", underway), "reader")
    trial = Trial(STAGED, 0.0)
    while (found := shared.next_sum()) is not None and not trial.over:
        trial.tick(found.counts, found.at, found.stage)
    assert trial.decision.kind == decision
