"""Everyday pipelines of the benchmark's catalogue: saved, and asked about rows that were never seen.

A third of them, drawn with a fixed seed; all with MODELKIT_EVERYDAY=all.
"""

import os
import random
import warnings
from functools import partial

import pytest
from benchmarks.conversion.answers import compared, ties, truth_of, variants

pytest.importorskip("xgboost")
pytest.importorskip("lightgbm")
pytest.importorskip("catboost")
from benchmarks.conversion.pipelines import PIPELINES

import modelkit as mk

NEAR = 1e-5  # relative, where the runtime has operators in float32 alone
ALL = os.environ.get("MODELKIT_EVERYDAY") == "all"
DRAWN = PIPELINES if ALL else random.Random(0).sample(PIPELINES, len(PIPELINES) // 3)


def saved(model, seen, path):
    """The message with which a model is refused, "" where it is saved."""
    try:
        mk.save(model, path, example=seen, name="m", version="1")
    except mk.errors.ConversionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("pipeline", DRAWN, ids=lambda pipeline: pipeline.name)
def test_a_package_answers_rows_that_were_never_seen(pipeline, tmp_path, one_thread):
    try:
        model, seen, fresh = pipeline.fit()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refusal = saved(model, seen, tmp_path / "m.mk")
        if refusal:
            assert pipeline.refused, refusal
            assert pipeline.refused in refusal
            return
        with mk.load(tmp_path / "m.mk") as package:
            outputs = tuple(spec.name for spec in package.signature.outputs)
            for name, given, widened in variants(fresh, seen):
                expected = truth_of(model, widened, outputs)
                if expected is not None:
                    found = compared(expected, package.run(given), partial(ties, model, widened))
                    assert found.flips == found.ties, name
                    assert found.relative < NEAR, name


def test_names_are_unique_and_there_are_enough():
    names = [pipeline.name for pipeline in PIPELINES]
    assert len(set(names)) == len(names) >= 170
