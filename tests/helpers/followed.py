"""What functions of users are followed, as the tables of the source have it, for docs/reference/what_converts.md."""

import numpy as np
import pandas as pd
import scipy.special

from modelkit.convert.estimators import functions  # noqa: F401 - it fills the tables
from modelkit.convert.estimators.stand_in_functions import UFUNCS
from modelkit.convert.estimators.stand_in_times import POINT_METHODS, POINTS, SPAN_METHODS, SPANS
from modelkit.convert.estimators.stand_ins import FOLLOWED, PLAIN, PROPERTIES
from modelkit.convert.estimators.user_code import ARRAYS, FILLED, known_of_pandas

KINDS = {"M": "times", "O": "texts"}
OWN = ("operand", "ufunc")  # which are no methods


def _row(what, names):
    shown = ", ".join(f"`{name}`" for name in sorted(set(names), key=str.lower))
    return f"| {what} | {shown} |"


def _name(function):
    """`linalg.norm`, or `where`."""
    inside = getattr(np.linalg, function.__name__, None) is function and function is np.linalg.norm
    return f"linalg.{function.__name__}" if inside else function.__name__


def table():
    """The table of docs/reference/what_converts.md."""
    methods = [key for key in FOLLOWED if isinstance(key, str) and key.isidentifier()]
    functions_of_numpy = [key for key in FOLLOWED if callable(key)]
    lines = [
        "| of | names |",
        "| --- | --- |",
        _row("numpy, of each number", [name for name in UFUNCS if hasattr(np, name)]),
        _row(
            "scipy.special",
            [name for name in UFUNCS if not hasattr(np, name) and hasattr(scipy.special, name)],
        ),
        _row("numpy", map(_name, functions_of_numpy)),
        _row("numpy, whose answers hold the rows", [*map(_name, (*ARRAYS, *FILLED)), "c_", "r_"]),
        _row(
            "pandas",
            [name for name in map(_name, dict(known_of_pandas(pd))) if name != "get_dummies"],
        ),
        _row("methods of arrays, columns and frames", methods),
        _row("attributes", [*PROPERTIES, *PLAIN]),
        _row("`.dt` of times", [*POINTS, *POINT_METHODS]),
        _row("`.dt` of spans of time", [*SPANS, *SPAN_METHODS]),
    ]
    for kind, what in KINDS.items():
        own = [key[1] for key in FOLLOWED if isinstance(key, tuple) and key[0] == kind]
        lines.append(_row(f"methods of {what} alone", [name for name in own if name not in OWN]))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
