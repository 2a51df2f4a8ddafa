"""Encoders with many callers at once, and encoders that are closed or pickled."""

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.encoders import ODD, model_over_tokens, sentences, tiny

import modelkit as mk
from modelkit.embedding.tokens import WINDOW_TEXTS
from modelkit.errors import ClosedError, SignatureError, UsageError
from modelkit.serving.batching.policy import make_plan
from modelkit.testing import check_model

# Many callers.


def test_it_keeps_the_contract_of_a_model(encoder, static, minilm):
    found = {"text": [*sentences(12, seed=7), *ODD]}
    for model in (encoder, static, minilm):
        check_model(model, found)
    with mk.Batcher(static) as batcher:
        check_model(batcher, found)


def test_threads_get_the_vectors_of_their_own_texts(static, paraphrase):
    for encoder, rounds in ((static, 30), (paraphrase, 3)):
        expected = {seed: encoder.embed(sentences(9, seed)) for seed in range(16)}

        def ask(seed, encoder=encoder, expected=expected, rounds=rounds):
            for turn in range(rounds):
                at = (seed + turn) % 16
                np.testing.assert_allclose(encoder.embed(sentences(9, at)), expected[at], atol=1e-5)
                encoder.token_count(sentences(3, at))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))


def test_threads_through_a_batcher_get_the_vectors_of_their_own_texts(static):
    expected = {seed: static.embed(sentences(3, seed), role="query", dims=64) for seed in range(32)}
    with mk.Batcher(static) as batcher:

        def ask(seed):
            for turn in range(20):
                at = (seed + turn) % 32
                got = mk.embed(batcher, sentences(3, at), role="query", dims=64)
                np.testing.assert_allclose(got, expected[at], atol=1e-5)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(8)))
        assert batcher.stats().failed == 0


@pytest.mark.parametrize("wrap", ["bare", "batched", "watched"])
def test_tasks_get_the_vectors_of_their_own_texts(static, wrap):
    found = sentences(200, seed=8)
    expected = {role: static.embed(found, role=role) for role in (None, "query")}

    async def main(model):
        roles = [*expected] * 100
        prefixes = [static.recipe.prefix(role) for role in roles]
        got = await asyncio.gather(
            *[model.apredict([prefixes[i] + text]) for i, text in enumerate(found)]
        )
        for i, (vector, role) in enumerate(zip(got, roles, strict=True)):
            np.testing.assert_allclose(vector[0], expected[role][i], atol=1e-5)
        np.testing.assert_allclose(await model.apredict(found), expected[None], atol=1e-5)

    with mk.Batcher(static) as batcher:
        watched = mk.Monitor(
            batcher, mk.Profile.fit({"text": np.array(found, object)}, text=("text",))
        )
        asyncio.run(main({"bare": static, "batched": batcher, "watched": watched}[wrap]))


def test_a_cancelled_task_takes_nobody_with_it(static):
    found = sentences(60, seed=9)
    expected = static.embed(found)

    async def main():
        tasks = [asyncio.create_task(batcher.apredict([text])) for text in found]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        for i, answer in enumerate(got):
            if i % 3 == 0 and isinstance(answer, asyncio.CancelledError):
                continue
            np.testing.assert_allclose(answer[0], expected[i], atol=1e-5)

    with mk.Batcher(static) as batcher:
        for _ in range(5):
            asyncio.run(main())


@pytest.mark.parametrize("bad", ["\ud800", "the \udfff"])
def test_a_bad_text_fails_its_caller_alone(static, bad):
    good = sentences(40, seed=10)
    expected = static.embed(good)

    def ask(i):
        if i % 4:
            return np.testing.assert_allclose(
                mk.embed(batcher, [good[i]])[0], expected[i], atol=1e-5
            )
        with pytest.raises(SignatureError, match=r"text 1 is not valid Unicode"):
            mk.embed(batcher, ["fine", bad])
        return None

    async def ask_all():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(context)
        )
        for _ in range(3):
            calls = [batcher.apredict([good[i]] if i % 4 else ["fine", bad]) for i in range(40)]
            got = await asyncio.gather(*calls, return_exceptions=True)
            for i, answer in enumerate(got):
                if i % 4:
                    np.testing.assert_allclose(answer[0], expected[i], atol=1e-5)
                else:
                    assert isinstance(answer, SignatureError)
                    assert answer.rows == (1,)
        assert complaints == []

    with mk.Batcher(static) as batcher:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(40)))
        asyncio.run(ask_all())


class Spy(mk.Wrapper):
    """Wraps an encoder, and remembers the tokens of each text of each run."""

    _call = mk.Model._call
    _acall = mk.Model._acall
    _arun = mk.Model._arun

    def __init__(self, model):
        super().__init__(model)
        self.runs = []

    def _run(self, feeds, outputs, call):
        prepared, _ = self.inner._prepare(feeds)
        self.runs.append([len(ids) for ids in prepared["tokens"]])
        return self.inner._run(feeds, outputs, call)


