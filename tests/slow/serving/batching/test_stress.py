"""Everything at once that a Batcher may be asked; `make stress` asks it for longer."""

import asyncio
import os
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.batchers import model_of, poisoned, wait_until
from helpers.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit.serving.batching.policy import make_plan

# Calls of each of ten callers; and the seconds they may take.
PATIENCE = 600.0  # seconds: thousands of calls wait at once, on a machine with other work
STRESS = int(os.environ.get("MODELKIT_STRESS", "200"))


class Mixer:
    """Asks in every way there is, at random, and checks that each answer is that to its own rows."""

    def __init__(self, batcher, seed, poison):
        self.batcher, self.random, self.poison = batcher, random.Random(seed), poison
        self.answered = 0

    def ask_for(self):
        rows = self.random.choice([1, 1, 1, 1, 2, 3, 20])
        values = np.array([self.random.randrange(10**6) for _ in range(rows)], np.float32)
        bad = self.random.random() < self.poison
        if bad:
            values[self.random.randrange(rows)] = 666
        x = np.stack([values, values], 1)
        options = {
            "deadline": self.random.choice([None, None, PATIENCE]),
            "priority": self.random.choice([0, 0, -1]),
        }
        return x, bad or bool((values == 666).any()), options

    def check(self, x, bad, get):
        try:
            got = get()
        except ArithmeticError:
            assert bad
        else:
            assert not bad
            np.testing.assert_array_equal(got, 2 * x[:, :1])
        self.answered += 1

    def thread(self, count):
        futures = []
        for _ in range(count):
            x, bad, options = self.ask_for()
            if self.random.random() < 0.3:
                futures.append((x, bad, self.batcher.submit(x, **options)))
            else:
                self.check(x, bad, lambda x=x, options=options: self.batcher.predict(x, **options))
        for x, bad, future in futures:
            self.check(x, bad, lambda future=future: future.result(PATIENCE))

    async def task(self, count):
        for _ in range(count):
            x, bad, options = self.ask_for()
            task = asyncio.ensure_future(self.batcher.apredict(x, **options))
            if self.random.random() < 0.02:
                await asyncio.sleep(0)
                task.cancel()
            try:
                got = await task
            except asyncio.CancelledError:
                self.answered += 1
            except ArithmeticError:
                self.check(x, bad, self.refuse)
            else:
                self.check(x, bad, lambda got=got: got)

    def refuse(self):
        raise ArithmeticError

    async def tasks(self, count):
        await asyncio.gather(*(self.task(count // 8) for _ in range(8)))


def stress(plan, seed, count, poison=0.01):
    with mk.Batcher(model_of(poisoned), plan=plan, max_queue=1 << 30) as batcher:
        mixers = [Mixer(batcher, (seed, i).__hash__(), poison) for i in range(10)]
        with ThreadPoolExecutor(10) as pool:
            done = [pool.submit(mixer.thread, count) for mixer in mixers[:8]]
            done += [pool.submit(asyncio.run, mixer.tasks(count)) for mixer in mixers[8:]]
            for future in done:
                future.result(STRESS)
        assert sum(mixer.answered for mixer in mixers) == 8 * count + 2 * (count // 8 * 8)
        stats = batcher.stats()
        assert stats.queued == 0
        # The last answers are out before the runner that gave them has retired.
        scheduler = batcher._scheduler
        wait_until(
            lambda: (scheduler.active, scheduler.running, scheduler.queue.waiting) == (0, 0, 0)
        )


@pytest.mark.parametrize("seed", range(3))
def test_two_loops_and_eight_threads_get_what_they_asked_for(plan, seed):
    stress(plan, seed, STRESS)


@settings(max_examples=examples(15), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 3),
    st.integers(1, 12),
)
def test_any_mixture_of_good_and_bad_calls_is_answered_call_by_call(calls, slots, cap):
    async def main():
        return await asyncio.gather(
            *(
                batcher.apredict(np.full((rows, 2), 666 if bad else rows, np.float32))
                for rows, bad in calls
            ),
            return_exceptions=True,
        )

    with mk.Batcher(
        model_of(poisoned), plan=make_plan(((1, 3e-3), (64, 4e-3)), slots, cap)
    ) as batcher:
        got = asyncio.run(main())
    for (rows, bad), answer in zip(calls, got, strict=True):
        if bad and rows:
            assert isinstance(answer, ArithmeticError)
        else:
            assert answer.tolist() == [[2.0 * rows]] * rows
