"""Of several processes that promote by a verdict, one wins."""

from __future__ import annotations

import multiprocessing

from helpers.judged import judged
from helpers.rival_gates import promote

SPAWN = multiprocessing.get_context("spawn")


def test_of_two_gates_on_one_champion_one_wins(judged_place, judged_rows):
    registry, candidate, other = judged_place
    verdicts = [judged(registry, path, judged_rows).to_json() for path in (candidate, other)]
    for path in (candidate, other):
        registry.register(path)
    ready = SPAWN.Barrier(4)
    results = SPAWN.Queue()
    workers = []
    for at in range(4):
        version = ("1.1.0", "1.2.0")[at % 2]
        arguments = (registry.url, version, verdicts[at % 2], ready, results)
        workers.append(SPAWN.Process(target=promote, args=arguments))
    for worker in workers:
        worker.start()
    found = [results.get(timeout=280) for _ in workers]
    for worker in workers:
        worker.join(280)
    assert sorted(outcome for _, outcome in found) == ["lost", "lost", "lost", "won"]
    ((winner, _),) = [each for each in found if each[1] == "won"]
    assert registry.aliases("churn")["champion"].version == winner
    assert registry.generation("churn") == 2
