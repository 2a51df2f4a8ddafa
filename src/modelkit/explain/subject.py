"""What is explained: a model's served output as numbers, its raw columns, and the background they are relative to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit import golden
from modelkit.cast import MISSING, Array
from modelkit.errors import ExplainError, PackageError
from modelkit.explain.structure import Player, players_of
from modelkit.model import Call, Model
from modelkit.signature import Feeds, Signature
from modelkit.spec import numpy_dtype

CONTRIBUTIONS = "contributions"  # an output of this name, (n, columns) or (n, columns, outputs), is an explanation
BACKGROUND = "background"  # the attachment of a package that holds background rows
LATER = Call(priority=-1)  # explanations wait for predictions
CHUNK = 4096  # model rows at once


@dataclass(frozen=True)
class Subject:
    """A model, its raw columns, and a background; `served` is the output that is explained, (n, k) as numbers."""

    model: Model
    players: tuple[Player, ...]
    background: Feeds
    served: str
    names: tuple[str, ...]
    space: str
    at_background: Array

    @property
    def signature(self) -> Signature:
        """The model's."""
        return self.model.signature

    @property
    def count(self) -> int:
        """The rows of the background."""
        return len(self.at_background)

    def ask(self, feeds: Feeds) -> Array:
        """The served output as (n, k) doubles."""
        return ask(self.model, self.served, feeds)

    def beside(self, row: dict[str, Array]) -> dict[str, Array]:
        """The background and one row after it, flat: what `places` are places in."""
        return {
            name: np.concatenate([feed.reshape(-1), row[name]])
            for name, feed in self.background.items()
        }

    def places(self, masks: Array, rows: Array) -> dict[str, Array]:
        """Where each cell of mixed rows comes from: the row where its mask says so, else a row of the background."""
        found, at = {}, 0
        for name, feed in self.background.items():
            width = feed.shape[1]
            column = np.arange(width)
            found[name] = np.where(
                masks[:, at : at + width], feed.size + column, rows[:, None] * width + column
            )
            at += width
        return found

    def ask_mixed(self, source: dict[str, Array], places: dict[str, Array]) -> Array:
        """Answers for mixed rows. `take` is several times as fast as a choice by mask."""
        size = len(next(iter(places.values())))
        parts = []
        for start in range(0, size, CHUNK):
            some = slice(start, start + CHUNK)
            parts.append(
                self.ask(
                    {name: source[name].take(at[some], mode="clip") for name, at in places.items()}
                )
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def table(self, feeds: Feeds) -> Array:
        """The rows as (n, d) values: numbers where all are, else objects with missing strings as None."""
        blocks = [feeds[spec.name] for spec in self.signature.inputs]
        if all(block.dtype != object for block in blocks):
            return np.concatenate([block.astype(np.float64) for block in blocks], axis=1)
        out = np.concatenate([block.astype(object) for block in blocks], axis=1)
        out[out == MISSING] = None
        return out

    def background_id(self) -> str:
        """The sha256 of the background as the model takes it."""
        digest = hashlib.sha256()
        for name, feed in self.background.items():
            digest.update(f"{name} {feed.dtype} {feed.shape}".encode())
            digest.update(
                "\0".join(map(str, feed.ravel())).encode()
                if feed.dtype == object
                else feed.tobytes()
            )
        return digest.hexdigest()


def ask(model: Model, served: str, feeds: Feeds) -> Array:
    """One output of a model as (n, k) doubles."""
    got = model._run(feeds, (served,), LATER)[served]
    return got.reshape(
        len(got), got.shape[1] if got.ndim == 2 else int(np.prod(got.shape[1:]))
    ).astype(np.float64)


def make_subject(model: Model, background: Any, served: str | None = None) -> Subject:
    """What an Explainer explains: of the output that is named, or of the one that the model has for it.

    Raises ExplainError where a model has nothing that can be explained, or several outputs of which
    none is named, where a row's answer depends on the rows beside it, and where there is no
    background.
    """
    model = model.unobserved  # an explanation's rows are nobody's
    signature = model.signature
    players = players_of(signature)
    if players is None or signature.batch is None:
        raise ExplainError(f"only inputs of rows by columns can be explained, not {signature}")
    _check_independent(model)
    served = _served_output(signature, served)
    rows = _read_background(model, background)
    at_background = ask(model, served, rows)
    count = at_background.shape[1]
    if served == "probabilities" and signature.classes is not None:
        names = tuple(map(str, signature.classes))
    else:
        names = (served,) if count == 1 else tuple(f"{served}[{i}]" for i in range(count))
    space = "probability" if served in ("probabilities", "probability") else "value"
    return Subject(model, players, rows, served, names, space, at_background)


def _check_independent(model: Model) -> None:
    """Raise ExplainError where `save` found that a row's answer depends on its batch.

    Mixed rows are asked beside thousands of others, which would then be part of the answer.
    """
    parity = None if model.manifest is None else model.manifest.parity
    if parity is None or parity.batch_invariant or not parity.batch_measured:
        return
    if parity.batch_max_abs > parity.rtol + parity.atol:
        raise ExplainError(
            "a row's answer depends on the rows beside it, so no column of one row has a value of "
            f"its own: the package says: {parity}"
        )


def _read_background(model: Model, rows: Any) -> Feeds:
    if rows is not None:
        feeds = model.signature.coerce(rows)
    else:
        data = model.attachments.get(BACKGROUND)
        if data is None:
            raise ExplainError(
                "an explanation is relative to a background: pass background=X_train[:200] "
                "(--background on "
                "the command line), or store one in the package with mk.save(..., background=...)"
            )
        try:
            feeds = golden.decode_rows(data, model.signature, BACKGROUND)
        except PackageError as error:
            raise ExplainError(f"the background of the package cannot be read: {error}") from error
    if not len(next(iter(feeds.values()))):
        raise ExplainError("the background has no rows")
    return feeds


def _served_output(signature: Signature, named: str | None = None) -> str:
    """The output that is named, else the probabilities, the primary output, or the only one of numbers."""
    numbers = [spec.name for spec in signature.outputs if numpy_dtype(spec.dtype).kind == "f"]
    if named is not None:
        if named not in numbers:
            raise ExplainError(
                f"there is no output {named!r} of numbers to explain; there are {numbers}"
            )
        return named
    if signature.has_probabilities:
        return "probabilities"
    if signature.primary in numbers:
        return signature.primary
    apart = [name for name in numbers if name != CONTRIBUTIONS]
    if not apart:
        raise ExplainError("the model gives labels alone, and a label is no number to explain")
    if len(apart) > 1:
        raise ExplainError(
            f"the model has several outputs, and one is explained at a time: pass one of {apart} "
            "as output=, or on the "
            f"command line as --output"
        )
    return apart[0]
