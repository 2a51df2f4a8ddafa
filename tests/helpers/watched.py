"""A model of three columns that a Monitor watches, and rows for it."""

import numpy as np

import modelkit as mk

WIDTH = 3


SIGNATURE = mk.Signature(
    inputs=[mk.TensorSpec("X", "float32", ("batch", WIDTH),
    columns=tuple(mk.Column(f"x{i}", "float32") for i in range(WIDTH)))],
    outputs=[mk.TensorSpec("prediction", "float32", ("batch",)), mk.TensorSpec("extra", "float32", ("batch", 2))],
)  # fmt: skip


def answer(feeds):
    return {"prediction": feeds["X"].sum(axis=1), "extra": feeds["X"][:, :2] * 2}


def rows(n, seed=0, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (n, WIDTH)).astype(np.float32)


def model():
    return mk.FunctionModel(answer, SIGNATURE, batchable=True)
