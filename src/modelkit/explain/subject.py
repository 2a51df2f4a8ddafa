"""What is explained: an output of a model as numbers, its raw columns, and the background."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ExplainError, UsageError
from modelkit.explain.time_limit import current_call
from modelkit.model import golden
from modelkit.model.golden import BACKGROUND
from modelkit.model.model import Model
from modelkit.signature.cast import MISSING
from modelkit.signature.signature import Feeds, Signature, coerce_as
from modelkit.signature.spec import numpy_dtype

CONTRIBUTIONS = "contributions"  # an output of this name explains the others
RNG = np.random.default_rng()  # of proofs, which no package foresees
ROWS_AT_ONCE = 4096  # in one call of the model, so that a prediction waits for no more


@dataclass(frozen=True)
class Player:
    """One column that a caller passes: its name, its tensor, and its place there."""

    name: str
    tensor: str
    column: int


def players_of(signature: Signature) -> tuple[Player, ...] | None:
    """The raw columns in the order of the inputs; None if an input is not a matrix of fixed width."""
    found: list[Player] = []
    for spec in signature.inputs:
        if len(spec.shape) != 2 or not isinstance(spec.shape[1], int):
            return None
        unnamed = [f"{spec.name}[{i}]" for i in range(spec.shape[1])]
        names = [column.name for column in spec.columns] or unnamed
        found += [Player(name, spec.name, i) for i, name in enumerate(names)]
    return tuple(found)


@dataclass(frozen=True)
class Subject:
    """A model, its raw columns and a background.

    A player is a raw column: Shapley values share the answer among players. `served` is the output
    that is explained, `names` says what its k columns are, and `space` is "probability" or "value".
    `at_background` (m, k) is what the model answers for the m rows of the background.
    """

    model: Model
    players: tuple[Player, ...]
    background: Feeds
    served: str
    names: tuple[str, ...]
    space: str
    at_background: Array

    @property
    def signature(self) -> Signature:
        """The signature of the model."""
        return self.model.signature

    @property
    def count(self) -> int:
        """The number of background rows."""
        return len(self.at_background)

    def head(self, most: int) -> Feeds:
        """The first `most` rows of the background."""
        return rows_at(self.background, slice(most))

    def ask(self, feeds: Feeds) -> Array:
        """The served output (n, k) as doubles."""
        return ask_model(self.model, self.served, feeds)

    def ask_in_chunks(self, feeds: Feeds, size: int = ROWS_AT_ONCE) -> Array:
        """The served output (n, k) of many rows, at most `size` in one call of the model."""
        count = len(next(iter(feeds.values())))
        parts = [rows_at(feeds, slice(start, start + size)) for start in range(0, count, size)]
        return np.concatenate([self.ask(part) for part in parts])

    def beside(self, row: dict[str, Array]) -> dict[str, Array]:
        """The cells of the background, and of one row after them, as one flat array a tensor.

        `places` gives positions in these arrays.
        """
        return {
            name: np.concatenate([feed.reshape(-1), row[name]])
            for name, feed in self.background.items()
        }

    def places(self, masks: Array, rows: Array) -> dict[str, Array]:
        """The position of each cell of mixed rows in the arrays of `beside`.

        Args:
            masks: (m, players) of bool, true for a cell of the explained row.
            rows: (m,) the background row that the other cells come from.
        """
        found = {}
        at = 0
        for name, feed in self.background.items():
            width = feed.shape[1]
            column = np.arange(width)
            own = feed.size + column
            others = rows[:, None] * width + column
            found[name] = np.where(masks[:, at : at + width], own, others)
            at += width
        return found

    def ask_mixed(self, source: dict[str, Array], places: dict[str, Array]) -> Array:
        """The served output (m, k) of mixed rows, from the arrays of `beside` and `places`.

        `take` is several times as fast as a choice by mask.
        """
        size = len(next(iter(places.values())))
        parts = []
        for start in range(0, size, ROWS_AT_ONCE):
            some = rows_at(places, slice(start, start + ROWS_AT_ONCE))
            feeds = {name: source[name].take(at, mode="clip") for name, at in some.items()}
            parts.append(self.ask(feeds))
        return np.concatenate(parts)

    def table(self, feeds: Feeds) -> Array:
        """The rows (n, d) as doubles, or as objects, None for missing strings, if any are none."""
        blocks = [feeds[spec.name] for spec in self.signature.inputs]
        if all(block.dtype.kind in "biuf" for block in blocks):
            return np.concatenate(blocks, axis=1, dtype=np.float64)
        out = np.concatenate([*map(_as_objects, blocks)], axis=1)
        out[out == MISSING] = None
        return out

    def background_id(self) -> str:
        """The sha256 of the background as the model takes it."""
        digest = hashlib.sha256()
        for name, feed in self.background.items():
            digest.update(f"{name} {feed.dtype} {feed.shape}".encode())
            texts = feed.dtype == object
            digest.update("\0".join(map(str, feed.ravel())).encode() if texts else feed.tobytes())
        return digest.hexdigest()


def _as_objects(block: Array) -> Array:
    """Values of Python; times to the microsecond, which Python holds."""
    if block.dtype.kind in "mM":
        block = block.astype(f"{block.dtype.kind}8[us]")
    return block.astype(object)


def rows_at(feeds: Feeds, at: Any) -> Feeds:
    """Some rows of a batch, or the cells (width,) of one, by a slice, by numbers or by a number."""
    return {name: feed[at] for name, feed in feeds.items()}


def mixed(feeds: Feeds, others: Feeds, chosen: Array) -> Feeds:
    """Rows with the chosen raw columns, (d,) or (n, d); the rest is from other rows, or one."""
    found = {}
    at = 0
    for name, feed in others.items():
        found[name] = np.where(chosen[..., at : at + feed.shape[1]], feeds[name], feed)
        at += feed.shape[1]
    return found


def coalitions(count: int, d: int) -> Array:
    """(count, d) of bool: sets of raw columns as Shapley values weigh them, which nobody can foresee."""
    return RNG.random((count, d)) < RNG.random((count, 1))


def ask_model(model: Model, served: str, feeds: Feeds) -> Array:
    """One output of a model as (n, k) doubles. Raises DeadlineExceeded if the time is over."""
    got = model._run(feeds, (served,), current_call())[served]
    return got.reshape(len(got), int(np.prod(got.shape[1:]))).astype(np.float64)


def is_text(signature: Signature) -> bool:
    """Whether the only input is one column of strings without declared categories."""
    spec = signature.inputs[0]
    alone = len(signature.inputs) == 1 and spec.dtype == "string" and spec.shape[1:] == (1,)
    return alone and not any(column.categories for column in spec.columns)


def make_subject(model: Model, background: Any, served: str | None) -> Subject:
    """What an Explainer explains.

    Args:
        model: any Model.
        background: rows in any form the model takes, or None for its package's.
        served: the output to explain, or None for the one that the model has for it.

    Raises:
        ExplainError: if the model has nothing that can be explained, several outputs of which none
            is named, a row's answer depends on the rows beside it, or a background is missing.
        UsageError: if the output does not exist, or the background is empty.
        PackageError: if the background of the package cannot be read.
    """
    model = model.unobserved  # the rows of an explanation belong to nobody
    signature = model.signature
    players = players_of(signature)
    if players is None or signature.batch is None:
        raise ExplainError(f"only inputs of rows by columns can be explained, not {signature}")
    _check_independent(model)
    output = _served_output(signature, served)
    rows = _read_background(model, background)
    at_background = ask_model(model, output, rows)
    names = _names_of(signature, output, at_background.shape[1])
    space = "probability" if output in ("probabilities", "probability") else "value"
    return Subject(model, players, rows, output, names, space, at_background)


def _check_independent(model: Model) -> None:
    """Raise ExplainError if `save` found that a row's answer depends on its batch.

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


