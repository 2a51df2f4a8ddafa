"""Who holds a retraining: claims, beats, and clocks that go wrong."""

import json
from pathlib import Path

import pytest
from helpers.retrainings import CANARY, DAY, START, Clock, retrain, train

import modelkit as mk
from modelkit.errors import RegistryError, UsageError
from modelkit.lifecycle.retrain.log import StepResults
from modelkit.lifecycle.retrain.records import NotAllowed, RunRecords, retrainings_of
from modelkit.lifecycle.retrain.run import RetrainRun


def test_of_two_that_begin_a_run_at_once_the_other_is_busy_though_it_cannot_see_it(
    registry, tmp_path, monkeypatch
):
    """Between what is read and the claim."""

    def begin(*_, **__):
        raise NotAllowed

    monkeypatch.setattr(RunRecords, "begin", begin)
    run = retrain(registry, tmp_path)
    assert (run.reason, run.message) == ("busy", "somebody else took the retraining a moment ago")


def begun(registry, lease=600.0):
    records = RunRecords(registry, "churn")
    return records, records.begin(first(1), 1, lease)


def first(number):
    return RetrainRun("churn", number, "running", "x", "", START, champion="1.0.0")


def test_the_last_two_beats_of_a_holder_are_kept(registry):
    records, run = begun(registry, lease=60.0)
    for number in range(5):
        records.beat(run, START + 30 * number)
        (seen,) = records.history(START + 30 * number + 59)
        assert seen.state == "running"
        (seen,) = records.history(START + 30 * number + 60)
        assert seen.state == "interrupted"
    (folder,) = records._store.folders("runs")
    assert len(records._store.names(f"runs/{folder}")) == 2


def test_a_package_that_cannot_be_seen_yet_is_not_replaced_by_another(registry, monkeypatch):
    records, run = begun(registry)
    assert records.keep_package(run, b"first") == b"first"
    assert records.keep_package(run, b"second") == b"first"
    monkeypatch.setattr(type(records._store), "read", lambda *_, **__: None)
    with pytest.raises(RegistryError, match="cannot be seen yet"):
        records.keep_package(run, b"second")


def test_only_who_holds_a_retraining_adds_to_it(registry):
    records, slow = begun(registry)
    other = RunRecords(mk.Registry(registry.url), "churn")
    taken = other.take_over(slow, START + 600, 600.0)
    before = other.state()
    for add in (
        lambda: records.add(slow, "train", START + 601, text="1 s"),
        lambda: records.take_over(slow, START + 601, 600.0),
        lambda: records.end(slow, slow.ended("failed", "x", START + 601)),
        lambda: records.begin(first(1), 1, 600.0),
        lambda: records.begin(first(2), 1, 600.0),
    ):
        with pytest.raises(NotAllowed):
            add()
    assert records.state() == before
    done = other.add(taken, "train", START + 602, text="1 s", results=StepResults(trained="a"))
    assert records.state().open == done
    assert [step.name for step in done.run.steps] == ["train"]


def test_a_log_of_retrainings_that_was_removed_begins_no_other(registry, tmp_path):
    """Whoever has read it adds nothing; whoever opens it later hears that it is gone."""
    records, run = begun(registry)
    records.keep_package(run, b"first")
    log = Path(registry.url) / "models/churn/retraining/log"
    for entry in log.iterdir():
        entry.unlink()
    for add in (
        lambda: records.add(run, "train", START, text="1 s"),
        lambda: records.end(run, run.ended("failed", "x", START)),
        lambda: records.take_over(run, START, 600.0),
        lambda: records.refuse(first(0), 1, every=0.0),
    ):
        with pytest.raises(RegistryError, match="the log was removed, or replaced by another one"):
            add()
    for use in (lambda: retrainings_of(registry, "churn"), lambda: retrain(registry, tmp_path)):
        with pytest.raises(RegistryError, match=r"their log is gone.*or remove this folder"):
            use()
    assert [*log.iterdir()] == []


def test_a_log_of_retrainings_that_was_replaced_is_not_gone_on_with(registry):
    """By a retraining of the same number, whose package is another one."""
    records, run = begun(registry)
    records.keep_package(run, b"first")
    folder = Path(registry.url) / "models/churn/retraining"
    (folder / "log/0000000001").unlink()
    (folder / "runs").rename(folder / "before")
    other, again = begun(mk.Registry(registry.url))
    (folder / "before").rename(folder / "runs")
    with pytest.raises(RegistryError, match="replaced by another one"):
        records.add(run, "train", START, text="1 s")
    assert other.keep_package(again, b"second") == b"second"
    assert other.state().open.id == again.id != run.id


def test_an_id_that_leads_elsewhere_is_refused(registry):
    """Whoever may write a registry chooses no path on the machines that retrain."""
    records, run = begun(registry)
    entry = Path(registry.url, "models/churn/retraining/log/0000000001")
    entry.chmod(0o644)
    entry.write_text(entry.read_text().replace(run.id, "x/../../../../../evil"))
    records = RunRecords(mk.Registry(registry.url), "churn")
    with pytest.raises(RegistryError, match="and not 32 hexadecimal digits"):
        records.history(START)
    with pytest.raises(RegistryError, match="and not 32 hexadecimal digits"):
        records.keep_package(records.state().open, b"package")


@pytest.mark.parametrize("other", ["no entry", "another entry"])
def test_a_trial_that_the_log_does_not_have_is_an_error_and_no_promotion(registry, tmp_path, other):
    run = retrain(registry, tmp_path, policy=CANARY)
    assert run.state == "on trial"
    Path(registry.url, "models/churn/log/0000000002").unlink()
    restored = mk.Registry(registry.url)
    if other == "another entry":
        restored.set_alias("churn", "previous", "1.0.0", expected=None, reason="x")
    with pytest.raises(RegistryError, match="on trial by entry 2 of the log of churn"):
        retrainings_of(restored, "churn")
    with pytest.raises(RegistryError, match="put back the log"):
        retrain(restored, tmp_path)


@pytest.mark.parametrize("now", [float("nan"), float("inf"), START * 1000, -1e12])
def test_a_clock_that_tells_no_time_records_nothing(registry, tmp_path, now):
    with pytest.raises(UsageError, match="clock gives the time in POSIX seconds"):
        retrain(registry, tmp_path, clock=Clock(now))
    assert retrainings_of(registry, "churn") == ()
    assert retrain(registry, tmp_path).state == "promoted"


def test_a_clock_that_goes_backwards_ends_its_run(registry, tmp_path):
    clock = Clock()

    def train_long(told):
        clock.now -= 2 * DAY
        train(told)

    run = retrain(registry, tmp_path, train=train_long, clock=clock)
    assert run.state == "promoted"
    assert len(run.steps) == 5


def test_a_holder_with_a_clock_ahead_that_died_is_not_waited_for(registry, tmp_path):
    def die(told):
        raise SystemExit

    with pytest.raises(SystemExit):
        retrain(registry, tmp_path, train=die, clock=Clock(START + 365 * DAY))
    log = tmp_path / "models/models/churn/retraining/log"
    left = max(log.iterdir())
    assert json.loads(left.read_text())["kind"] == "left"
    left.unlink()  # as if it had been killed
    assert retrain(registry, tmp_path).state == "promoted"
