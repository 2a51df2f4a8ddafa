"""Processes that end in a retraining, that are late, or that come all at once: one retraining, with one result."""

import shutil
import threading
from dataclasses import replace

import pytest
from helpers.retrainings import (
    AT_ONCE,
    CANARY,
    SPAWN,
    START,
    Clock,
    Copying,
    alarm,
    outcome,
    registry_at,
    report,
    retrain,
    run_until,
    train,
    verdict,
)

import modelkit as mk
from modelkit.errors import RegistryError
from modelkit.lifecycle.registry.log import ROLLOUT
from modelkit.lifecycle.retrain.log import STEPS
from modelkit.lifecycle.retrain.records import NotAllowed, RunRecords, retrainings_of
from modelkit.lifecycle.retrain.run import RetrainRun

LEASE = CANARY.lease
PROCESSES = 6
OCCASIONS = 100


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return tmp_path_factory.mktemp("packages")


@pytest.fixture
def registry(packages, tmp_path):
    return registry_at(tmp_path / "models", packages)


@pytest.fixture(scope="module")
def undisturbed(packages, tmp_path_factory):
    """What a retraining comes to that nothing ends."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = retrain(registry_at(folder / "models", packages), folder, policy=CANARY)
    (package,) = folder.rglob("candidate.mk")
    shutil.copyfile(package, packages / f"{run.version}.mk")
    return outcome(run)


def killed(where, folder, when, packages):
    """A process that is killed in a retraining."""
    process = SPAWN.Process(target=run_until, args=(where, folder, when, Copying(packages)))
    process.start()
    process.join(280)
    assert process.exitcode == -9


@pytest.mark.parametrize("when", [f"{part}{step}" for step in STEPS for part in ("before-", "")])
def test_a_run_that_is_killed_comes_to_the_same(packages, registry, tmp_path, undisturbed, when):
    killed(registry.url, tmp_path / "here", when, packages)
    trained = []

    def train_again(training):
        trained.append(training)
        train(training)

    clock = Clock(START + LEASE - 1)
    early = retrain(registry, tmp_path / "here", policy=CANARY, clock=clock, train=train_again)
    if when == "rollout":
        assert early.reason == "busy"
        (run,) = [run for run in retrainings_of(registry, "churn", clock.now) if run.number]
        assert outcome(run) == undisturbed
        return
    assert (early.state, early.reason) == ("refused", "busy")
    clock.now += 1
    run = retrain(registry, tmp_path / "here", policy=CANARY, clock=clock, train=train_again)
    assert outcome(run) == undisturbed
    assert len(trained) == (when == "before-train")
    assert [entry.kind for entry in registry.history("churn")].count(ROLLOUT) == 1


def test_a_machine_that_is_gone_has_its_training_done_again_and_its_package_kept(
    packages, tmp_path, undisturbed
):
    for when, again in (("train", 1), ("save", 0)):
        where = tmp_path / when
        registry_at(where, packages)
        killed(where, tmp_path / "gone", when, packages)
        for package in (tmp_path / "gone").rglob("*.mk"):
            package.unlink()
        trained = []

        def train_again(training, trained=trained):
            trained.append(training)
            train(training)

        clock = Clock(START + LEASE)
        run = retrain(mk.Registry(where), tmp_path / "new", policy=CANARY, clock=clock,
                      train=train_again)  # fmt: skip
        assert outcome(run) == undisturbed
        assert len(trained) == again


def test_threads_that_ask_at_the_same_moment_make_one_run(registry, tmp_path):
    start = threading.Barrier(4)
    clock = Clock()
    found = []

    def ask():
        start.wait()
        found.append(retrain(registry, tmp_path, policy=CANARY, clock=clock))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(280)
    states = sorted((run.state, run.number) for run in found)
    assert states == [("on trial", 1), *[("refused", 0)] * 3]
    assert RunRecords(registry, "churn").state().number == 1


class Late:
    """Somebody who trains or judges until the test lets them go on."""

    def __init__(self, does):
        self.does = does
        self.there = threading.Event()
        self.go = threading.Event()

    def __call__(self, training):
        self.there.set()
        assert self.go.wait(280)
        return self.does(training)


@pytest.mark.parametrize("late", ["train", "judge"])
def test_a_run_that_is_taken_over_while_its_first_holder_still_writes(registry, tmp_path, late):
    clock = Clock()
    others = {"train": train, "judge": lambda training: verdict(training, "fail")}
    slow = Late(others[late])
    found = []

    def first():
        run = retrain(registry, tmp_path / "1", policy=CANARY, clock=clock,
                      **{"judge": verdict} | {late: slow})  # fmt: skip
        found.append(run)

    holder = threading.Thread(target=first)
    holder.start()
    assert slow.there.wait(280)
    clock.now += LEASE
    second = retrain(registry, tmp_path / "2", policy=CANARY, clock=clock)
    assert second.state == "on trial"
    slow.go.set()
    holder.join(280)
    assert found == [second]
    assert [entry.kind for entry in registry.history("churn")].count(ROLLOUT) == 1
    assert registry.version("churn", second.version).version == second.version


def test_a_training_that_is_interrupted_goes_on_at_once(registry, tmp_path):
    def interrupted(training):
        (training.folder / "checkpoint").write_text("epoch 3")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(registry, tmp_path, train=interrupted)
    (left,) = retrainings_of(registry, "churn", START)
    assert left.state == "interrupted"

    def goes_on(training):
        assert (training.folder / "checkpoint").read_text() == "epoch 3"
        train(training)

    run = retrain(registry, tmp_path, train=goes_on)
    assert (run.number, run.state) == (1, "promoted")


def test_a_store_that_fails_leaves_the_run_to_the_next_call(registry, tmp_path, monkeypatch):
    def fails(*_):
        raise RegistryError("the bucket cannot be asked")

    with monkeypatch.context() as patch:
        patch.setattr(RunRecords, "keep_package", fails)
        with pytest.raises(RegistryError, match="bucket"):
            retrain(registry, tmp_path)
    assert retrainings_of(registry, "churn", START)[-1].state == "interrupted"
    assert retrain(registry, tmp_path).state == "promoted"


def test_a_run_that_ends_every_process_is_given_up(registry, tmp_path):
    def interrupted(training):
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            retrain(registry, tmp_path, train=interrupted)
    clock = Clock(START + 60)
    run = retrain(registry, tmp_path, clock=clock, drift=report(alarm(at=START)))
    assert (run.state, run.reason) == ("refused", "cooldown")
    (given_up,) = [run for run in retrainings_of(registry, "churn", START) if run.number]
    assert given_up.state == "failed"
    assert given_up.message.startswith("3 processes ended in it")


def test_a_long_training_keeps_its_lease(registry, tmp_path):
    """A process that lives is heard of, here every thirtieth of a second."""
    policy = replace(AT_ONCE, lease=0.1)
    heard = threading.Event()

    def long(training):
        records = RunRecords(registry, "churn")
        while not heard.wait(0.001):
            clock.now += 0.01
            (seen,) = records.history(clock.now)
            if clock.now > START + 0.3 and seen.state == "running":  # long after its claim
                heard.set()
        train(training)

    clock = Clock()
    run = retrain(registry, tmp_path, policy=policy, train=long, clock=clock)
    assert run.state == "promoted"
    assert run.number == 1


def claim_all(where, start, results):
    records = RunRecords(mk.Registry(where), "churn")
    start.wait()
    won = 0
    while (number := records.state().number) < OCCASIONS:
        begun = RetrainRun("churn", number + 1, "running", "alarm", "", START)
        try:
            run = records.begin(begun, 1, LEASE)
        except NotAllowed:  # somebody was faster
            continue
        won += 1
        records.end(run, run.ended("blocked", "", START))
    results.put(won)


def test_six_processes_and_a_hundred_occasions_are_a_hundred_claims(registry):
    start = SPAWN.Barrier(PROCESSES)
    results = SPAWN.Queue()
    workers = [
        SPAWN.Process(target=claim_all, args=(registry.url, start, results))
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    won = [results.get(timeout=280) for _ in workers]
    for worker in workers:
        worker.join(280)
    assert sum(won) == OCCASIONS
    runs = retrainings_of(registry, "churn", START)
    assert [run.number for run in runs] == list(range(1, OCCASIONS + 1))


def retrain_once(where, folder, start, results, late, copying):
    drift = report(alarm(at=START + late), alarm("changed", at=START + late))
    registry = mk.Registry(where)
    start.wait()
    run = retrain(registry, folder, policy=CANARY, train=copying, drift=drift,
                  clock=Clock(START + 60))  # fmt: skip
    results.put((run.state, run.number, run.reason))


def test_workers_that_raise_the_same_alarm_at_once_make_one_run(
    packages, registry, tmp_path, undisturbed
):
    assert undisturbed

    copying = Copying(packages)
    start = SPAWN.Barrier(4)
    results = SPAWN.Queue()
    workers = [
        SPAWN.Process(
            target=retrain_once, args=(registry.url, tmp_path, start, results, late, copying)
        )
        for late in range(4)
    ]
    for worker in workers:
        worker.start()
    found = sorted([results.get(timeout=280) for _ in workers])
    for worker in workers:
        worker.join(280)
    assert found[0] == ("on trial", 1, "changed + material")
    assert found[1:] == [("refused", 0, "busy")] * 3
    assert [entry.kind for entry in registry.history("churn")].count(ROLLOUT) == 1


def test_a_record_of_a_holder_that_is_gone_costs_no_second_training(registry, tmp_path):
    """The first holder, on another machine, records its training while the second one trains."""
    clock = Clock()
    slow = Late(train)
    first = threading.Thread(
        target=retrain,
        args=(registry, tmp_path / "gone"),
        kwargs={"policy": CANARY, "clock": clock, "train": slow},
    )
    first.start()
    assert slow.there.wait(280)
    clock.now += LEASE
    trained = []

    def second(training):
        trained.append(training)
        slow.go.set()
        first.join(280)
        for package in (tmp_path / "gone").rglob("*.mk"):
            package.unlink()
        train(training)

    run = retrain(registry, tmp_path / "here", policy=CANARY, clock=clock, train=second)
    assert (run.state, len(trained)) == ("on trial", 1)
