"""What functions of users are followed, as the tables of the source have it, for docs/converting.md."""

import numpy as np
import scipy.special

from modelkit.convert.estimators.stand_in_functions import UFUNCS
from modelkit.convert.estimators.stand_in_times import POINT_METHODS, POINTS, SPAN_METHODS, SPANS
from modelkit.convert.estimators.stand_ins import FOLLOWED, PLAIN, PROPERTIES

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
    """The table of docs/converting.md."""
    methods = [key for key in FOLLOWED if isinstance(key, str) and key.isidentifier()]
    own = {kind: [key[1:] for key in methods if key[0] == kind] for kind in KINDS}
    common = [key for key in methods if key[0].islower() and not key.endswith("ufunc")]
    lines = [
        "| of | names |",
        "| --- | --- |",
        _row("numpy, of each number", [name for name in UFUNCS if hasattr(np, name)]),
        _row(
            "scipy.special",
            [name for name in UFUNCS if not hasattr(np, name) and hasattr(scipy.special, name)],
        ),
        _row("numpy", [_name(key) for key in FOLLOWED if not isinstance(key, str)]),
        _row("methods of arrays, columns and frames", common),
        _row("attributes", [*PROPERTIES, *PLAIN]),
        _row("`.dt` of times", [*POINTS, *POINT_METHODS]),
        _row("`.dt` of spans of time", [*SPANS, *SPAN_METHODS]),
    ]
    for kind, what in KINDS.items():
        lines.append(
            _row(f"columns of {what} beside these", [key for key in own[kind] if key not in OWN])
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
