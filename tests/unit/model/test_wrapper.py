"""The contract of Wrapper, and of Models that are none: what is passed on, what is final, and what a copy is."""

from __future__ import annotations

import asyncio
import copy
import importlib
import pkgutil

import numpy as np
import pyarrow as pa
import pytest
from helpers.flowers import FLOWER, LABELS, ROWS, VERBS, Recorder

import modelkit
import modelkit as mk
from modelkit.embedding.over_tokens import OverTokens
from modelkit.errors import SignatureError, UsageError
from modelkit.testing import check_model

SIGNATURE = mk.Signature(
    inputs=(
        mk.TensorSpec(
            "x", "float64", ("batch", 2), (mk.Column("x0", "float64"), mk.Column("x1", "float64"))
        ),
    ),
    outputs=(mk.TensorSpec("prediction", "float64", ("batch",)),),
)
NUMBERS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


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
        "Reranker",
        "TextEncoder",
        "Wrapper",
    }
    open_kinds = [kind for kind in kinds if not getattr(kind, "__final__", False)]
    # A TextEncoder and a Reranker share a class of their own, which nobody else subclasses.
    assert {kind.__name__ for kind in open_kinds} == {"Wrapper", "OverTokens"}
    assert all(kind.__final__ for kind in OverTokens.__subclasses__())


def test_what_is_final_is_overridden_nowhere():
    final = {name for name, value in vars(mk.Model).items() if getattr(value, "__final__", False)}
    assert {"predict", "run", "arun", "warmup", "__copy__"} <= final
    for kind in models():
        assert not final & vars(kind).keys(), kind


def test_a_bare_wrapper_is_the_model_it_wraps():
    inner = summed()
    wrapper = mk.Wrapper(inner)
    check_model(wrapper, NUMBERS)
    assert wrapper.inner is wrapper.base is inner
    assert wrapper.unobserved is wrapper
    assert wrapper.batchable
    assert wrapper.runs_at_once == inner.runs_at_once == 1
    assert wrapper.signature is SIGNATURE


def test_a_wrapper_sees_what_the_signature_refuses():
    counted = Counted(Counted(summed()))
    counted.predict(NUMBERS)
    asyncio.run(counted.apredict(NUMBERS))
    with pytest.raises(SignatureError):
        counted.predict(NUMBERS[:, :1])
    with pytest.raises(SignatureError):
        asyncio.run(counted.apredict(NUMBERS[:, :1]))
    assert counted.ends == counted.inner.ends == ["answered", "answered", "refused", "refused"]


def test_a_wrapper_around_a_batcher_hands_it_plain_rows():
    async def main():
        with mk.Batcher(summed(), plan="learn") as batcher:
            counted = Counted(batcher)
            rows = [NUMBERS[i % 3 : i % 3 + 1] for i in range(64)]
            answers = await asyncio.gather(*(counted.apredict(row) for row in rows))
            bad = await asyncio.gather(counted.apredict(NUMBERS[:, :1]), return_exceptions=True)
        assert [float(answer[0]) for answer in answers] == [float(row.sum()) for row in rows]
        assert isinstance(bad[0], SignatureError)
        assert counted.ends.count("answered") == 64
        assert counted.ends.count("refused") == 1

    asyncio.run(main())


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_model_is_that_model(duplicate):
    inner = summed()
    profile = mk.Profile.fit(NUMBERS.repeat(20, axis=0), reference=NUMBERS.repeat(20, axis=0))
    with mk.Batcher(inner, plan="learn") as batcher:
        for model in (inner, mk.Wrapper(inner), batcher, mk.Monitor(batcher, profile)):
            assert duplicate(model) is model


def test_a_model_is_an_asynchronous_context_manager():
    async def main():
        async with mk.Batcher(summed(), plan="learn") as batcher:
            assert (await batcher.apredict(NUMBERS)).tolist() == [3.0, 7.0, 11.0]
        with pytest.raises(modelkit.errors.ClosedError):
            batcher.predict(NUMBERS)

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


def test_a_wrapper_does_not_close_what_it_wraps(model):
    with Recorder(model) as wrapper:
        wrapper.predict(ROWS)
    assert model.predict(ROWS).tolist() == LABELS


# Wrappers.


def test_a_wrapper_keeps_the_contract(recorder):
    check_model(recorder, ROWS)


def test_every_verb_goes_through_the_hooks_and_asks_for_what_it_answers(recorder):
    for verb in VERBS:
        getattr(recorder, verb)(ROWS)
        asyncio.run(getattr(recorder, f"a{verb}")(ROWS))
    assert [(hook, outputs) for hook, _, outputs, _ in recorder.hooks] == [
        ("_run", ("label", "probabilities")),
        ("_arun", ("label", "probabilities")),
        ("_run", ("label",)),
        ("_arun", ("label",)),
        ("_run", ("probabilities",)),
        ("_arun", ("probabilities",)),
    ]


