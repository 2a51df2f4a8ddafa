"""Code in processes of its own: fresh interpreters, and forks that are ended after a while."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE = 280  # seconds a child may live
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(code, *arguments, **environment):
    """What code prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def bounded(process, end=os.kill):
    """End a process that lives too long."""
    timer = threading.Timer(PATIENCE, end, (process, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def passes_in_a_child(work):
    """Whether `work` returns in a forked child."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # the parent fails
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    with bounded(child):
        return os.waitpid(child, 0)[1] == 0


def fragile_worker(settings, listener, tell):
    """The first of two ends once it has begun, its next two before they do; the fifth ends all."""
    number = next(n for n in range(99) if _is_mine(settings.folder, n))
    if number in (2, 3):
        os._exit(3)
    tell.send("started")
    if number == 0:
        while not Path(settings.folder, "1").exists():
            time.sleep(0.01)
        os._exit(3)
    if number == 4:
        os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(PATIENCE)


def _is_mine(folder, number):
    try:
        Path(folder, str(number)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
