"""Columns of texts, as a function sees them: see `stand_ins`.

A graph compares texts and puts one in place of another; it does not change their letters.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from modelkit.convert.estimators.stand_ins import (
    BY_KIND,
    METHODS,
    PROPERTIES,
    Symbol,
    made_of,
    pandas,
    stop,
    tensor_of,
)
from modelkit.convert.estimators.tensors import Var, ml
from modelkit.convert.estimators.traced import gathered
from modelkit.signature.rule import MISSING


def _texts(symbol: Any) -> Var:
    """(n, 1) of strings."""
    return tensor_of(symbol.cells, np.str_)


def _gaps(symbol: Any) -> Var:
    return _texts(symbol) == MISSING


def _operand(value: Any) -> Any:
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if isinstance(value, Symbol):
        return _texts(value)
    return value if isinstance(value, str) else stop(f"{value!r:.40} beside texts")


def _ufunc(function: Any, *inputs: Any) -> Symbol:
    """Whether texts are equal; one that is missing is unlike any other."""
    name = function.__name__
    if name not in ("equal", "not_equal"):
        stop(f"numpy.{name} of texts: only == and != can be followed")
    like = function(*(each.like if isinstance(each, Symbol) else each for each in inputs))
    columns = [each for each in inputs if isinstance(each, Symbol)]
    same = np.equal(*map(_operand, inputs))
    for each in columns:
        same = same & ~_gaps(each)
    return made_of(same if name == "equal" else ~same, like)


def _isna(symbol: Any) -> Symbol:
    return made_of(_gaps(symbol), symbol.like.isna())


def _notna(symbol: Any) -> Symbol:
    return made_of(~_gaps(symbol), symbol.like.notna())


def _fillna(symbol: Any, value: Any) -> Symbol:
    like = symbol.like.fillna(value.like if isinstance(value, Symbol) else value)
    return made_of(np.where(_gaps(symbol), _operand(value), _texts(symbol)), like)


def _places(symbol: Any, known: list[str]) -> Var:
    """Which of some texts each is; -1 for any other."""
    return ml.label_encoder(
        _texts(symbol),
        keys_tensor=np.array(known, np.str_),
        values_tensor=np.arange(len(known)),
        default_tensor=np.array([-1]),
    )


def _isin(symbol: Any, values: Any) -> Symbol:
    known = list(dict.fromkeys(values))
    if not known or not all(isinstance(value, str) for value in known):
        stop("isin of other than texts")
    found = _places(symbol, known) >= 0
    return made_of(found, symbol.like.isin(values))


def _map(symbol: Any, table: Any, **named: Any) -> Symbol:
    """What texts stand for in a dict, numbers or texts; a text that it has not is missing."""
    if (
        type(table) is not dict
        or named
        or not table
        or not all(isinstance(key, str) for key in table)
    ):
        stop("map by other than a dict of texts")
    like = symbol.like.map(table)
    values = list(table.values())
    places = _places(symbol, list(table))  # -1 takes the last, which is put behind the others
    if all(isinstance(value, str) for value in values):
        return made_of(gathered([*values, MISSING], places), like)
    if not all(isinstance(value, int | float | np.number) for value in values):
        stop("map by a dict of other than numbers or texts")
    return made_of(gathered([*values, np.nan], places), like)


def _replace(symbol: Any, old: Any, *new: Any) -> Symbol:
    table = (
        old
        if type(old) is dict and not new
        else {old: new[0]}
        if len(new) == 1 and isinstance(old, str)
        else {}
    )
    if not table or not all(isinstance(text, str) for pair in table.items() for text in pair):
        stop("replace by other than a dict of texts")
    places = _places(symbol, list(table))
    found = gathered([*table.values(), MISSING], places)
    kept = places < 0
    return made_of(np.where(kept, _texts(symbol), found), symbol.like.replace(old, *new))


def _where(symbol: Any, condition: Any, other: Any) -> Symbol:
    """Texts where a condition holds, and another text elsewhere."""
    like = symbol.like.where(condition.like, other.like if isinstance(other, Symbol) else other)
    holds = tensor_of(condition.cells, np.bool_)
    return made_of(np.where(holds, _texts(symbol), _operand(other)), like)


def _mask(symbol: Any, condition: Any, other: Any) -> Symbol:
    return _where(symbol, ~condition, other)


def _astype(symbol: Any, dtype: Any, **_: Any) -> Symbol:
    """Texts as such, of which pandas keeps missing ones apart."""
    like = symbol.like.astype(dtype)
    gap = pandas().Series([None, np.nan], dtype=symbol.dtype).astype(dtype)
    if dtype not in (str, "str", object, "object", "string") or not gap.isna().all():
        stop(f"astype({dtype!r}) of texts, of which some may be missing: fill them first")
    return Symbol(symbol.cells, like)


class Letters:
    """What `column.str` is, of which a graph has nothing."""

    def __init__(self, symbol: Any) -> None:
        self._symbol = symbol

    def __getattr__(self, name: str) -> NoReturn:
        stop(f"str.{name}: do it before fit")


def texts_like(column: Any, count: int, rng: np.random.Generator, *, gaps: bool) -> Any:
    """Texts that a column holds, and others; some of them missing."""
    held = np.array([*column.dropna().unique(), "", " ", "another text"], object)
    texts = column.iloc[np.zeros(count, int)].reset_index(drop=True)
    texts[:] = rng.choice(held, count)
    return texts.mask(rng.random(count) < 1 / 4) if gaps else texts


BY_KIND["O"] = {
    "astype": _astype,
    "fillna": _fillna,
    "isin": _isin,
    "isna": _isna,
    "isnull": _isna,
    "map": _map,
    "mask": _mask,
    "notna": _notna,
    "notnull": _notna,
    "replace": _replace,
    "ufunc": _ufunc,
    "where": _where,
}
PROPERTIES["str"] = Letters


def _of_each_column(name: str) -> Any:
    """Calls the method on each column of a frame that mixes numbers, times and texts."""

    def method(symbol: Any, *args: Any, **named: Any) -> Any:
        if args and isinstance(args[0], dict) and name == "fillna":  # one for each column
            return METHODS[name](symbol, *args, **named)
        like = getattr(symbol.like, name)(*args, **named)
        places = range(symbol.like.shape[1])
        columns = [getattr(symbol.iloc[:, at], name)(*args, **named) for at in places]
        return Symbol([column.cells[0] for column in columns], like)

    return method


BY_KIND["mixed"] = {
    "ufunc": lambda function, *_: stop(
        f"numpy.{function.__name__} of a frame of several kinds of columns"
    ),
    **{
        name: _of_each_column(name)
        for name in ("fillna", "isna", "isnull", "notna", "notnull", "replace")
    },
}
