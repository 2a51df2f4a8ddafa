"""A Batcher in the child of a fork, and at the end of its interpreter."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.batchers import ROOM, Gate, one_slot, row, waiting


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_child_of_a_fork_begins_with_an_empty_queue():
    gate = Gate()
    with one_slot(gate) as batcher, ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.predict, row(0))
        gate.began_one()
        second = pool.submit(batcher.predict, row(1))
        waiting(batcher, 1)
        child = os.fork()
        if child == 0:
            gate.open()
            good = batcher.predict(row(7)) == 14 and batcher.stats().queued == 0
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        gate.open()
        assert (first.result(ROOM), second.result(ROOM)) == (0, 2)


def test_what_was_submitted_is_answered_at_the_end_of_the_interpreter(tmp_path):
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import time, numpy as np, modelkit as mk\n"
        "spec = lambda name: mk.TensorSpec(name, 'float32', ('n', 1))\n"
        "def slow(feeds):\n"
        "    done = time.monotonic() + 0.01\n"
        "    while time.monotonic() < done: pass\n"
        "    return {'y': feeds['x']}\n"
        "model = mk.FunctionModel(slow, mk.Signature((spec('x'),), (spec('y'),)), batchable=True)\n"
        "batcher = mk.Batcher(model, max_rows=1)\n"
        "for i in range(5):\n"
        "    batcher.submit(np.full((1, 1), i, np.float32)).add_done_callback("
        "lambda f: print(f'{int(f.result()[0, 0])}\\n', end=''))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=280, check=True
    )
    # In any order: a slot goes to the next batch before the answers of this one are told.
    assert sorted(done.stdout.split()) == list("01234")
    assert done.stderr == ""