def test_rows_are_coerced_once_however_deep_the_wrapping(recorder, ask_or_await):
    outer = Recorder(recorder)
    stream = pa.table({"b": [1.0, 2.0], "a": [3.0, 4.0]}).to_reader()  # it can be read only once
    ask_or_await(outer, stream)
    assert outer.signature.coerce(stream)["X"].shape == (0, 2)
    ((_, feeds, _, _),) = outer.hooks
    np.testing.assert_array_equal(feeds["X"], np.array([[3, 1], [4, 2]], np.float32))
    assert recorder.hooks[0][1] is feeds
    assert len(recorder.hooks) == 1


def test_rows_that_do_not_fit_never_reach_a_wrapper(recorder, ask_or_await):
    with pytest.raises(SignatureError):
        ask_or_await(recorder, ROWS.rename(columns={"a": "A"}))
    assert recorder.hooks == []


def test_a_wrapper_passes_on_what_the_wrapped_model_says(model):
    outer = Recorder(Recorder(model))
    assert outer.inner.inner is outer.base is model
    assert model.base is model
    assert model.inner is None
    for each in (model, outer):
        assert each.placement is None
        assert each.manifest is each.name is each.version is None
        assert dict(each.attachments) == {}
        assert each.signature is FLOWER
    with pytest.raises(TypeError):
        outer.attachments["profile"] = b""


def test_a_wrapper_passes_on_placement_manifest_and_attachments(model):
    class Stored(Recorder):
        placement, manifest, attachments = "cpu", "a manifest", {"profile": b""}

    outer = Recorder(Stored(model))
    assert (outer.placement, outer.manifest, outer.attachments) == (
        "cpu",
        "a manifest",
        {"profile": b""},
    )


# Which hooks a subclass overrides.


def hook(self, *args):
    raise AssertionError


MODELS = {"_call": mk.Model._call, "_acall": mk.Model._acall}
OWN = {"_call": hook, "_acall": hook}
RUNS = {"_run": hook, "_arun": hook}


@pytest.mark.parametrize(
    "overridden",
    [
        {"_run": hook},
        {"_arun": hook},
        RUNS,
        RUNS | {"_call": mk.Model._call},  # async calls would pass by
        RUNS | {"_acall": mk.Model._acall},
        MODELS | {"_run": hook},
        MODELS | {"_arun": hook},
        {"_call": hook},
        {"_acall": hook},
        {"_call": hook, "_acall": mk.Model._acall},
        OWN | {"_run": hook},
    ],
)
def test_a_subclass_that_some_calls_would_pass_by_is_refused_when_it_is_made(overridden):
    """An override of `_run` alone was never called, and nothing said so."""
    with pytest.raises(
        TypeError, match=r"Part overrides [\w ]+ alone, so some calls would pass it by"
    ):
        type("Part", (mk.Wrapper,), overridden)


@pytest.mark.parametrize("verb", ["predict", "arun", "predict_proba", "score", "warmup"])
def test_a_subclass_that_overrides_a_verb_is_refused(verb):
    """A Batcher, an App and the other verbs pass such an override by."""
    with pytest.raises(TypeError, match=f"Part overrides {verb}: override _call and _acall"):
        type("Part", (mk.Wrapper,), {verb: hook})


@pytest.mark.parametrize(
    "overridden",
    [
        {},
        MODELS,
        MODELS | RUNS,
        MODELS | {"_run": hook, "_arun": mk.Model._arun},
        OWN,
        OWN | RUNS,
        {"_call": mk.Model._call, "_acall": hook} | RUNS,
    ],
)
def test_a_subclass_that_sees_every_call_may_take_hooks_from_a_base(overridden):
    type("Whole", (mk.Wrapper,), overridden)
    base = type("Base", (mk.Wrapper,), MODELS)
    type("Whole", (base,), RUNS)


def test_a_layer_that_sees_calls_only_is_refused_inside_what_runs_coerced_rows(model):
    profile = mk.Profile.fit(NUMBERS.repeat(20, axis=0), reference=NUMBERS.repeat(20, axis=0))
    counted = Counted(summed())
    makers = {
        "Batcher": lambda: mk.Batcher(counted, plan="learn"),
        "Monitor": lambda: mk.Monitor(mk.Wrapper(counted), profile),
        "Recorder": lambda: Recorder(counted),
        "Replicas": lambda: mk.Replicas([counted]),
    }
    for outer, make in makers.items():
        with pytest.raises(UsageError, match=f"outside, Counted.{outer}.*mk.layered"):
            make()
    with pytest.raises(UsageError, match=r"outside, Meter.Monitor"):
        mk.Monitor(mk.Meter(summed()), profile)
    Counted(Recorder(summed())).predict(NUMBERS)


class Rounded(Recorder):
    """Changes answers, as a layer may."""

    def _run(self, feeds, outputs, call):
        return {name: array.round() for name, array in super()._run(feeds, outputs, call).items()}


def test_golden_rows_belong_to_the_innermost_model_and_a_layer_may_change_answers(boosting_mk):
    with mk.load(boosting_mk) as model:
        rounded = Rounded(model)
        assert (rounded.name, rounded.version) == (model.manifest.name, model.manifest.version)
        assert rounded.verify() == 0.0
        rounded.warmup()
        assert rounded.hooks == []
