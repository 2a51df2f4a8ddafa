"""What tests of your own need: `check_model(model, X)` runs the contract of a Model, as named checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from modelkit.errors import SignatureError
from modelkit.model.model import Model, Outputs
from modelkit.model.wrapper import check_is_model
from modelkit.signature.spec import check_dims, numpy_dtype

__all__ = ["check_model"]

Close = Callable[[Outputs, Outputs, str], None]  # raises where outputs differ, of what is named
MOST_ROWS_ALONE = 16  # that are compared with their batch


def check_model(model: Model, X: Any, *, rtol: float = 1e-4, atol: float = 1e-6) -> None:
    """Run every check on a model; it is used, and not closed.

        from modelkit.testing import check_model
        check_model(model, X[:20])

    Args:
        model: the Model to check.
        X: a batch it accepts, with at least three rows.
        rtol: how far a row's numbers may differ between batches, relative to their size.
        atol: the same, absolutely.

    Raises:
        AssertionError: saying which check failed and how.
        TypeError: for anything but a Model.
    """
    check_is_model(model, "check_model")
    for check in (
        outputs_match_the_signature,
        verbs_agree,
        async_verbs_agree,
        coerce_has_an_inverse,
        zero_rows_give_zero_rows,
        what_is_no_batch_is_refused,
        threads_do_not_disturb_each_other,
        rows_do_not_depend_on_their_batch,
    ):
        try:
            check(model, X, partial(_same, rtol=rtol, atol=atol))
        except Exception as error:
            raise AssertionError(f"{check.__name__}: {error}") from error


def outputs_match_the_signature(model: Model, X: Any, close: Close) -> None:
    """Every output has its declared name, dtype and rank; named dimensions agree."""
    signature = model.signature
    feeds = signature.coerce(X)
    got = model.run(X)
    assert tuple(got) == signature.output_names, (
        f"outputs {list(got)}, declared {list(signature.output_names)}"
    )
    for spec in signature.outputs:
        array = got[spec.name]
        assert array.dtype == numpy_dtype(spec.dtype), (
            f"{spec.name} is {array.dtype}, declared {spec.dtype}"
        )
        assert spec.fits(array.shape), f"{spec.name} has shape {array.shape}, declared {spec.shape}"
    check_dims(signature.outputs, got, check_dims(signature.inputs, feeds))


def verbs_agree(model: Model, X: Any, close: Close) -> None:
    """`predict` and `predict_proba` give outputs of `run`, or are refused."""
    _compare_verbs(model, model.run(X), lambda verb: getattr(model, verb)(X), close)


def async_verbs_agree(model: Model, X: Any, close: Close) -> None:
    """The async verbs answer as the others do."""
    _compare_verbs(
        model,
        asyncio.run(model.arun(X)),
        lambda verb: asyncio.run(getattr(model, f"a{verb}")(X)),
        close,
    )


def _compare_verbs(model: Model, outputs: Outputs, ask: Callable[[str], Any], close: Close) -> None:
    named = {"predict": model.signature.primary}
    named["predict_proba"] = "probabilities" if model.signature.has_probabilities else None
    for verb, name in named.items():
        if name is not None:
            close({name: ask(verb)}, outputs, verb)
            continue
        try:
            ask(verb)
        except (SignatureError, AttributeError):
            continue
        raise AssertionError(f"{verb} answered, though the signature has nothing for it")


def coerce_has_an_inverse(model: Model, X: Any, close: Close) -> None:
    """Coercing the columns of coerced rows changes nothing."""
    feeds = model.signature.coerce(X)
    again = model.signature.coerce(model.signature.columns(feeds))
    for name, array in feeds.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def zero_rows_give_zero_rows(model: Model, X: Any, close: Close) -> None:
    """A batch of no rows is answered with the declared dtypes and no rows."""
    if model.signature.batch is None:
        return
    feeds = model.signature.coerce(X)
    empty = {name: feed[:0] for name, feed in feeds.items()}
    got = model.run(model.signature.columns(empty))
    for spec in model.signature.outputs:
        array = got[spec.name]
        assert array.dtype == numpy_dtype(spec.dtype), f"{spec.name} is {array.dtype}"
        assert array.shape[0] == 0, f"{spec.name} has shape {array.shape}"


def what_is_no_batch_is_refused(model: Model, X: Any, close: Close) -> None:
    """What is not a batch raises SignatureError, before anything runs."""
    nothing: object
    for nothing in (None, 3.5, {}):
        try:
            model.run(nothing)
        except SignatureError:
            continue
        raise AssertionError(f"{nothing!r} was accepted")


def threads_do_not_disturb_each_other(model: Model, X: Any, close: Close) -> None:
    """Many threads that call at once each get the answer to their own rows."""
    rows = _single_rows(model, X)
    alone = [model.run(row) for row in rows]
    places = [call % len(rows) for call in range(64)]
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda place: model.run(rows[place]), places)
        for call, (place, got) in enumerate(zip(places, answers, strict=True)):
            close(got, alone[place], f"call {call}")


def rows_do_not_depend_on_their_batch(model: Model, X: Any, close: Close) -> None:
    """Each row alone gives what it gives in the batch."""
    if model.signature.batch is None:
        return
    whole = model.run(X)
    for i, row in enumerate(_single_rows(model, X)):
        expected = {name: array[i : i + 1] for name, array in whole.items()}
        close(model.run(row), expected, f"row {i}")


def _single_rows(model: Model, X: Any) -> list[Any]:
    """The first rows as batches of their own; the whole batch where rows cannot be split."""
    if model.signature.batch is None:
        return [X]
    signature = model.signature
    feeds = signature.coerce(X)
    count = min(len(next(iter(feeds.values()))), MOST_ROWS_ALONE)
    rows = [signature.take(feeds, np.array([i])) for i in range(count)]
    return [signature.columns(row) for row in rows]


def _same(got: Outputs, expected: Outputs, what: str, *, rtol: float, atol: float) -> None:
    for name, array in got.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(
                array, expected[name], rtol, atol, err_msg=f"{what}, output {name}"
            )
        else:
            np.testing.assert_array_equal(array, expected[name], err_msg=f"{what}, output {name}")
