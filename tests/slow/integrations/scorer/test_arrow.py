"""Nulls in lists, for modules of torch that take missing values and for such as do not."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import modelkit as mk
from modelkit.errors import SignatureError

R = np.random.default_rng(0)


class Sums(torch.nn.Module):
    """Answers NaN as its graph does."""

    def forward(self, x):
        return torch.nan_to_num(x).sum(dim=1)


class Largest(torch.nn.Module):
    """Does not, so that its package takes finite numbers alone."""

    def forward(self, x):
        return x.amax(dim=1)


def saved(net, path):
    mk.save(net.eval(), path, example=torch.rand(40, 3), name="m", version="1")
    return path


@pytest.fixture(scope="module")
def largest(tmp_path_factory):
    return saved(Largest(), tmp_path_factory.mktemp("largest") / "m.mk")


def test_a_null_in_a_list_is_missing_where_the_model_takes_missing_values(tmp_path):
    """As pandas and the engines make nulls of NaN."""
    scorer = mk.Scorer(saved(Sums(), tmp_path / "m.mk"))
    rows = R.normal(size=(60, 3)).astype(np.float32)
    rows[R.random(rows.shape) < 0.2] = np.nan
    table = pa.Table.from_pandas(pd.DataFrame({"x": list(rows)}))
    assert table["x"].combine_chunks().flatten().null_count
    found = scorer.arrow(table).column(0).to_numpy()
    assert np.array_equal(found, mk.load(tmp_path / "m.mk", threads=1).predict(rows))


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.int64()])
def test_a_null_in_a_list_is_refused_where_it_does_not(largest, kind):
    scorer = mk.Scorer(largest)
    lists = pa.array([[1, 2, 3], [1, None, 3]], pa.list_(kind))
    with pytest.raises(SignatureError, match=r"missing value.* row 1"):
        scorer.arrow(pa.table({"x": lists}))