def test_the_card_of_a_wrapper_says_what_is_inside(static):
    with mk.Batcher(static, plan="learn") as batcher:
        card = batcher._repr_html_()
    assert str(static.recipe).split(";")[0].replace("'", "&#x27;") in card
    assert card.count("placement") == 1
    assert "batching" in card


def test_a_batcher_counts_tokens_and_not_texts(static):
    spy = Spy(static)
    found = [text + " river" for text in sentences(200, seed=11, most=90)]
    plan = make_plan(((1, 3e-3), (128, 4e-3)), 1, 128)
    with mk.Batcher(spy, max_rows=128, plan=plan) as batcher:
        batcher._scheduler.planner.observe = lambda *_: False  # it keeps the plan that it was given

        async def main():
            return await asyncio.gather(*[batcher.apredict([text]) for text in found])

        got = np.concatenate(asyncio.run(main()))
        assert max(batcher.stats().batch_sizes) <= 1023
    np.testing.assert_allclose(got, static.embed(found), atol=1e-5)
    assert sorted(n for run in spy.runs for n in run) == sorted(static.token_count(found).tolist())
    assert all(len(run) == 1 or sum(run) <= 128 for run in spy.runs)
    assert any(len(run) > 1 for run in spy.runs)


def test_embed_goes_through_whatever_wraps_an_encoder(static):
    found = sentences(30, seed=12)
    expected = static.embed(found, role="query", dims=128)
    profile = mk.Profile.fit({"text": np.array(sentences(200, seed=13), object)}, text=("text",))
    with mk.Batcher(static) as batcher:
        for model in (
            static,
            batcher,
            mk.Monitor(static, profile),
            mk.Monitor(batcher, profile),
            Spy(static),
        ):
            np.testing.assert_allclose(
                mk.embed(model, found, role="query", dims=128), expected, atol=1e-5
            )
    with pytest.raises(UsageError, match="put it outside"):
        mk.Batcher(mk.Monitor(static, profile))


@pytest.mark.parametrize("precision", ["int8", "ubinary"])
def test_vectors_come_as_codes_of_the_length_that_is_asked_for(static, precision):
    found = sentences(30, seed=14)
    whole = static.embed(found)
    cut = static.embed(found, dims=64)
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1)[whole.any(axis=1)], 1, atol=1e-5)
    expected = mk.quantize_embeddings(cut, precision)
    np.testing.assert_array_equal(static.embed(found, dims=64, precision=precision), expected)
    with mk.Batcher(static) as batcher:
        got = mk.embed(batcher, found, dims=64, precision=precision).view(np.uint8)
        assert (got != expected.view(np.uint8)).mean() < 0.01
    assert static.embed([], precision=precision).shape == (
        0,
        {"int8": 256, "ubinary": 32}[precision],
    )
    with pytest.raises(UsageError, match="precision is one of"):
        static.embed(["a"], precision="int4")


def test_a_bar_counts_blocks_of_many_texts(static, capsys):
    found = sentences(3 * WINDOW_TEXTS + 3, seed=15, most=4)
    vectors = static.embed(found, progress=True)
    assert "embed:   0%|          | 0/4" in capsys.readouterr().err
    np.testing.assert_array_equal(static.embed(found), vectors)
    static.embed(found)
    static.embed(found[:9], progress=True)  # a bar for one block would only flash
    assert capsys.readouterr().err == ""


def test_embed_refuses_what_holds_no_encoder(boosting_mk):
    model = mk.load(boosting_mk)
    for other in (model, mk.Batcher(model, plan="learn")):
        with pytest.raises(TypeError, match="texts are embedded by a TextEncoder"):
            mk.embed(other, ["a"])


def test_deadlines_and_priorities_go_with_a_call(static):
    with mk.Batcher(static) as batcher:
        assert mk.embed(batcher, ["a"], deadline=60.0, priority=-1, key="k").shape == (1, 256)
        assert static.embed(["a"], deadline=60.0, priority=-1, key="k").shape == (1, 256)
        with pytest.raises(ValueError, match="deadline"):
            mk.embed(batcher, ["a"], deadline=-1.0)


# The end.


def test_a_closed_encoder_says_so(tiny_mk):
    for encoder in (mk.load(tiny_mk), tiny()):
        encoder.embed(["a"])
        encoder.close()
        encoder.close()
        for ask in (encoder.embed, lambda texts, e=encoder: asyncio.run(e.apredict(texts))):
            for texts in (["a"], []):
                with pytest.raises(ClosedError, match="the model was closed"):
                    ask(texts)
        with pytest.raises(ClosedError):
            pickle.dumps(encoder)


def test_a_loaded_encoder_is_pickled_by_its_path(tiny_mk, encoder):
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(
        again.embed(["the river"], dims=4), encoder.embed(["the river"], dims=4)
    )
    assert again.identity == encoder.identity
    assert copy.copy(encoder) is copy.deepcopy(encoder) is encoder
    for other in (tiny(), mk.load(tiny_mk.read_bytes())):
        with pytest.raises(TypeError, match="pickled by the path"):
            pickle.dumps(other)
    with pytest.raises(TypeError, match="pickled by the path"):
        pickle.dumps(tiny(model_over_tokens()))
