"""Packages of equal models, made in several processes."""

import os
import subprocess
import sys


def test_equal_models_give_equal_bytes_in_every_process(tmp_path, monkeypatch):
    """Python draws another order of sets for each."""
    code = """
import sys, modelkit as mk
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
texts = ["a river", "the moon", "rivers of the moon", "kitchen table"] * 5
model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [0, 1, 1, 0] * 5)
digest = mk.save(model, sys.argv[1], example=texts, name="t", version="1").digest
"""
    command = [sys.executable, "-c", code + "print(digest)", str(tmp_path / "t.mk")]
    digests = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True, capture_output=True, text=True
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    monkeypatch.setattr(sys, "argv", command[2:])
    here = {}
    exec(code, here)  # noqa: S102 - in this process too
    assert digests == {here["digest"]}
