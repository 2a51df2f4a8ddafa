"""Columns of texts, as a function sees them: see `stand_ins`.

A graph compares texts and puts one in place of another; it does not change their letters.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from modelkit.convert.estimators.stand_in_cells import elementwise, gap
from modelkit.convert.estimators.stand_ins import FOLLOWED, PROPERTIES, Symbol, pandas, real, stop
from modelkit.convert.estimators.tensors import Var, constant
from modelkit.signature.cast import MISSING, is_missing


def _operand(value: Any, _: Any = None) -> Any:
    """A text that is always the same, or a missing one; a column stays one."""
    value = value[()] if isinstance(value, np.ndarray) and not value.ndim else value
    if isinstance(value, Symbol):
        return value
    if isinstance(value, str):
        return constant(value, np.str_)
    return constant(MISSING, np.str_) if is_missing(value) else stop(f"{value!r:.40} beside texts")


def _ufunc(function: Any, *inputs: Any) -> Symbol:
    """Whether texts are equal; one that is missing is unlike any other."""
    name = function.__name__
    if name not in ("equal", "not_equal"):
        stop(f"numpy.{name} of texts: only == and != can be followed")

    def make(one: Var, other: Var) -> Var:
        same = np.equal(one, other) & ~gap(one)
        return same if name == "equal" else ~same

    return elementwise(function(*real(inputs)), make, *map(_operand, inputs))


def _astype(x: Any, dtype: Any, **_: Any) -> Symbol:
    """Texts as such, of which pandas keeps missing ones apart."""
    missing = pandas().Series([None, np.nan], dtype=x.dtype).astype(dtype)
    if dtype not in (str, "str", object, "object", "string") or not missing.isna().all():
        stop(f"astype({dtype!r}) of texts, of which some may be missing: fill them first")
    return Symbol(x.cells, x.like.astype(dtype))


class Letters:
    """What `column.str` is, of which a graph has nothing."""

    def __init__(self, _: Any) -> None:
        pass

    def __getattr__(self, name: str) -> NoReturn:
        stop(f"str.{name}: do it before fit")


def texts_like(column: Any, count: int, rng: np.random.Generator, *, gaps: bool) -> Any:
    """Texts that a column holds, and others; some of them missing."""
    held = np.array([*column.dropna().unique(), "", " ", "another text"], object)
    texts = column.iloc[np.zeros(count, int)].reset_index(drop=True)
    texts[:] = rng.choice(held, count)
    return texts.mask(rng.random(count) < 1 / 4) if gaps else texts


FOLLOWED |= {("O", "astype"): _astype, ("O", "operand"): _operand, ("O", "ufunc"): _ufunc}
PROPERTIES["str"] = Letters
