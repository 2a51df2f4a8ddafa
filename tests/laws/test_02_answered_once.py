"""Law 2. Every submitted row is answered exactly once: a result, or an error of its own; no answer mixes two versions.

For longer, and with every way to call: `tests/slow/serving/batching/test_stress.py` and `tests/slow/lifecycle`.
"""

import asyncio

import numpy as np
from helpers.batchers import model_of, poisoned
from helpers.examples import examples
from helpers.rollouts import ROWS, model
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import SignatureError

GOOD, POISONED, WRONG, LEFT = "good", "poisoned", "another shape", "cancelled"
CALLS = st.lists(
    st.tuples(st.sampled_from([GOOD, GOOD, GOOD, POISONED, WRONG, LEFT]), st.integers(1, 3)),
    min_size=1,
    max_size=24,
)


def rows_of(kind, size, number):
    values = np.full((size, 3 if kind == WRONG else 2), float(number), np.float32)
    if kind == POISONED:
        values[-1] = 666
    return values


@settings(max_examples=examples(90))
@given(calls=CALLS)
def test_each_call_gets_its_own_answer_or_its_own_error(calls):
    async def main():
        with mk.Batcher(model_of(poisoned), plan="learn") as batcher:
            tasks = []
            for number, (kind, size) in enumerate(calls):
                rows = rows_of(kind, size, number)
                tasks.append(asyncio.create_task(batcher.apredict(rows)))
            await asyncio.sleep(0)
            for task, (kind, _) in zip(tasks, calls, strict=True):
                if kind == LEFT:
                    task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(main())
    expected = {POISONED: ArithmeticError, WRONG: SignatureError, LEFT: asyncio.CancelledError}
    for number, (answer, (kind, size)) in enumerate(zip(answers, calls, strict=True)):
        if isinstance(answer, np.ndarray):
            assert kind in (GOOD, LEFT)  # it may have been answered before it was cancelled
            assert answer.tolist() == [[2.0 * number]] * size
        else:
            assert isinstance(answer, expected[kind]), (kind, answer)
    errors = [answer for answer in answers if isinstance(answer, ArithmeticError)]
    assert len({id(error) for error in errors}) == len(errors)


@settings(max_examples=examples(60))
@given(
    moves=st.lists(st.sampled_from(["call", "call", "call", "end"]), max_size=40),
    promoted=st.booleans(),
)
def test_a_swap_drops_no_call_and_no_answer_mixes_two_versions(moves, promoted):
    rollout = mk.Rollout(model(1), model(2), share=0.5, seed=0)
    seen, ended = set(), False
    for move in moves:
        if move == "end" and not ended:
            rollout.promote() if promoted else rollout.rollback()
            ended, seen = True, set()
        answer = rollout.run(ROWS)
        np.testing.assert_array_equal(answer["y"], ROWS.sum(axis=1))
        (who,) = set(answer["who"].tolist())
        seen.add(who)
    if ended:
        assert seen <= {2 if promoted else 1}
