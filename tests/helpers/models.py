"""The Models that every law is tried on: one table, of packages that are saved once a run and of what wraps them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

import modelkit as mk
from helpers.forms import CONTAINERS, Table
from helpers.packages import trusted


@dataclass(frozen=True)
class Subject:
    """A Model, rows that it takes, and how far the answers to a row may differ between batches."""

    model: mk.Model
    rows: Any  # a frame, an array or a list of texts
    rtol: float = 1e-5
    atol: float = 1e-6

    @property
    def columns(self) -> tuple[mk.Column, ...]:
        return tuple(column for spec in self.model.signature.inputs for column in spec.columns)

    def take(self, places: Any) -> Any:
        """Some of the rows, in this order."""
        if isinstance(self.rows, pd.DataFrame):
            return self.rows.iloc[list(places)]
        if isinstance(self.rows, np.ndarray):
            return self.rows[list(places)]
        return [self.rows[place] for place in places]

    def forms(self) -> dict[str, Any]:
        """The same rows in every form that the Model takes, by name."""
        if not isinstance(self.rows, pd.DataFrame):
            (spec,) = self.model.signature.inputs
            return {
                name: form(self.rows, spec.name) for name, form in FORMS[type(self.rows)].items()
            }
        frame = self.rows[[column.name for column in self.columns]]
        plain = frame.astype(object).where(frame.notna(), None)
        table = Table(self.model.signature, self.columns, plain.to_dict("records"))
        return {name: form(table, self.columns) for name, form in CONTAINERS.items()}


# The forms of rows without columns, of their values and the name of the tensor.
FORMS = {
    np.ndarray: {
        "array": lambda rows, _: rows,
        "lists": lambda rows, _: rows.tolist(),
        "tuples": lambda rows, _: [*map(tuple, rows.tolist())],
        "another order in memory": lambda rows, _: np.asfortranarray(rows),
        "feeds": lambda rows, name: {name: rows},
        "feeds of lists": lambda rows, name: {name: rows.tolist()},
    },
    list: {
        "list": lambda texts, _: texts,
        "tuple": lambda texts, _: tuple(texts),
        "array": lambda texts, _: np.array(texts, object),
        "pandas": lambda texts, _: pd.Series(texts),
        "index": lambda texts, _: pd.Index(texts),
        "categories": lambda texts, _: pd.Series(texts, dtype="category"),
        "polars": lambda texts, _: pl.Series(texts),
        "arrow": lambda texts, _: pa.array(texts),
        "chunks": lambda texts, _: pa.chunked_array([texts[:1], texts[1:]]),
        "feeds": lambda texts, name: {name: texts},
    },
}


def named(rows, columns):
    """An array as a frame of these columns."""
    return pd.DataFrame(np.asarray(rows), columns=list(columns))


def arrays(get):
    rows = get("breast_cancer")[0].to_numpy()[::20]

    def save(path):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        X, y = get("breast_cancer")
        fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(X.to_numpy(), y)
        mk.save(fitted, path, example=X.to_numpy(), name="arrays", version="1")

    model = mk.load(get("once")("arrays.mk", save))
    return Subject(
        model, named(rows, (column.name for column in model.signature.inputs[0].columns))
    )


def strings(get):
    return Subject(mk.load(get("penguins_mk")), get("penguins")[0][::12])


def boosting(get):
    return Subject(mk.load(get("boosting_mk")), get("breast_cancer")[0][::20])


def graph(get):
    rows = np.random.default_rng(3).normal(size=(24, 256)).astype(np.float32)
    return Subject(mk.load(get("dense_mk")), rows, rtol=1e-4, atol=1e-4)


def encoder(get):
    from helpers.encoders import sentences

    return Subject(mk.load(get("tiny_mk")), [text or "a" for text in sentences(20, seed=3)])


def reranker(get):
    from helpers.encoders import sentences

    texts = sentences(40, seed=3)
    rows = pd.DataFrame({"query": texts[:20], "text": texts[20:]})
    return Subject(mk.load(get("pairs_mk")), rows.replace("", "a"))


def function(get):
    columns = tuple(mk.Column(name) for name in ("a", "b", "c"))
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 3), columns),),
        (mk.TensorSpec("prediction", "float64", ("batch",)),),
    )
    model = mk.FunctionModel(
        lambda feeds: {"prediction": feeds["X"] @ np.array([1.0, 2.0, -3.0])},
        signature,
        batchable=True,
    )
    rows = np.random.default_rng(4).normal(size=(30, 3))
    return Subject(model, named(rows, "abc"), rtol=1e-12, atol=1e-12)


def joblib(get):
    return Subject(trusted(get("joblib_mk")), get("categorical")[1][::12])


def around(wrap: Callable[[mk.Model, Any], mk.Model], inner: Callable[[Any], Subject]):
    """A wrapper around another entry of the table."""

    def make(get):
        subject = inner(get)
        return Subject(wrap(subject.model, subject.rows), subject.rows, subject.rtol, subject.atol)

    return make


def batcher(model, _):
    return mk.Batcher(model, plan="learn")


def meter(model, _):
    return mk.Meter(model)


def monitor(model, rows):
    many = pd.concat([rows] * 5)
    return mk.Monitor(model, mk.Profile.fit(many, reference=many))


def replicas(model, _):
    return mk.Replicas([model, pickle.loads(pickle.dumps(model))])


def rollout(model, _):
    return mk.Rollout(model, model, share=0.5, seed=0)


def allowed(principal, action, about):
    return action == "predict" and bool(about.name)


def guarded(model, _):
    return mk.Guarded(model, allowed)


def checked(model, rows):
    return mk.InputChecks(model, pd.concat([rows] * 5), rate=0.1)


def audited(get):
    """A pipeline whose answers are recorded."""
    subject = strings(get)
    model = get("audit_log").answers(subject.model)
    return Subject(model, subject.rows, subject.rtol, subject.atol)


def layers(model, rows):
    many = pd.concat([rows] * 5)
    profile = mk.Profile.fit(many, reference=many)
    return mk.layered(model, batcher={"plan": "learn"}, monitor={"profile": profile})


LOADED = {
    "arrays": arrays,
    "a pipeline with strings": strings,
    "boosting": boosting,
    "a graph": graph,
    "an encoder": encoder,
    "a reranker": reranker,
    "joblib": joblib,
}
# Those whose rows have columns, which are explained and watched.
COLUMNED = {
    "arrays": arrays,
    "boosting": boosting,
    "a function": function,
    "strings": strings,
    "joblib": joblib,
}
BARE = LOADED | {"a function": function}
MODELS = BARE | {
    "a Batcher": around(batcher, strings),
    "a Batcher of texts": around(batcher, encoder),
    "a Meter": around(meter, boosting),
    "a Monitor": around(monitor, strings),
    "Replicas": around(replicas, arrays),
    "a Rollout": around(rollout, arrays),
    "answers of an AuditLog": audited,
    "an InputChecks": around(checked, strings),
    "an InputChecks of a Rollout": around(checked, around(rollout, arrays)),
    "a Guarded": around(guarded, strings),
    "a Guarded Rollout": around(guarded, around(rollout, arrays)),
    "all layers": around(layers, arrays),
}
