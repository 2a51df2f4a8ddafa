"""A classifier of flowers in a few lines, and a wrapper that keeps what passes through it."""

import numpy as np
import pandas as pd

from modelkit import Column, FunctionModel, Model, Signature, TensorSpec, Wrapper

COLUMNS = (Column("a", "float32"), Column("b", "float32"))
FLOWER = Signature(
    (TensorSpec("X", "float32", ("batch", 2), COLUMNS),),
    (
        TensorSpec("label", "string", ("batch",)),
        TensorSpec("probabilities", "float32", ("batch", 2)),
    ),
    classes=("iris", "rose"),
)
ROWS = pd.DataFrame({"b": [3.0, -4.0, 0.5, 2.0], "a": [1.0, 2.0, -1.0, 0.0]})
LABELS = ["rose", "iris", "iris", "rose"]
VERBS = ("run", "predict", "predict_proba")


def flower(feeds):
    rose = 1 / (1 + np.exp(-feeds["X"].sum(axis=1)))
    return {
        "label": np.where(rose > 0.5, "rose", "iris"),
        "probabilities": np.column_stack([1 - rose, rose]).astype(np.float32),
    }


def regression(fn=lambda feeds: {"prediction": feeds["X"].sum(axis=1)}, width=None):
    shape = ("batch",) if width is None else ("batch", width)
    return FunctionModel(
        fn, Signature(FLOWER.inputs, (TensorSpec("prediction", "float32", shape),))
    )


# Deadline, priority and key.


class Recorder(Wrapper):
    """Keeps the coerced feeds that pass through it."""

    _call = Model._call
    _acall = Model._acall

    def __init__(self, inner):
        super().__init__(inner)
        self.hooks = []

    def _run(self, feeds, outputs, call):
        self.hooks.append(("_run", feeds, outputs, call))
        return self._inner._run(feeds, outputs, call)

    async def _arun(self, feeds, outputs, call):
        self.hooks.append(("_arun", feeds, outputs, call))
        return await self._inner._arun(feeds, outputs, call)
