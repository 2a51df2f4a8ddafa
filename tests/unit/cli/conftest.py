"""What the tests of commands share."""

import shutil
from functools import partial
from time import perf_counter
from timeit import Timer

import pytest


@pytest.fixture(scope="session")
def packages(churn_packages):
    """Packages of a model, one of them of other rows, which registries hold."""
    return churn_packages


@pytest.fixture(scope="session")
def shelf(once, judged_pair, judged_rows, tiny_mk):
    """A folder as somebody at a shell has it, which no test changes."""
    from helpers.shells import save_folder

    return once("shell", lambda path: save_folder(path, judged_pair, judged_rows, tiny_mk))


@pytest.fixture
def shell(shelf, tmp_path, monkeypatch):
    """The same, of one's own, in which commands run."""
    shutil.copytree(shelf, tmp_path / "shell")
    monkeypatch.chdir(tmp_path / "shell")
    return tmp_path / "shell"


@pytest.fixture
def fast_clock(monkeypatch):
    """`modelkit bench` measures until a second is over, which is over after a twentieth of one."""
    monkeypatch.setattr(
        "modelkit.cli.bench.Timer", partial(Timer, timer=lambda: 20 * perf_counter())
    )
