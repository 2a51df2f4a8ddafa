"""The onnxruntime Model: placement, bulk runs, threads, closing."""

import threading
import time

import numpy as np
import pytest
from helpers.batchers import SIGNATURE, double
from helpers.places import GOLDEN

import modelkit as mk
from modelkit.errors import ClosedError, DeviceError, GraphError, UsageError
from modelkit.package import container
from modelkit.runtimes import onnx as runtime
from modelkit.runtimes.devices import refuse_version
from modelkit.runtimes.threads import split_runs


def test_placement_says_where_and_how(boosting_mk):
    with mk.load(boosting_mk, device="cpu", threads=3) as model:
        assert model.placement == mk.types.Placement(
            "CPUExecutionProvider",
            "cpu",
            3,
            split=False,
            reason="as asked",
            threads_reason="as asked",
        )
        assert "3 threads" in str(model.placement)


def test_a_placement_says_since_when(boosting_mk):
    before = time.time()
    with mk.load(boosting_mk) as model, mk.Batcher(model, plan="learn") as batcher:
        assert before <= model.placement.since <= time.time()
        assert batcher.placement.since == model.placement.since
    assert "since" not in repr(model.placement)


@pytest.mark.parametrize("name", ["penguins1.mk", "texts1.mk", "encoder1.mk"])
def test_a_model_says_whether_it_was_closed(name):
    model = mk.load(GOLDEN / name, device="cpu")
    outer = mk.Wrapper(model)
    assert (model.closed, outer.closed) == (False, False)
    model.close()
    assert (model.closed, outer.closed) == (True, True)


def test_a_batcher_is_closed_when_it_or_its_model_is():
    for close in ("batcher", "model"):
        model = mk.FunctionModel(double, SIGNATURE, batchable=True)
        batcher = mk.Batcher(model, plan="learn")
        assert not batcher.closed
        {"batcher": batcher, "model": model}[close].close()
        assert batcher.closed
        assert model.closed == (close == "model")


@pytest.mark.parametrize("threads", [0, -1, 1.5, "many", True, None])
def test_a_number_of_threads_that_makes_no_sense_is_an_error(boosting_mk, threads):
    with pytest.raises(UsageError, match="positive integer or 'auto'"):
        mk.load(boosting_mk, threads=threads)


def test_large_dense_models_are_split_over_the_threads(wide_mk):
    assert not split_runs(1, 1 << 40)
    assert not split_runs(8, 1 << 20)
    assert split_runs(8, 1 << 30)
    with mk.load(wide_mk, threads=2) as model:
        assert model.placement.split


def test_the_release_that_answers_wrongly_is_refused():
    refuse_version("1.32.0")
    refuse_version("1.25.1")
    for version in ("1.26.0", "1.26.0+cu12"):
        with pytest.raises(DeviceError, match=r"1\.26\.0 computes wrong probabilities"):
            refuse_version(version)


def test_a_closed_model_says_so(dense_mk):
    model = mk.load(dense_mk)
    model.close()
    model.close()
    with pytest.raises(ClosedError, match="load it again"):
        model.predict(np.ones((1, 256), np.float32))


def test_closing_while_others_run_harms_nobody(dense_mk):
    x = np.ones((64, 256), np.float32)
    expected = mk.load(dense_mk).predict(x)
    for _ in range(20):
        model = mk.load(dense_mk)
        answers, started = [], threading.Barrier(5)

        def ask(model=model, answers=answers, started=started):
            started.wait()
            try:
                while True:
                    answers.append(model.predict(x))
            except ClosedError:
                pass

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        model.close()
        for thread in threads:
            thread.join()
        for answer in answers:
            np.testing.assert_array_equal(answer, expected)


def test_layouts_and_dtypes_of_arrays_do_not_matter(boosting_mk, breast_cancer):
    X = breast_cancer[0].to_numpy()
    narrow = X.astype(np.float32)
    with mk.load(boosting_mk) as model:
        expected = model.predict_proba(narrow)
        readonly = narrow.copy()
        readonly.flags.writeable = False
        wide = np.repeat(narrow, 2, axis=1)[:, ::2]
        for same in (
            X,
            np.asfortranarray(narrow),
            narrow[::-1][::-1],
            readonly,
            wide,
            narrow.astype(">f4"),
            breast_cancer[0],
        ):
            np.testing.assert_array_equal(model.predict_proba(same), expected)
        np.testing.assert_array_equal(model.predict_proba(narrow[::2]), expected[::2])


def test_a_graph_the_runtime_refuses_is_a_graph_error(boosting_mk):
    signature = mk.inspect(boosting_mk).signature
    graph = bytes(container.read_zip(memoryview(boosting_mk.read_bytes()))["model/model.onnx"])
    with pytest.raises(GraphError, match="onnxruntime refuses"):
        runtime.OnnxModel(graph[:-40], signature)


def test_async_verbs_answer_while_the_loop_runs(boosting_mk, breast_cancer):
    import asyncio

    X = breast_cancer[0].to_numpy(np.float32)

    async def many(model):
        return await asyncio.gather(*(model.apredict_proba(X[i : i + 1]) for i in range(50)))

    with mk.load(boosting_mk) as model:
        np.testing.assert_array_equal(
            np.concatenate(asyncio.run(many(model))), model.predict_proba(X[:50])
        )
