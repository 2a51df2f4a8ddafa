"""`modelkit bench`: how long the model of a package takes on this machine."""

from __future__ import annotations

import argparse
from functools import partial
from timeit import Timer
from typing import Any

from modelkit.cli.arguments import Printed, add_command, opened

SIZES = (1, 1000)  # rows of a call
FEWEST_CALLS = 10


def add_bench(verbs: Any) -> None:
    """The arguments of `modelkit bench`."""
    about = "time the model of a package on this machine, by its golden rows"
    add_command(verbs, "bench", run_bench, about, "file", "--registry", "--unseal")


def run_bench(args: argparse.Namespace) -> Printed:
    """A line for each number of rows: the usual time of a call, the slow ones, and rows a second."""
    import numpy as np

    from modelkit.model import golden
    from modelkit.report.listing import aligned

    table = [["rows", "calls", "p50", "p99", "rows/s"]]
    with opened(args) as model:
        signature = model.signature
        feeds, _ = golden.rows_in(model.attachments, signature, model)
        for batch in golden.repeated(feeds, SIZES if signature.batch else (), signature):
            timer = Timer(partial(model.run, signature.columns(batch)))
            calls, _ = timer.autorange()  # as many as fit into .2 seconds, which warm up, too
            times = timer.repeat(max(calls, FEWEST_CALLS), 1)
            size = signature.count(batch)
            half, slow = np.quantile(times, (0.5, 0.99))
            figures = [f"{1e3 * half:,.3f} ms", f"{1e3 * slow:,.3f} ms", f"{size / half:,.0f}"]
            table.append([f"{size:,}", f"{len(times):,}", *figures])
        return [*aligned(table), f"on {model.placement}"], 0
