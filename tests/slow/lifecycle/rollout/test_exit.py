"""A process may end while a thread of a Rollout runs a model: its status stays its own."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.processes import run
from sklearn.linear_model import LogisticRegression

import modelkit as mk

X = np.random.default_rng(0).normal(size=(60, 3))
SHADOW = """
    import sys, numpy as np, modelkit as mk
    X = np.zeros((1, 3))
    models = [mk.load(f"{sys.argv[1]}/{version}.mk", threads=1) for version in ("1.0.0", "1.1.0")]
    shadow = mk.RolloutStage(0, calls=10_000)
    policy = mk.RolloutPolicy((shadow, mk.RolloutStage(0.5)), [mk.Guard("errors")])
    rollout = mk.Rollout(*models, policy=policy)
    for _ in range(2000):
        rollout.predict(X)
    print("ended")
"""
LOADING = """
    import sys, threading, numpy as np, modelkit as mk
    X = np.zeros((1, 3))
    registry = mk.Registry(sys.argv[1] + "/models")
    for version in ("1.0.0", "1.1.0"):
        registry.register(f"{sys.argv[1]}/{version}.mk")
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    loading = threading.Event()

    def wrap(model):
        if threading.current_thread() is not threading.main_thread():
            loading.set()
            for _ in range(5000):
                model.run(X)
        return model

    rollout = mk.Rollout(registry, "churn", poll=1e-4, threads=1, wrap=wrap)
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="second")
    while not loading.wait(1e-3):
        rollout.predict(X)
    print("ended")
"""


@pytest.mark.parametrize("code", [SHADOW, LOADING], ids=["in shadow", "loading"])
def test_the_status_is_the_program_s(code, tmp_path):
    for version in ("1.0.0", "1.1.0"):
        model = LogisticRegression().fit(X, (X[:, 0] > 0).astype(int))
        mk.save(model, tmp_path / f"{version}.mk", example=X, name="churn", version=version)
    assert run(code, tmp_path) == "ended\n"
