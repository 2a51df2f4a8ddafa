"""Splits by sets of categories, as columns of zeros and ones in front of the trees.

The operator knows sets of at most 30 whole numbers from 1 on, or long chains of equalities. A table
has a row for each code, and one for all else; a column of it belongs to one set, and is 0 where the
split goes left. So a row looks up one row of the table for each column of categories, and a tree
asks `<= 0.5`.
"""

from __future__ import annotations

import numpy as np

from modelkit.cast import Array
from modelkit.convert.tensors import Columns, Var, constant, doubles, joined, ml, op

HALF = 0.5


class Sets:
    """The sets of codes that splits of one column ask for, each once.

    Args:
        codes: how many codes there are, 0 and up.
    """

    def __init__(self, codes: int) -> None:
        self.codes = codes
        self._found: dict[tuple[bytes, bool], int] = {}

    def number(self, left: Array, *, other_left: bool) -> int:
        """The number of a set: (codes,) whether each goes left, and whether all other values do."""
        key = (np.packbits(left).tobytes(), other_left)
        return self._found.setdefault(
            key,
            len(self._found),
        )

    def __len__(self) -> int:
        return len(self._found)

    def table(self) -> Array:
        """(codes + 1, sets), 0 where a code goes left; the last row is for all that is no code."""
        rows = []
        for packed, other_left in self._found:
            left = np.unpackbits(np.frombuffer(packed, np.uint8), count=self.codes).astype(bool)
            rows.append(np.append(left, other_left))
        return 1.0 - np.array(rows, np.float64).T

    def columns(self, codes: Var) -> Var:
        """(n, sets) for (n, 1) codes of int64, whose last one stands for all that is none."""
        table = self.table()
        return op.reshape(
            op.gather(doubles(table), codes), constant([-1, table.shape[1]], np.int64)
        )


def with_sets(
    columns: Columns,
    coded: dict[int, tuple[Var, Sets]],
    numeric: list[int],
) -> Var:
    """(n, numbers + sets) of float64: columns of numbers, and behind them those of the sets."""
    parts = [columns.take(numeric).matrix(np.float64)] if numeric else []
    parts += [sets.columns(codes) for codes, sets in coded.values() if len(sets)]
    return joined(parts)


def encoded(
    arguments: dict[str, Var],
    coded: dict[str, tuple[str, ...]],
) -> list[Var]:
    """The inputs, those of categories as codes of float32: NaN for a text that is none of them."""
    found = []
    for name, given in arguments.items():
        known = coded.get(name)
        if known is None:
            found.append(given)
        else:
            codes = ml.label_encoder(
                given,
                keys_strings=known,
                values_floats=[float(code) for code in range(len(known))],
                default_float=float("nan"),
            )
            found.append(codes)
    return found
