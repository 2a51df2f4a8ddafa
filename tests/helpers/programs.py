"""Programs of Debian that tests start: Prometheus, its tool, and Alertmanager."""

import contextlib
import re
import shutil
import subprocess
import time
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from helpers.apps import ask

READY = re.compile(r'msg="Listening on".* address=127\.0\.0\.1:(\d+)')
PATIENCE = 280  # seconds after which something hangs; nothing here takes ten on a quiet machine


def needs(*programs):
    """Skips a test where a program is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"{', '.join(missing)} is not installed: make programs"
    )


def needs_library(name, target="test-deploy"):
    """Skips a test where a library is missing; to import it here would take seconds."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return pytest.mark.skip(reason=f"{name} is not installed: make {target}")
    return pytest.mark.skipif(False, reason="it is installed")


def until(found, what, seconds=PATIENCE):
    """What `found` gives once it is neither None nor empty nor false."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)
    return value


@contextlib.contextmanager
def listening(log, *command):
    """Start a program that prints where it listens, and give its URL; it ends with the block."""
    with log.open("w", encoding="utf-8") as written:
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT)

    def address():
        text = log.read_text(encoding="utf-8")
        assert process.poll() is None, text
        return READY.search(text)

    try:
        port = int(until(address, command[0])[1])
        until(lambda: ask(port, "GET", "/-/ready")[0] == 200, command[0])
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
