"""The error function in float64: onnxruntime has it for float32 alone.

The rational functions are those of FreeBSD's msun (s_erf.c, Sun Microsystems, 1993), which are
within one unit in the last place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

NEAR = 0.84375
MIDDLE = 1.25
FAR = 1 / 0.35
AT_ONE = 8.45062911510467529297e-01
# Numerator and denominator of each range of sizes, the constant terms first.
OF_NEAR = (
    (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
     -5.77027029648944159157e-03, -2.37630166566501626084e-05),
    (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
     1.32494738004321644526e-04, -3.96022827877536812320e-06),
)  # fmt: skip
OF_MIDDLE = (
    (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01,
     3.18346619901161753674e-01, -1.10894694282396677476e-01, 3.54783043256182359371e-02,
     -2.16637559486879084300e-03),
    (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
     1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02),
)  # fmt: skip
OF_FAR = (
    (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e+01,
     -6.23753324503260060396e+01, -1.62396669462573470355e+02, -1.84605092906711035994e+02,
     -8.12874355063065934246e+01, -9.81432934416914548592e+00),
    (1.0, 1.96512716674392571292e+01, 1.37657754143519042600e+02, 4.34565877475229228821e+02,
     6.45387271733267880336e+02, 4.29008140027567833386e+02, 1.08635005541779435134e+02,
     6.57024977031928170135e+00, -6.04244152148580987438e-02),
)  # fmt: skip
OF_FARTHEST = (
    (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e+01,
     -1.60636384855821916062e+02, -6.37566443368389627722e+02, -1.02509513161107724954e+03,
     -4.83519191608651397019e+02),
    (1.0, 3.03380607434824582924e+01, 3.25792512996573918826e+02, 1.53672958608443695994e+03,
     3.19985821950859553908e+03, 2.55305040643316442583e+03, 4.74528541206955367215e+02,
     -2.24409524465858183362e+01),
)  # fmt: skip
Ratio = tuple[Sequence[float], Sequence[float]]


def error_function(numbers: Any) -> Any:
    """What erf is of each number of a matrix."""
    size = np.abs(numbers)
    near = _near(np.minimum(size, NEAR))
    past_one = np.minimum(size, MIDDLE) - 1.0
    middle = AT_ONE + _ratio(past_one, OF_MIDDLE)
    far = 1.0 - _beyond(np.maximum(size, MIDDLE))
    found = np.where(size < MIDDLE, middle, far)
    found = np.where(size < NEAR, near, found)
    return found * np.sign(numbers)


def _beyond(size: Any) -> Any:
    """1 - erf of numbers above 1.25."""
    far = _tail(np.minimum(size, FAR), OF_FAR)
    farthest = _tail(np.minimum(size, 6.0), OF_FARTHEST)
    return np.where(size < FAR, far, farthest)


def _near(size: Any) -> Any:
    return size + size * _ratio(size * size, OF_NEAR)


def _tail(size: Any, ratio: Ratio) -> Any:
    """1 - erf of numbers above 1.25."""
    square = size * size
    found = _ratio(1.0 / square, ratio) - (square + 0.5625)
    return np.exp(found) / size


def _ratio(numbers: Any, ratio: Ratio) -> Any:
    """A polynomial over another: both are products of powers with coefficients."""
    above, below = ratio
    terms = max(len(above), len(below))
    coefficients = np.zeros((terms, 2))
    coefficients[: len(above), 0] = above
    coefficients[: len(below), 1] = below
    both = numbers[..., None] ** np.arange(float(terms)) @ coefficients
    return both[..., 0] / both[..., 1]
