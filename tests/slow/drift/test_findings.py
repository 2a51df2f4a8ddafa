"""How rarely the test of a batch is wrong, in simulation."""

from helpers.streams import NULLS, at_most, rng

import modelkit as mk
from modelkit.drift.profile import Profile


def test_batch_false_alarms_are_as_rare_as_promised():
    count, runs = 0, 40
    for run in range(runs):
        r = rng(run, 51)
        train, held, batch = (
            {name: law(n, r) for name, law in NULLS.items()} for n in (300, 600, 200)
        )
        report = mk.Detector(Profile.fit(train, reference=held), alpha=0.1, seed=run).test(batch)
        count += bool(report.alarms)
    assert at_most(count, runs, 0.1), count
