"""One everyday pipeline: what is fitted on which rows, and how its source is asked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

TRAINED_SHARE = 0.7  # of the rows; the others are never seen by fit or by save


@dataclass(frozen=True)
class Everyday:
    """`make` gives an estimator that is not fitted, and `rows` gives `(X, y)`.

    `keywords` are further arguments of `fit`, from the number of rows. `refused` is part of the
    message where `mk.save` is known to refuse it, "" where it converts.
    """

    name: str
    make: Callable[[], Any]
    rows: Callable[[], tuple[Any, Any]]
    keywords: Callable[[int], dict[str, Any]] | None = None
    refused: str = ""

    def fit(self) -> tuple[Any, Any, Any]:
        """The fitted model, the rows it was fitted on, and rows that it has never seen."""
        X, y = self.rows()
        trained = int(TRAINED_SHARE * len(X))
        trained -= trained % 10  # rankers take their rows by tens
        seen = part(X, slice(0, trained))
        model = self.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = () if y is None else (y[:trained],)
            keywords = self.keywords(trained) if self.keywords else {}
            model = model.fit(seen, *known, **keywords)
        return model, seen, part(X, slice(trained, None))


def part(X: Any, chosen: Any) -> Any:
    """Some of the rows, in the container that they are in."""
    if isinstance(X, list):
        return [X[i] for i in np.arange(len(X))[chosen]]
    return X.iloc[chosen].reset_index(drop=True) if hasattr(X, "iloc") else X[chosen]


@dataclass
class Native:
    """A library's own training, in the form of an estimator: `fit` gives what `train` makes."""

    train: Callable[[Any, Any], Any]

    def fit(self, X: Any, y: Any) -> Any:
        return self.train(X, y)