def _names_of(signature: Signature, output: str, count: int) -> tuple[str, ...]:
    """A name for each of the `count` columns of an output."""
    if output == "probabilities" and signature.classes is not None:
        return tuple(map(str, signature.classes))
    if count == 1:
        return (output,)
    return tuple(f"{output}[{i}]" for i in range(count))


def _read_background(model: Model, rows: Any) -> Feeds:
    data = model.attachments.get(BACKGROUND)
    if rows is not None:
        feeds = coerce_as(model.signature, rows, "the background")
    elif data is not None:
        feeds = golden.decode_rows(data, model.signature, BACKGROUND)
    else:
        raise ExplainError(
            "an explanation is relative to a background: pass background=X_train[:200], or store one "
            "in the package with mk.save(..., background=...)"
        )
    if not len(next(iter(feeds.values()))):
        raise UsageError("the background is empty; pass some rows")
    return feeds


def _served_output(signature: Signature, named: str | None = None) -> str:
    """The named output, else the probabilities, the primary one, or the only one of numbers."""
    numbers = [
        spec.name
        for spec in signature.outputs
        if numpy_dtype(spec.dtype).kind == "f" and spec.name != "label"
    ]
    if named is not None:
        if named not in numbers:
            raise UsageError(
                f"{named!r} is not an output of numbers, which could be explained; there are {numbers}"
            )
        return named
    if signature.has_probabilities:
        return "probabilities"
    if signature.primary in numbers:
        return signature.primary
    # `score_samples` stands beside scores or probabilities that say more.
    others = [name for name in numbers if name not in (CONTRIBUTIONS, "score_samples")]
    if not others:
        raise ExplainError("the model gives labels alone, and only numbers can be explained")
    if len(others) > 1:
        raise ExplainError(
            "the model has several outputs, and one is explained at a time: pass one of "
            f"{others} as output="
        )
    return others[0]
