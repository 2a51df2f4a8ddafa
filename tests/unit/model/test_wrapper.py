"""The contract of Wrapper, and of Models that are none: what is passed on, what is final, and what a copy is."""

from __future__ import annotations

import asyncio
import copy
import importlib
import pkgutil

import numpy as np
import pytest

import modelkit
import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.testing import check_model

SIGNATURE = mk.Signature(
    inputs=(
        mk.TensorSpec(
            "x", "float64", ("batch", 2), (mk.Column("x0", "float64"), mk.Column("x1", "float64"))
        ),
    ),
    outputs=(mk.TensorSpec("prediction", "float64", ("batch",)),),
)
ROWS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


def summed():
    return mk.FunctionModel(
        lambda feeds: {"prediction": feeds["x"].sum(axis=1)}, SIGNATURE, batchable=True
    )


class Counted(mk.Wrapper):
    """Counts calls by how they end, before their rows are checked."""

    def __init__(self, inner):
        super().__init__(inner)
        self.ends = []

    def _call(self, X, outputs, call):
        try:
            answers = self._inner._call(X, outputs, call)
        except SignatureError:
            self.ends.append("refused")
            raise
        self.ends.append("answered")
        return answers

    async def _acall(self, X, outputs, call):
        try:
            answers = await self._inner._acall(X, outputs, call)
        except SignatureError:
            self.ends.append("refused")
            raise
        self.ends.append("answered")
        return answers


def models():
    """Every subclass of Model in the library."""
    for module in pkgutil.walk_packages(modelkit.__path__, "modelkit."):
        importlib.import_module(module.name)
    found = []
    todo = [mk.Model]
    while todo:
        for kind in todo.pop().__subclasses__():
            if kind.__module__.startswith("modelkit."):
                found.append(kind)
                todo.append(kind)
    return found


def test_only_model_and_wrapper_are_meant_for_subclassing():
    kinds = models()
    assert {kind.__name__ for kind in kinds} >= {
        "Batcher",
        "Monitor",
        "OnnxModel",
        "TextEncoder",
        "Wrapper",
    }
    open_kinds = [kind for kind in kinds if not getattr(kind, "__final__", False)]
    assert open_kinds == [mk.Wrapper]


def test_what_is_final_is_overridden_nowhere():
    final = {name for name, value in vars(mk.Model).items() if getattr(value, "__final__", False)}
    assert {"predict", "run", "arun", "score", "warmup", "__copy__"} <= final
    for kind in models():
        assert not final & vars(kind).keys(), kind


def test_a_bare_wrapper_is_the_model_it_wraps():
    inner = summed()
    wrapper = mk.Wrapper(inner)
    check_model(wrapper, ROWS)
    assert wrapper.inner is wrapper.base is inner
    assert wrapper.unobserved is wrapper
    assert wrapper.batchable
    assert wrapper.runs_at_once == inner.runs_at_once == 1
    assert wrapper.signature is SIGNATURE


def test_a_wrapper_sees_what_the_signature_refuses():
    counted = Counted(Counted(summed()))
    counted.predict(ROWS)
    asyncio.run(counted.apredict(ROWS))
    with pytest.raises(SignatureError):
        counted.predict(ROWS[:, :1])
    with pytest.raises(SignatureError):
        asyncio.run(counted.apredict(ROWS[:, :1]))
    assert counted.ends == counted.inner.ends == ["answered", "answered", "refused", "refused"]


def test_a_wrapper_around_a_batcher_hands_it_plain_rows():
    async def main():
        with mk.Batcher(summed(), plan="learn") as batcher:
            counted = Counted(batcher)
            rows = [ROWS[i % 3 : i % 3 + 1] for i in range(64)]
            answers = await asyncio.gather(*(counted.apredict(row) for row in rows))
            bad = await asyncio.gather(counted.apredict(ROWS[:, :1]), return_exceptions=True)
        assert [float(answer[0]) for answer in answers] == [float(row.sum()) for row in rows]
        assert isinstance(bad[0], SignatureError)
        assert counted.ends.count("answered") == 64
        assert counted.ends.count("refused") == 1

    asyncio.run(main())


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_model_is_that_model(duplicate):
    inner = summed()
    profile = mk.Profile.fit(ROWS.repeat(20, axis=0), reference=ROWS.repeat(20, axis=0))
    with mk.Batcher(inner, plan="learn") as batcher:
        for model in (inner, mk.Wrapper(inner), batcher, mk.Monitor(batcher, profile)):
            assert duplicate(model) is model


def test_a_model_is_an_asynchronous_context_manager():
    async def main():
        async with mk.Batcher(summed(), plan="learn") as batcher:
            assert (await batcher.apredict(ROWS)).tolist() == [3.0, 7.0, 11.0]
        with pytest.raises(modelkit.errors.ClosedError):
            batcher.predict(ROWS)

    asyncio.run(main())


def test_a_monitor_around_a_batcher_counts_what_was_answered_on_a_loop():
    training, reference = np.random.default_rng(0).normal(size=(2, 200, 2))
    profile = mk.Profile.fit(training, reference=reference)

    async def main():
        with mk.Batcher(summed(), plan="learn") as batcher:
            watched = mk.Monitor(batcher, profile)
            rows = [reference[i : i + 1] for i in range(100)]
            answers = await asyncio.gather(*(watched.apredict(row) for row in rows))
            missing = np.full((1, 2), np.nan)
            (refused,) = await asyncio.gather(watched.apredict(missing), return_exceptions=True)
            listed = await watched.apredict({"x0": reference[:3, 0], "x1": reference[:3, 1]})
        np.testing.assert_array_equal(np.concatenate(answers), reference[:100].sum(axis=1))
        assert isinstance(refused, SignatureError)
        assert listed.shape == (3,)
        assert watched.served == 103
        assert watched.failures == 0

    asyncio.run(main())
