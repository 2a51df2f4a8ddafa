"""Objects, texts and tensors of other libraries are rows too."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

import modelkit as mk
from modelkit.errors import SignatureError


@dataclasses.dataclass
class House:
    rooms: float
    town: str | None


class HouseTuple(NamedTuple):
    rooms: float
    town: str | None


def house_signature(**options):
    columns = (mk.Column("rooms"), mk.Column("town", "string", nullable=True))
    inputs = tuple(
        mk.TensorSpec(column.name, column.dtype, ("batch", 1), (column,)) for column in columns
    )
    return mk.Signature(inputs, (mk.TensorSpec("price", "float64", ("batch",)),), **options)


def as_pydantic(rooms, town):
    pydantic = pytest.importorskip("pydantic")

    class HouseModel(pydantic.BaseModel):
        number: float = pydantic.Field(alias="rooms")
        town: str | None = None

    return HouseModel(rooms=rooms, town=town)


def as_attrs(rooms, town):
    attrs = pytest.importorskip("attrs")
    return attrs.make_class("HouseClass", ["rooms", "town"])(rooms, town)


@pytest.mark.parametrize("kind", [House, HouseTuple, as_pydantic, as_attrs])
def test_objects_are_rows(kind):
    signature = house_signature()
    expected = signature.coerce([{"rooms": 3, "town": "Ulm"}, {"rooms": 4, "town": None}])
    for batch in (list, tuple):
        found = signature.coerce(batch([kind(3, "Ulm"), kind(4, None)]))
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in expected.items()
        }
    with pytest.raises(SignatureError, match=r"a single record; pass a list of records"):
        signature.coerce(kind(3, "Ulm"))


def test_texts_are_rows_of_a_model_of_texts():
    text = mk.TensorSpec("text", "string", ("batch", 1), (mk.Column("text", "string"),))
    signature = mk.Signature((text,), (mk.TensorSpec("y", "float64", ("batch",)),))
    assert signature.coerce(["a", "b"])["text"].tolist() == [["a"], ["b"]]
    with pytest.raises(SignatureError, match="missing value in row 1"):
        signature.coerce(["a", None])
    with pytest.raises(SignatureError, match="1 in row 1 is of type int, a string is expected"):
        signature.coerce(["a", 1])
    assert signature.coerce(pd.Series(["a", "b"]))["text"].tolist() == [["a"], ["b"]]
    with pytest.raises(SignatureError, match="list of str"):
        house_signature().coerce(["a"])
    with pytest.raises(SignatureError, match="a single record"):
        signature.coerce(HouseTuple("3", "Ulm"))  # not two rows


def test_torch_tensors_are_rows_where_numpy_shares_them():
    torch = pytest.importorskip("torch")
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("batch", 3)),), (mk.TensorSpec("y", "float32", ("batch",)),)
    )
    rows = torch.ones(2, 3)
    assert np.shares_memory(signature.coerce(rows)["x"], rows.numpy())
    assert signature.coerce({"x": rows.double()})["x"].dtype == np.float32
    for bad, fix in (
        (torch.ones(2, 3, requires_grad=True), r"pass X\.detach\(\)"),
        (torch.ones(2, 3, device="meta"), r"a torch tensor on meta; pass X\.cpu\(\)"),
        (torch.ones(2, 3, dtype=torch.bfloat16), r"torch\.bfloat16"),
    ):
        for given in (bad, {"x": bad}):
            with pytest.raises(SignatureError, match=fix):
                signature.coerce(given)
