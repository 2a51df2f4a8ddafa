"""Packages and rows that every engine is tested with, and what the local run answers to them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from onnx import TensorProto
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import modelkit as mk
from helpers.encoders import run_sizes, sentences, tiny
from helpers.graphs import model_of, tensor

ROWS = 1200
PARTS = 3
INPUTS = [
    "spent.total",
    "visits`n",
    "city",
    "age",
]  # a dot and a backquote, which Spark reads as syntax
NARROW = {"u8": TensorProto.UINT8, "u16": TensorProto.UINT16, "u32": TensorProto.UINT32,
          "half": TensorProto.FLOAT16, "flag": TensorProto.BOOL, "i64": TensorProto.INT64}  # fmt: skip


def customers(n, seed, shift=0.0):
    """Numbers and strings, some of each missing; and columns of other types, to keep."""
    r = np.random.default_rng(seed)
    visits = pd.array(r.integers(0, 30, n), "Int64")
    visits[r.random(n) < 0.1] = pd.NA
    city = r.choice(["Oslo", "Bergen", "Lom"], n).astype(object)
    city[r.random(n) < 0.05] = None
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "spent.total": np.where(r.random(n) < 0.1, np.nan, r.normal(shift, 1, n)),
            "visits`n": visits,
            "city": city,
            "age": r.normal(40, 10, n).astype(np.float32),
            "when": pd.Timestamp("2026-01-01", tz="UTC")
            + pd.to_timedelta(r.integers(0, 999, n), "h"),
            "tags": [["a", "b"][: i % 3] for i in range(n)],
            "raw": [bytes([i % 256]) for i in range(n)],
        }
    )


KEPT = ["id", "when", "tags", "raw", *INPUTS]


@dataclass(frozen=True)
class Packages:
    """Packages in a folder, each made when it is asked for."""

    folder: Path

    @cached_property
    def churn(self):
        """A pipeline over numbers, whole numbers that may be missing, and strings."""
        rows = customers(3000, 0)[INPUTS]
        before = make_column_transformer(
            (SimpleImputer(), ["spent.total", "visits`n", "age"]),
            (OneHotEncoder(handle_unknown="ignore"), ["city"]),
        )
        labels = np.where(rows["spent.total"].fillna(0) > 0, "yes", "no")
        floats = rows.assign(**{"visits`n": rows["visits`n"].astype(float)})
        model = make_pipeline(before, LogisticRegression()).fit(floats, labels)
        return self._saved(model, "churn", rows)

    @cached_property
    def forest(self):
        """Trees over floats, with the rows that explanations compare with."""
        rows = self.numbers
        model = RandomForestClassifier(10, max_depth=4, random_state=0)
        model.fit(rows, rows["x0"] > 0)
        return self._saved(model, "forest", rows, background=rows[:50])

    @property
    def numbers(self):
        values = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
        return pd.DataFrame(values, columns=[f"x{i}" for i in range(4)])

    @cached_property
    def narrow(self):
        """A graph whose outputs have the types that few engines know."""
        nodes = [("Squeeze", ["x", "one"], ["flat"], {})]
        nodes += [("Cast", ["flat"], [name], {"to": kind}) for name, kind in NARROW.items()]
        nodes.append(("Cast", ["x"], ["lists"], {"to": TensorProto.UINT16}))
        outputs = [tensor(name, "n", kind=kind) for name, kind in NARROW.items()]
        outputs.append(tensor("lists", "n", 1, kind=TensorProto.UINT16))
        graph = model_of(nodes, [tensor("x", "n", 1)], outputs, {"one": np.array([1])})
        return self._saved(graph, "narrow", {"x": np.zeros((4, 1), np.float32)})

    @cached_property
    def wide(self):
        """A graph of one output that Spark has no type for."""
        graph = model_of(
            [("Cast", ["x"], ["u64"], {"to": TensorProto.UINT64})],
            [tensor("x", "n", 1)],
            [tensor("u64", "n", 1, kind=TensorProto.UINT64)],
        )
        return self._saved(graph, "wide", {"x": np.zeros((4, 1), np.float32)})

    @cached_property
    def texts(self):
        """A text encoder."""
        return self._saved(tiny(), "texts", None)

    @cached_property
    def run_sizes(self):
        """An encoder whose vectors tell with how many others a text was run."""
        return self._saved(run_sizes(), "sizes", None)

    def _saved(self, model, name, example, **options):
        path = self.folder / f"{name}.mk"
        mk.save(model, path, example=example, name=name, version="1", **options)
        return path


def local(package, rows):
    """What a Model of one thread answers."""
    return mk.load(package, threads=1).run(rows)


def profile_of(package, **options):
    """A Profile of customers and of a model's answers."""
    served = mk.load(package, threads=1)
    rows = [customers(3000, seed)[INPUTS] for seed in (2, 3)]
    if options:
        rows = [own.assign(table=np.arange(3000) // 100) for own in rows]
    return mk.Profile.fit(rows[0], reference=rows[1], model=served, **options)


def texts_of(n):
    """Texts of one word to many."""
    return pd.DataFrame({"text": [own or "a" for own in sentences(n, 4)], "id": range(n)})


def matrix(column):
    """A column of lists as an array."""
    return np.array([np.asarray(each) for each in column.to_pylist()])
