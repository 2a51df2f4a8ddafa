"""Who holds a retraining: claims, beats, and clocks that go wrong."""

from pathlib import Path

import pytest
from helpers.retrainings import DAY, START, Clock, retrain, train

from modelkit.errors import RegistryError, UsageError
from modelkit.lifecycle.retrain.desk import Desk, retrainings_of
from modelkit.lifecycle.retrain.run import Claim


def test_of_two_that_begin_a_run_at_once_the_other_is_busy_though_it_cannot_see_it(
    registry, tmp_path, monkeypatch
):
    """A file of NFS that cannot be seen yet: it was tried again without a pause."""
    monkeypatch.setattr(Desk, "claim", lambda *_: False)
    run = retrain(registry, tmp_path)
    assert (run.reason, run.message) == ("busy", "somebody else took the retraining a moment ago")


def test_the_last_two_beats_of_a_holder_are_kept(registry):
    desk = Desk(registry, "churn")
    claim = Claim(1, START, "me", 600.0, "x", True, "1.0.0", "0" * 64, 1)
    desk.claim(1, claim)
    for number in range(5):
        desk.beat(1, claim, START + number)
        assert desk.files(1).heard == START + number
    assert len([name for name in desk._shelf.names("runs/0000000001") if "beat" in name]) == 2


def test_a_package_that_cannot_be_seen_yet_is_not_replaced_by_another(registry, monkeypatch):
    desk = Desk(registry, "churn")
    assert desk.keep_package(1, b"first") == b"first"
    assert desk.keep_package(1, b"second") == b"first"
    monkeypatch.setattr(type(desk._shelf), "read", lambda *_, **__: None)
    with pytest.raises(RegistryError, match="cannot be seen yet"):
        desk.keep_package(1, b"second")


def test_a_folder_that_somebody_left_as_they_died_is_no_run(registry, tmp_path):
    (Path(registry.url) / "models/churn/retraining/runs/0000000001").mkdir(parents=True)
    assert retrainings_of(registry, "churn") == ()
    assert retrain(registry, tmp_path).number == 1


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
    left = next((tmp_path / "models").rglob("left-0001"))
    left.unlink()  # as if it had been killed
    assert retrain(registry, tmp_path).state == "promoted"
