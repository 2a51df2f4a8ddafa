"""What a scrape shows of Models, though another scrape begins within it."""

import pytest
from helpers.sums import summed

import modelkit as mk
from modelkit.integrations.shown import Shown


@pytest.mark.usefixtures("own_counts")
def test_a_scrape_within_a_scrape_ends(monkeypatch):
    meter = mk.Meter(mk.Batcher(summed()))
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
