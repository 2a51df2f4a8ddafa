"""How much memory a package takes, measured in a process of its own: `python -m ... PATH`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from modelkit.errors import PackageError, UsageError
from modelkit.package.load import load
from modelkit.runtimes.sessions import ort

LONGEST = 600  # seconds
STATUS = Path("/proc/self/status")  # of Linux
RESET = Path("/proc/self/clear_refs")
PEAK_ONLY = "5"


def memory_of(path: str) -> float:
    """The bytes by which opening a package and running its golden rows raise a process's peak.

    Raises UsageError where it cannot be measured.
    """
    if not RESET.exists():
        raise UsageError(
            "a budget of memory is measured on Linux only, where the kernel reports the peak"
        )
    source = str(Path(__file__).parents[3])
    known = os.environ.get("PYTHONPATH")
    paths = source if not known else os.pathsep.join([source, known])
    command = [sys.executable, "-m", __spec__.name, os.path.abspath(path)]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, this module and a path
            command,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            check=True,
            text=True,
            timeout=LONGEST,
        )
    except (OSError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", "") or error).strip()
        raise UsageError(f"the memory of {path} cannot be measured: {told[-500:]}") from error
    return float(done.stdout)


def measured(path: str) -> int:
    """The same, in this process."""
    ort()  # what it takes is no part of a model
    RESET.write_text(PEAK_ONLY)
    before = _peak()
    model = load(path, threads=1)
    try:
        model.verify()
    except PackageError as error:
        raise UsageError(f"{path} is measured by its golden rows: {error}") from error
    return _peak() - before


def _peak() -> int:
    """The most memory that this program has held since the last reset, in bytes."""
    # The peak of getrusage would be that of the process that started this one.
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise UsageError(f"{STATUS} reports no peak of memory")


if __name__ == "__main__":
    print(measured(sys.argv[1]))  # noqa: T201 - its one answer
