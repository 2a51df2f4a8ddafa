"""Code in processes of its own: fresh interpreters, and forks that are ended after a while."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from contextlib import contextmanager

import pytest

PATIENCE = 40  # seconds a child may live
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
        except BaseException:  # noqa: BLE001 - the parent fails
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    with bounded(child):
        return os.waitpid(child, 0)[1] == 0
