"""modelkit's App in the VARIANT that the environment names, over the PACKAGE that it names.

Signals do what an operator would: SIGUSR1 drains the App, and SIGUSR2 replaces the model of the variant "opened".
"""

import hashlib
import os
import signal
import threading
import time

from benchmarks.serving.servers import MODEL, QUICK, TOKEN

import modelkit as mk
from modelkit import events

QUEUE = 64  # rows that may wait for the slow model
SLOW = 0.02  # seconds of a run of it
package = os.environ["PACKAGE"]
variant = os.environ["VARIANT"]
seen: list[events.Handled] = []


def slow() -> mk.Batcher:
    """A model that is busy beside the interpreter, behind a queue that is soon full."""
    signature = mk.load(package).signature

    def run(feeds):
        time.sleep(SLOW)
        rows = len(feeds["X"])
        return {"label": [0] * rows, "probabilities": [[0.5, 0.5]] * rows}

    model = mk.FunctionModel(run, signature, batchable=True)
    return mk.Batcher(model, max_rows=8, max_queue=QUEUE, loop=False)


def served() -> dict[str, mk.Model | str]:
    if variant == "opened":
        return {MODEL: package}
    model = mk.load(package)
    if variant == "model":
        return {MODEL: model}
    batcher = mk.Batcher(model)
    if variant == "slow":
        return {MODEL: slow(), QUICK: batcher}
    return {MODEL: batcher if variant == "batcher" else mk.Meter(batcher)}


def note(event: events.Handled) -> None:
    """Keep the last event, as a hook of the host would look at it."""
    seen[:] = [event]


def replace() -> None:
    app.replace(MODEL, package)
    print("replaced", flush=True)


auth = None
if variant == "all":
    auth = mk.bearer_tokens(hashlib.sha256(TOKEN.encode()).hexdigest())
    events.subscribe(note, events.Handled)
app = mk.App(served(), auth=auth)
signal.signal(signal.SIGUSR1, lambda *_: app.drain())
signal.signal(signal.SIGUSR2, lambda *_: threading.Thread(target=replace).start())
