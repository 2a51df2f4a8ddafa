"""Stop a run that may never end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from modelkit.errors import DeadlineExceeded


def run_until(run: Callable[[Any], list[Any]], options: Any, deadline: float) -> list[Any]:
    """Call `run` with run options of onnxruntime, and stop it at a point on `time.monotonic()`.

    Raises DeadlineExceeded.
    """
    timer = threading.Timer(
        max(0, deadline - time.monotonic()), setattr, (options, "terminate", True)
    )
    timer.daemon = True
    timer.start()
    try:
        return run(options)
    except Exception as error:
        if options.terminate:
            raise DeadlineExceeded(
                "the deadline passed while the graph ran; the run was stopped"
            ) from error
        raise
    finally:
        timer.cancel()
