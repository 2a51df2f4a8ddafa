"""Prices of four shops: rows whose change is in some segments."""

import numpy as np

from helpers.streams import column, rng

SHOPS = ["a", "b", "c", "d"]


def rows(n, seed, moved=(), shift=1.5, shares=(0.4, 0.3, 0.2, 0.1)):
    """The price depends on the shop, and is shifted in the shops `moved`."""
    r = rng(seed, 71)
    shop = r.choice(SHOPS, n, p=shares)
    price = r.normal(size=n) + (shop == "a") + shift * np.isin(shop, moved)
    return {"price": price, "age": r.normal(40, 10, n), "shop": column(shop.tolist())}


def by(report, feature, column):
    return {
        drift.segment: drift
        for drift in report.segments
        if (drift.feature, drift.by) == (feature, column)
    }
