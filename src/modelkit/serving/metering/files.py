"""Opening the files of a folder of shared counts, in which others may have put something else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from modelkit.errors import MeterError


def open_plain(path: Path, flags: int) -> int:
    """Open a plain file; raises OSError, and MeterError for what is none, such as a pipe."""
    # Opening a pipe would wait for a writer, and a link may lead to any file.
    file = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise MeterError(f"{path} is no plain file; move it away", folder=path.parent)
    return file
