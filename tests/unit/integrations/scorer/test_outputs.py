"""Outputs of a Scorer that would have one name."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.integrations.scorer.outputs import check_known_widths

R = np.random.default_rng(0)
IMAGES = R.normal(size=(7, 3)).astype(np.float32)


def test_two_outputs_of_one_name_in_a_frame_are_refused(alike):
    """One of them was lost without a word."""
    scorer = mk.Scorer(alike)
    (name,) = scorer.inputs
    frame = pd.DataFrame({name: list(IMAGES)})
    with pytest.raises(SignatureError, match=r"would be named \['y_0'\]"):
        scorer.frame(frame)
    assert scorer.arrow(pa.table({name: list(IMAGES)})).column_names == ["y", "y_0"]
    assert list(mk.Scorer(alike, outputs=["y"]).frame(frame)) == ["y_0", "y_1"]


def test_a_kept_column_is_not_written_over_by_an_output(wide):
    scorer = mk.Scorer(wide, keep=["y_0"])
    rows = pd.DataFrame({"x": [[1.0, 2, 3], [4, 5, 6]], "y_0": ["kept", "kept"]})
    with pytest.raises(SignatureError, match=r"would be named \['y_0'\]; score an Arrow table"):
        scorer.frame(rows)
    table = scorer.arrow(pa.table({"x": rows["x"], "y_0": rows["y_0"]}))
    assert table.to_pydict() == {"y_0": ["kept", "kept"], "y": [[1, 2, 3], [4, 5, 6]]}
    with pytest.raises(SignatureError, match=r"\['y'\] have as many values a row as the rows say"):
        check_known_widths(scorer.outputs, "Dask")
