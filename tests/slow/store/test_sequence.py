"""Processes that append to one sequence, in a folder and in a bucket: none of 240 files is lost."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.buckets import moto

from modelkit.store import open_store
from modelkit.store.sequence import Sequence

WRITE = """
import sys
from modelkit.store import open_store
from modelkit.store.sequence import Sequence
sequence = Sequence(open_store(sys.argv[1]), "log")
last = 0
for number in range(60):
    last = sequence.append(f"{sys.argv[2]} {number}".encode(), after=last)
"""


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path, monkeypatch):
    if request.param == "folder":
        yield str(tmp_path / "kept")
        return
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    with moto(tmp_path) as (url, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield url


def test_processes_that_append_lose_nothing(place):
    workers = [subprocess.Popen([sys.executable, "-c", WRITE, place, str(i)]) for i in range(4)]
    assert [worker.wait(280) for worker in workers] == [0] * 4
    sequence = Sequence(open_store(place), "log")
    files = [*sequence.after(0)]
    assert [number for number, _ in files] == [*range(1, 241)]
    assert sequence.last() == 240
    assert {data.decode() for _, data in files} == {f"{i} {n}" for i in range(4) for n in range(60)}
    for worker in map(str, range(4)):  # each in its own order
        written = [data.decode().split()[1] for _, data in files if data.decode()[0] == worker]
        assert written == [str(number) for number in range(60)]
