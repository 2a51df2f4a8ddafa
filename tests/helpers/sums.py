"""The smallest Model: it adds up the two numbers of each row, or raises; and Meters of it that count in a folder."""

import numpy as np
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from helpers.kinds import wine

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


def save_wines(folder, name):
    """A folder with packages of one model of wines, `1.mk` to `6.mk`: the counts of a name belong to the process."""
    X, y = wine()
    classifier = LogisticRegression(max_iter=5000).fit(X, y)
    for version in "123456":
        mk.save(classifier, folder / f"{version}.mk", example=X, name=name, version=version)
    return folder
