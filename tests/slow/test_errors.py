"""Errors that cross processes, and what is said where a library is missing."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from helpers.errors import assert_equal, extras_with, sample, tree
from helpers.processes import run


def throw(kind):
    raise sample(kind)


def test_every_error_comes_out_of_a_process_pool_and_the_pool_lives():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for kind in tree():
            error = pool.submit(throw, kind).exception(timeout=280)
            assert "in throw" in str(error.__cause__)  # the traceback of the worker
            assert_equal(sample(kind), error)


BLOCKED = """
    import sys
    import numpy as np

    sys.modules[{library!r}] = None
    import modelkit as mk
    from modelkit.errors import MissingExtraError

    EXTRAS = {extras!r}

    def missing(work):
        try:
            work()
        except MissingExtraError as error:
            assert error.library == {library!r}, error
            assert "pip install " + {library!r} in str(error), error
            assert "modelkit-sdk" not in str(error), error
            assert error.extra in EXTRAS, error.extra
            assert f".[{{error.extra}}]" in str(error), error
            return
        raise SystemExit("it needs no {library}")

    model = mk.load(sys.argv[1])
    rng = np.random.default_rng(0)
    X = rng.normal(size=(256, 30)).astype(np.float32)
"""


def test_without_scipy_what_needs_it_says_so(boosting_mk):
    run(
        BLOCKED.format(library="scipy", extras=extras_with("scipy"))
        + """
    profile = mk.Profile.fit(X, model=model)
    missing(lambda: mk.Detector(profile))
    missing(lambda: mk.Monitor(model, profile))
    missing(lambda: mk.Profile.fit({"embedding": X}))
    lime = mk.Explainer(model, background=X, method="lime")
    missing(lambda: lime.explain(X[:1]))
    assert mk.Explainer(model, background=X).explain(X[:1]).exact
    """,
        boosting_mk,
    )


def test_without_onnx_what_needs_it_says_so(boosting_mk):
    run(
        BLOCKED.format(library="onnx", extras=extras_with("onnx"))
        + """
    missing(lambda: mk.Explainer(model, background=X))
    missing(lambda: mk.save(model, "never.mk", name="x", version="1"))
    missing(lambda: mk.TextEncoder(b"graph", b"tokenizer"))
    assert len(model.predict(X)) == 256
    mk.Explanation
    mk.Monitor(model, mk.Profile.fit(X, model=model)).predict(X)
    """,
        boosting_mk,
    )


def test_without_joblib_a_package_of_it_says_so_and_others_are_served(boosting_mk):
    run(
        BLOCKED.format(library="joblib", extras=extras_with("joblib"))
        + """
    import importlib
    missing(lambda: importlib.import_module("modelkit.runtimes.joblib"))
    assert len(model.predict(X)) == 256
    """,
        boosting_mk,
    )
