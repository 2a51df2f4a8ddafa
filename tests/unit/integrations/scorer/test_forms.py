"""Rows in another form than a door of a Scorer takes are refused, with what takes them."""

import pytest
from helpers.scored import TABLE, X

import modelkit as mk


@pytest.mark.parametrize(
    ("form", "wrong", "says"),
    [
        ("__call__", X, "a DataFrame and no dict of arrays"),
        ("__call__", TABLE, "a Table and no dict of arrays"),
        ("__call__", [1, 2], "a list and no dict of arrays"),
        ("frame", {"a": [1.0], "b": [2.0]}, "a dict and no pandas frame"),
        ("frame", TABLE, "a Table and no pandas frame"),
        ("frame", X["a"], "a Series and no pandas frame"),
        ("arrow", X, "a DataFrame and no Arrow table"),
        ("arrow", {"a": [1.0]}, "a dict and no Arrow table"),
        ("batches", TABLE, "record batches has a ChunkedArray"),
        ("batches", X, "record batches has a str"),
    ],
)
def test_another_form_is_told_with_what_takes_it(package, form, wrong, says):
    with pytest.raises(TypeError, match=f"{says}.*pandas frame by .frame"):
        list(getattr(mk.Scorer(package), form)(wrong))


def test_a_table_is_no_schema(package):
    with pytest.raises(TypeError, match=r"no Arrow schema: .* table.schema"):
        mk.Scorer(package).schema(TABLE)


def test_a_record_batch_is_scored_as_a_table(package):
    scorer = mk.Scorer(package)
    assert scorer.arrow(TABLE.to_batches()[0]).equals(scorer.arrow(TABLE))
