"""The layers around a Model: their order, which of them a Model allows, and who closes what."""

import asyncio
import gc
import pickle
from functools import partial

import pytest
from helpers.flowers import Recorder
from helpers.sums import summed

import modelkit as mk
from modelkit.errors import BatchError, UsageError
from modelkit.model.wrapper import layers_of


@pytest.fixture(scope="module")
def watched_mk(boosting_mk, breast_cancer, once):
    profile = mk.Profile.fit(breast_cancer[0][::2], reference=breast_cancer[0][1::2])
    return once("watched.mk", lambda path: mk.attach(boosting_mk, profile=profile, out=path))


def names(model):
    return [type(layer).__name__ for layer in layers_of(model)]


class Calls(mk.Wrapper):
    """A layer that sees calls only."""

    def _call(self, X, outputs, call):
        return self._inner._call(X, outputs, call)

    async def _acall(self, X, outputs, call):
        return await self._inner._acall(X, outputs, call)


ALL = ["Meter", "Monitor", "Batcher", "OnnxModel"]


@pytest.mark.parametrize(
    ("wrap", "options", "expected"),
    [
        (mk.Wrapper, {}, [*ALL[:3], "Wrapper", "OnnxModel"]),
        (Recorder, {}, [*ALL[:3], "Recorder", "OnnxModel"]),
        (None, {}, ALL),
        (None, {"meter": True, "monitor": True, "batcher": True}, ALL),
        (None, {"batcher": False}, ["Meter", "Monitor", "OnnxModel"]),
        (None, {"monitor": False}, ["Meter", "Batcher", "OnnxModel"]),
        (None, {"meter": False}, ALL[1:]),
        (None, dict.fromkeys(["meter", "monitor", "batcher"], False), ["OnnxModel"]),
        # What is there already, or would not see its calls.
        (partial(mk.Batcher, plan="learn"), {}, ALL),
        (mk.Monitor, {}, ["Meter", "Monitor", "OnnxModel"]),
        (mk.Meter, {}, ["Meter", "OnnxModel"]),
        (Calls, {}, ["Meter", "Calls", "OnnxModel"]),
        (mk.layered, {}, ALL),
    ],
)
def test_the_layers_that_a_model_allows_are_put_in_order(watched_mk, wrap, options, expected):
    with mk.load(watched_mk, threads=1) as model:
        served = mk.layered(model if wrap is None else wrap(model), **options)
        assert names(served) == expected
        served.close()


def test_what_a_model_does_not_allow_is_left_out_and_its_reason_is_raised_where_required(
    watched_mk, boosting_mk, breast_cancer, tmp_path
):
    of_batches = tmp_path / "batches.mk"
    past = [breast_cancer[0][start::20] for start in range(1, 20, 2)]
    profile = mk.Profile.fit(breast_cancer[0][::2], reference=past, unit="batch")
    mk.attach(boosting_mk, profile=profile, out=of_batches)
    dependent = mk.FunctionModel(
        lambda feeds: {"prediction": feeds["x"].sum(axis=1)}, summed().signature
    )
    with mk.load(of_batches) as batches, mk.load(boosting_mk) as bare, mk.load(watched_mk) as whole:
        rollout = mk.Rollout(whole, whole, share=0.5)
        for model, expected, option, error, reason in (
            (batches, ["Meter", "Batcher", "OnnxModel"], "monitor", UsageError, "parts of a batch"),
            (bare, ["Meter", "Batcher", "OnnxModel"], "monitor", UsageError, "lacks a profile"),
            (dependent, ["Meter", "FunctionModel"], "batcher", BatchError, "batchable=True"),
            (rollout, ["Rollout"], "meter", UsageError, "Rollout has several"),
            (rollout, ["Rollout"], "monitor", UsageError, "Rollout has several"),
            (rollout, ["Rollout"], "batcher", BatchError, "chooses for each call"),
            (
                mk.Monitor(whole),
                ["Meter", "Monitor", "OnnxModel"],
                "batcher",
                UsageError,
                "layered",
            ),
            (mk.Meter(whole), ["Meter", "OnnxModel"], "monitor", UsageError, r"Meter\(Monitor"),
            (mk.Meter(whole), ["Meter", "OnnxModel"], "meter", UsageError, "a Meter already"),
            (
                mk.Monitor(whole),
                ["Meter", "Monitor", "OnnxModel"],
                "monitor",
                UsageError,
                "already",
            ),
        ):
            assert names(mk.layered(model)) == expected
            for required in (True, {}):
                with pytest.raises(error, match=reason):
                    mk.layered(model, **{option: required})


def test_a_layer_takes_its_arguments(watched_mk):
    with (
        mk.load(watched_mk) as model,
        mk.layered(model, monitor={"alpha": 0.2}, batcher={"plan": "learn"}) as served,
    ):
        assert served.inner.detector.alpha == 0.2
        with pytest.raises(TypeError, match="alpa"):
            mk.layered(model, monitor={"alpa": 0.2})
        for wrong in (None, 1, "yes"):
            with pytest.raises(UsageError, match='a layer is True, False, "auto"'):
                mk.layered(model, meter=wrong)
        with pytest.raises(TypeError, match="takes a Model, not str"):
            mk.layered("model.mk")


def test_closing_closes_the_layers_and_not_the_model(watched_mk, breast_cancer):
    X = breast_cancer[0][:3]
    with mk.load(watched_mk) as model:
        with mk.layered(model) as served:
            served.predict(X)
        assert (served.closed, served.inner.inner.closed, model.closed) == (True, True, False)
        own = mk.Batcher(model, plan="learn")
        with mk.layered(own) as served:
            asyncio.run(served.apredict(X))
        assert not own.closed  # the caller's own
        own.close()
        model.predict(X)


def test_layers_that_were_pickled_close_together_too(watched_mk):
    """Another process closed the outermost one alone, and had no other way to the rest."""
    with mk.load(watched_mk) as model, mk.layered(model) as served:
        again = pickle.loads(pickle.dumps(served))
    with again.base as opened:
        again.close()
        assert (again.inner.closed, again.inner.inner.closed, opened.closed) == (True, True, False)


def test_layers_that_were_made_are_closed_where_the_next_cannot_be(watched_mk):
    with mk.load(watched_mk) as model:
        with pytest.raises(UsageError, match="alpha") as caught:  # which keeps what was made
            mk.layered(model, monitor={"alpha": 2})
        made = [each for each in gc.get_objects() if type(each) is mk.Batcher]
        (batcher,) = [each for each in made if each.inner is model]
        assert batcher.closed
        assert not model.closed
        del caught
