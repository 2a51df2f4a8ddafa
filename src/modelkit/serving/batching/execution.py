"""Runs of the model inside a Batcher: each row is answered, in batches of one size if wished."""

from __future__ import annotations

import numpy as np

from modelkit.errors import OutputCountError, SignatureError
from modelkit.model.model import Call, Model, Outputs
from modelkit.serving.batching.isolation import Names, Run, join_rows, row_count
from modelkit.signature.refusing import moved, share
from modelkit.signature.signature import Feeds


def counted(model: Model) -> Run:
    """Runs the model, and raises OutputCountError where it does not answer each row."""
    first = model.signature.inputs[0].name

    def run(feeds: Feeds, outputs: Names, call: Call) -> Outputs:
        # Rows that the model prepared may have other names.
        rows = len(feeds[first]) if first in feeds else row_count(feeds)
        answers = model._run(feeds, outputs, call)
        for name, array in answers.items():
            if len(array) != rows:
                raise OutputCountError(
                    f"the model gave {len(array)} rows of {name!r} for {rows} rows of input",
                    expected=rows,
                    got=len(array),
                )
        return answers

    return run


def padded(run: Run, shape: int) -> Run:
    """Runs rows in batches of one size, filled up with a row of the caller's own."""

    def run_padded(feeds: Feeds, outputs: Names, call: Call) -> Outputs:
        rows = row_count(feeds)
        if rows == 0:
            return run(feeds, outputs, call)
        answers = []
        for start in range(0, rows, shape):
            take = np.minimum(np.arange(start, start + shape), rows - 1)
            part = {name: feed[take] for name, feed in feeds.items()}
            left = rows - start
            try:
                answer = run(part, outputs, call)
            except SignatureError as error:
                raise moved(share(error, 0, left) or error, start) from None
            answers.append({name: array[:left] for name, array in answer.items()})
        return join_rows(answers)

    return run_padded
