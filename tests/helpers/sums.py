"""The smallest Model: it adds up the two numbers of each row, or raises; and Meters of it that count in a folder."""

import numpy as np

import modelkit as mk

SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float64", ("batch", 2)),),
    (mk.TensorSpec("prediction", "float64", ("batch",)),),
)
ROW = np.ones((1, 2))


def summed(raising=None):
    def fn(feeds):
        if raising is not None:
            raise raising
        return {"prediction": feeds["x"].sum(axis=1)}

    return mk.FunctionModel(fn, SIGNATURE, batchable=True)


def metered(folder):
    """A Meter that has counted one call."""
    meter = mk.Meter(summed(), shared=folder)
    meter.predict(ROW)
    return meter


def answered(meter):
    return meter.totals().calls["ok"]


def slabs(folder):
    """The files of the processes that count in a folder."""
    return sorted(path for path in folder.iterdir() if path.suffix == ".slabs")
