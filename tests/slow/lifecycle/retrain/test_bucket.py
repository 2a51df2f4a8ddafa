"""Retraining with a registry in a bucket: a process that is killed, and the one that goes on."""

import shutil

import pytest
from helpers.buckets import STORES, why_not
from helpers.retrainings import (
    CANARY,
    SPAWN,
    START,
    Clock,
    Copying,
    outcome,
    registry_at,
    retrain,
    run_until,
)

import modelkit as mk

pytest.importorskip("obstore")
pytest.importorskip("moto")
STORE = "moto"


@pytest.mark.skipif(why_not(STORE) is not None, reason="there is no server of S3")
def test_a_run_in_a_bucket_goes_on_and_comes_to_the_same(tmp_path, monkeypatch):
    alone = retrain(registry_at(tmp_path / "models", tmp_path), tmp_path / "alone", policy=CANARY)
    (package,) = (tmp_path / "alone").rglob("candidate.mk")
    shutil.copyfile(package, tmp_path / f"{alone.version}.mk")
    with STORES[STORE](tmp_path) as (url, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        where = f"{url}/team"
        registry_at(where, tmp_path)
        arguments = (where, tmp_path / "gone", "save", Copying(tmp_path))
        process = SPAWN.Process(target=run_until, args=arguments)
        process.start()
        process.join(280)
        assert process.exitcode == -9
        shutil.rmtree(tmp_path / "gone")
        clock = Clock(START + CANARY.lease)
        run = retrain(mk.Registry(where), tmp_path / "here", policy=CANARY, clock=clock)
    assert outcome(run) == outcome(alone)
