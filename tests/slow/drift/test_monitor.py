"""A Monitor in the child of a fork, and in a process without libraries of training."""

import multiprocessing
import subprocess
import sys
import textwrap

import pytest
from helpers.watched import model, rows

import modelkit as mk
from modelkit.drift.intake import SAMPLE_ROWS


@pytest.fixture(scope="module")
def profile():
    return mk.Profile.fit(rows(2000, 1), reference=rows(4000, 2), model=model())


@pytest.fixture(scope="module")
def watched_mk(boosting_mk, breast_cancer, once):
    profile = mk.Profile.fit(breast_cancer[0][::2], reference=breast_cancer[0][1::2])
    return once("watched.mk", lambda path: mk.attach(boosting_mk, profile=profile, out=path))


def child(watched, queue):
    watched.predict(rows(300, 9))
    queue.put((watched.failures, watched.served, watched.detector.rows))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_though_the_lock_was_held(profile):
    watched = mk.Monitor(model(), profile)
    watched.predict(rows(10))
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with watched._intake.tracker.turn():
        process = context.Process(target=child, args=(watched, queue))
        process.start()
    process.join(280)
    assert process.exitcode == 0
    assert queue.get() == (0, 310, 10 + SAMPLE_ROWS)


def test_monitoring_imports_no_library_of_training(watched_mk):
    code = """
        import sys
        before = set(sys.modules)
        import modelkit as mk
        assert set(sys.modules) - before == {"modelkit"}
        import numpy as np
        with mk.load(sys.argv[1]) as model:
            watched = mk.Monitor(model)
            for i in range(20):
                watched.predict(np.full((60, 30), float(i), np.float32))
            assert watched.detector.alarms and watched.failures == 0, watched.last_failure
            watched.detector.report().to_html()
        unwanted = {"sklearn", "skl2onnx", "joblib", "onnx", "pandas", "polars", "pyarrow", "matplotlib", "asyncio"}
        assert not unwanted & set(sys.modules), unwanted & set(sys.modules)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(watched_mk)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
