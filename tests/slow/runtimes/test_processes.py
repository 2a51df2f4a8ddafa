"""Models in other processes: forks, worker pools, and a preloading server.

Every child is ended after a while, so that one that hangs is a test that fails.
"""

import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from helpers.processes import PATIENCE, bounded, forks, passes_in_a_child

import modelkit as mk
from modelkit.errors import ClosedError, ForkedModelError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def rows_for(model, count=64):
    (spec,) = model.signature.inputs
    return np.random.default_rng(0).normal(size=(count, spec.shape[1])).astype(np.float32)


@pytest.fixture(params=["split over threads", "one thread a run"])
def model(request, wide_mk, boosting_mk):
    with mk.load(
        wide_mk if "split" in request.param else boosting_mk, device="cpu", threads=2
    ) as loaded:
        assert loaded.placement.split == ("split" in request.param)
        yield loaded


@forks
def test_a_child_answers_as_its_parent(model):
    x = rows_for(model)
    expected = model.run(x)

    def work():
        assert model._session is None
        for _ in range(3):
            answers = model.run(x)
            for name, array in expected.items():
                np.testing.assert_array_equal(answers[name], array)
        assert model._session is not None
        model.close()

    assert passes_in_a_child(work)
    np.testing.assert_array_equal(
        model.run(x)[model.signature.primary], expected[model.signature.primary]
    )


@forks
def test_a_child_of_a_child_answers_too(model):
    x = rows_for(model)
    expected = model.predict(x)

    def work():
        np.testing.assert_array_equal(model.predict(x), expected)

    def work_in_a_child():
        assert passes_in_a_child(work)  # before this child has built a session, and after
        work()
        assert passes_in_a_child(work)

    assert passes_in_a_child(work_in_a_child)


@forks
def test_a_fork_while_others_run(model):
    x = rows_for(model, 40_000 if not model.placement.split else 512)
    expected = model.predict(x)
    stop, failures = threading.Event(), []

    def ask():
        while not stop.is_set():
            if not np.array_equal(model.predict(x), expected):
                failures.append("another answer")

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert passes_in_a_child(
                lambda: np.testing.assert_array_equal(model.predict(x), expected)
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


@forks
def test_threads_of_a_child_build_one_session(model):
    x = rows_for(model)
    expected = model.predict(x)

    def work():
        sessions, start = [], threading.Barrier(4)

        def ask():
            start.wait()
            np.testing.assert_array_equal(model.predict(x), expected)
            sessions.append(id(model._session))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(sessions) == 4
        assert len(set(sessions)) == 1

    assert passes_in_a_child(work)


@forks
def test_a_batcher_works_in_a_child(model):
    x = rows_for(model, 8)
    expected = model.predict(x)
    with mk.Batcher(model, plan="learn") as batcher:
        np.testing.assert_array_equal(batcher.predict(x), expected)

        def work():
            np.testing.assert_array_equal(batcher.predict(x), expected)
            np.testing.assert_array_equal(batcher.submit(x).result(PATIENCE), expected)
            batcher.close()

        assert passes_in_a_child(work)


@forks
def test_a_closed_model_is_closed_in_a_child(model):
    x = rows_for(model)
    model.predict(x)

    def closed_again():
        model.close()  # before the first run
        with pytest.raises(ClosedError):
            model.predict(x)

    assert passes_in_a_child(closed_again)
    model.predict(x)
    model.close()

    def closed():
        with pytest.raises(ClosedError):
            model.predict(x)

    assert passes_in_a_child(closed)


@forks
def test_a_model_on_a_device_says_that_it_cannot_be_used_in_a_child(boosting_mk):
    with mk.load(boosting_mk, device="cpu") as model:
        # Stands in for a GPU, which a test cannot count on: what the child does follows from the
        # placement alone.
        model.placement = replace(
            model.placement, provider="CUDAExecutionProvider", device="cuda:0"
        )

        def work():
            with pytest.raises(
                ForkedModelError,
                match=r"'cuda:0' before this process was forked.*load the model after",
            ):
                model.predict(rows_for(model))
            model.close()
            with pytest.raises(ClosedError):
                model.predict(rows_for(model))

        assert passes_in_a_child(work)
        model.predict(rows_for(model))


@forks
@pytest.mark.parametrize("used", [True, False])
def test_a_child_ends_in_the_ordinary_way(wide_mk, used):
    code = f"""
        import os, sys, warnings, numpy as np, modelkit as mk
        warnings.simplefilter("ignore", DeprecationWarning)
        x = np.ones((64, 1088), np.float32)
        model = mk.load(sys.argv[1], device="cpu", threads=2)
        expected = model.predict(x)
        child = os.fork()
        if child == 0:
            assert not {used} or np.array_equal(model.predict(x), expected)
            del model
        else:
            sys.exit(os.waitpid(child, 0)[1] and 1)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(wide_mk)]
    parent = subprocess.Popen(command, start_new_session=True)
    with bounded(parent.pid, os.killpg):
        assert parent.wait() == 0


def answer(model, x, path):
    np.save(path, model.predict(x))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(model, method, tmp_path):
    x = rows_for(model)
    expected = model.predict(x)
    process = multiprocessing.get_context(method).Process(
        target=answer, args=(model, x, tmp_path / "answer.npy")
    )
    process.start()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
        process.join()
        pytest.fail(f"a process started by {method} hangs")
    assert process.exitcode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "answer.npy"), expected)


APP = """
    import os
    import numpy as np
    import modelkit as mk

    model = mk.load(PATH, device="cpu", threads=2)
    shared = mk.load(PATH, device="cpu")
    rows = np.random.default_rng(0).normal(size=(64, 1088)).astype(np.float32)
    model.warmup()
    expected, master = model.predict(rows), os.getpid()

    def app(environ, start_response):
        same = np.array_equal(model.predict(rows), expected)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{os.getpid()} {os.getpid() != master} {same} {shared.placement.threads}".encode()]
"""


@forks
def test_gunicorn_preloads_a_model(wide_mk, tmp_path):
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(textwrap.dedent(APP).replace("PATH", repr(str(wide_mk))))
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        "--timeout=280",
        "--bind",
        "127.0.0.1:0",
        "--no-control-socket",
        "served:app",
    ]
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "WEB_CONCURRENCY": "2"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with bounded(server.pid, os.killpg), server, stopped(server):
        said = next(
            found for line in server.stderr if (found := re.search(r"http://127.0.0.1:(\d+)", line))
        )
        port = int(said[1])
        # While one worker waits for the rest of a request, the other one answers.
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as held:
            held.sendall(b"GET / HTTP/1.0\r\n")
            answers = [ask(port) for _ in range(4)]
            held.sendall(b"\r\n")
            answers.append(read(held))
        usable = mk.load(wide_mk, device="cpu", threads="auto").placement.threads
        assert len({pid for pid, *_ in answers}) == 2
        assert {tuple(rest) for _, *rest in answers} == {("True", "True", str(max(1, usable // 2)))}
        server.terminate()
        assert server.wait() == 0


@contextmanager
def stopped(server):
    try:
        yield
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)


def ask(port):
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return read(connection)


def read(connection):
    with connection.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    assert b" 200 " in head.partition(b"\r\n")[0], head
    return body.decode().split()
