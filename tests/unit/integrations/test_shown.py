"""What a scrape shows of Models, though another scrape begins within it."""

from helpers.sums import SIGNATURE

import modelkit as mk
from modelkit.integrations.shown import Shown


class Alone(mk.Model):
    """A Model of a name of its own: under others, the Meters of other tests are shown too."""

    signature = SIGNATURE
    batchable = True

    def _run(self, feeds, outputs, call):
        return {"prediction": feeds["x"].sum(axis=1)}


def test_a_scrape_within_a_scrape_ends(monkeypatch):
    meter = mk.Meter(mk.Batcher(Alone()))
    shown = Shown([meter])
    of_layers = shown._of_layers
    inner = []

    def within(layers, known):
        if not inner:
            inner.append(None)
            inner[0] = shown.sums()
        return of_layers(layers, known)

    monkeypatch.setattr(shown, "_of_layers", within)
    assert shown.sums().keys() == inner[0].keys()
