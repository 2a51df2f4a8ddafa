"""Functions of numbers in float64, by the names that numpy and scipy give them.

ONNX lacks log1p, expm1 and a float64 kernel for many others. The forms here are Kahan's
(W. Kahan, HP-15C Advanced Functions Handbook, 1982): the rounding of 1 + x is divided out of the
result again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.convert.estimators.traced import UFUNCS, op

QUARTER_REST = 6.123233995736766e-17  # pi / 2 less the number nearest to it
ALL_LOST = -36.0  # below this exponent, exp(x) - 1 rounds to -1
# Half of pi in parts: of the first two, products with whole numbers up to 2**20 are exact.
HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
FAR_ROUND = 1e6  # beyond this size of an angle, onnxruntime's own sine is taken
NEAR = 1.0  # below this size of x, exp(x) - 1 loses digits


def log1p(numbers: Any) -> Any:
    """log(1 + x)."""
    shifted = numbers + 1.0
    kept = shifted - 1.0
    tiny = kept == 0.0
    infinite = op.isinf(numbers, detect_negative=0)
    mended = np.log(shifted) * numbers / kept
    return np.where(tiny | infinite, numbers, mended)


def _expm1(numbers: Any) -> Any:
    """exp(x) - 1."""
    grown = np.exp(numbers)
    kept = grown - 1.0
    tiny = kept == 0.0
    mended = kept * numbers / np.log(grown)
    near = np.abs(numbers) < NEAR
    small = np.where(tiny, numbers, np.where(near, mended, kept))
    lost = numbers < ALL_LOST
    return np.where(lost, -1.0, small)


def _cbrt(numbers: Any) -> Any:
    """The cube root: a power of nearly 1/3, and one step of Newton's, which ends at the root."""
    size = np.abs(numbers)
    near = size ** (1 / 3)
    square = near * near
    excess = near - size / square
    better = near - excess / 3.0
    ends = (near == 0.0) | np.isinf(near)
    return np.sign(numbers) * np.where(ends, near, better)


def _rounded_square(numbers: Any) -> Any:
    """A square, of which `rounding` sees that other libraries round what is made of it otherwise."""
    return numbers**2.0


def _wave(numbers: Any, quarters: int) -> Any:
    """The sine of numbers, some quarters of a turn ahead.

    onnxruntime takes off too short a pi: it loses all digits of a number next to 0. Here its parts
    are exact times a quarter's number, and the last bits that are left go along (Cody and Waite).
    """
    turned = np.rint(numbers * (2 / np.pi))
    near = numbers - turned * HALF_PI[0]
    less_ = turned * HALF_PI[1]
    rest = near - less_
    lost = near - rest - less_ - turned * HALF_PI[2]
    angle = rest + lost
    lost = rest - angle + lost
    sine = op.sin(angle) + lost * op.cos(angle)
    cosine = op.cos(angle) - lost * op.sin(angle)
    quarter = (turned + float(quarters)) % 4.0
    size = np.where(np.fmod(quarter, 2.0) == 1.0, cosine, sine)
    found = np.where(quarter > 1.5, -size, size)
    whole = (op.sin, op.cos)[quarters](numbers)
    return np.where(np.abs(numbers) < FAR_ROUND, found, whole)


def _sinh(numbers: Any) -> Any:
    grown = np.expm1(np.abs(numbers))
    share = grown / (grown + 1.0)
    infinite = np.isinf(grown)
    half = (grown + np.where(infinite, 1.0, share)) * 0.5
    return np.sign(numbers) * half


def _arcsinh(numbers: Any) -> Any:
    """log(x + sqrt(x^2 + 1)) for x from 0 on, as log1p of what does not cancel."""
    size = np.abs(numbers)
    large = size > 1e150
    usual = np.where(large, 1.0, size)
    square = usual * usual
    root = np.sqrt(square + 1.0)
    share = square / (root + 1.0)
    small = np.log1p(usual + share)
    found = np.where(large, np.log(size) + np.log(2.0), small)
    return np.sign(numbers) * found


def _arccosh(numbers: Any) -> Any:
    above = numbers - 1.0
    excess = np.where(above < 0.0, np.nan, above)
    square = excess * (excess + 2.0)
    return np.log1p(excess + np.sqrt(square))


# np.arctan(x) / x - 1 by powers of x squared, where x is at most tan(pi / 16): the series itself.
ARCTAN = [(-1) ** k / (2 * k + 1) for k in range(1, 13)]
HALVED = 2  # times that the angle is halved, to get there


def _arctan(numbers: Any) -> Any:
    """The angle of a tangent: of the inverse where it is above 1, halved until its series is short."""
    size = np.abs(numbers)
    steep = size > 1.0
    start = np.where(steep, 1.0 / size, size)
    half = start
    for _ in range(HALVED):
        half = half / (np.sqrt(half * half + 1.0) + 1.0)
    square = _rounded_square(half)
    series = 0.0
    for factor in reversed(ARCTAN):
        series = (series + factor) * square
    angle = (half + half * series) * 2.0**HALVED
    turned = np.pi / 2 - angle + QUARTER_REST
    return np.sign(numbers) * np.where(steep, turned, angle)


def _arctan2(numbers: Any, others: Any) -> Any:
    """The angle of a point, by its second coordinate and its first."""
    endless = np.isinf(numbers) & np.isinf(others)
    ratio = np.where(endless, np.sign(numbers) * np.sign(others), numbers / others)
    angle = np.where((numbers == 0.0) & (others == 0.0), 0.0, np.arctan(ratio))
    behind = _is_negative(others)
    turn = np.where(_is_negative(numbers), -np.pi, np.pi)
    return np.where(behind, angle + turn, angle)


def _is_negative(numbers: Any) -> Any:
    """Whether a number is below 0, or the zero that is."""
    return (numbers < 0.0) | (1.0 / numbers < 0.0)


def _remainder(numbers: Any, divisor: Any) -> Any:
    """What a division leaves, with the sign of the divisor."""
    if numbers.dtype.kind == "i":
        return op.mod(numbers, divisor)
    left = np.fmod(numbers, divisor)
    other = (left < 0.0) ^ (divisor < 0.0)
    turned = ~(left == 0.0) & other
    return np.where(turned, left + divisor, left)


def _first_known(numbers: Any, others: Any) -> Any:
    return np.where(np.isnan(numbers), others, numbers)


def _divide(numbers: Any, divisor: Any) -> Any:
    dtype = np.result_type(numbers.dtype, np.float16)  # integers are no integers any more
    return op.div(numbers.astype(dtype), divisor.astype(dtype))


def _floor_divide(numbers: Any, divisor: Any) -> Any:
    if numbers.dtype.kind == "i":
        cut = op.div(numbers, divisor)
        rest = numbers - cut * divisor
        return cut - ((rest != 0) & ((rest < 0) ^ (divisor < 0))).astype(cut.dtype)
    whole = numbers - numbers % divisor
    none = divisor == 0.0
    found = np.where(none, numbers / divisor, np.rint(whole / divisor))
    endless = np.isinf(divisor) & np.isfinite(numbers)
    signs = np.sign(numbers) * np.sign(divisor)
    return np.where(endless, np.floor(signs * 0.5), found)


def _hypot(numbers: Any, others: Any) -> Any:
    """The length of two sides: infinite where one is; squares that run over are of less by a power of two."""
    size = np.maximum(np.abs(numbers), np.abs(others))
    scale = np.where(size > 1e150, 2.0 ** (-600), np.where(size < 1e-150, 2.0**600, 1.0))
    squares = _rounded_square(numbers * scale) + _rounded_square(others * scale)
    endless = np.isinf(numbers) | np.isinf(others)
    return np.where(endless, np.inf, np.sqrt(squares) / scale)


def _of_truths(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs: make(*(each.astype(np.bool_) for each in inputs))


_both, _either, _neither = map(_of_truths, (op.and_, op.or_, op.not_))
_one_of = _of_truths(op.xor)
UFUNCS |= {
    "absolute": op.abs,
    "add": op.add,
    "arccos": lambda x: np.arctan2(np.sqrt(1.0 - x), np.sqrt(x + 1.0)) * 2.0,
    "arccosh": _arccosh,
    "arcsin": lambda x: np.arctan2(x, np.sqrt((1.0 - x) * (x + 1.0))),
    "arcsinh": _arcsinh,
    "arctan": _arctan,
    "arctan2": _arctan2,
    "arctanh": lambda x: np.log1p(2.0 * x / (1.0 - x)) * 0.5,
    "bitwise_and": _both,
    "bitwise_or": _either,
    "bitwise_xor": _one_of,
    "cbrt": _cbrt,
    "ceil": op.ceil,
    "cos": lambda x: _wave(x, 1),
    "cosh": lambda x: (np.exp(x) + np.exp(-x)) * 0.5,
    **dict.fromkeys(("deg2rad", "radians"), lambda x: x * (np.pi / 180.0)),
    **dict.fromkeys(("degrees", "rad2deg"), lambda x: x * (180.0 / np.pi)),
    "divide": _divide,
    "equal": op.equal,
    "exp": op.exp,
    "exp2": lambda x: 2.0**x,
    "expit": op.sigmoid,
    "expm1": _expm1,
    "fabs": op.abs,
    "float_power": op.pow,
    "floor": op.floor,
    "floor_divide": _floor_divide,
    "fmax": lambda x, y: np.maximum(_first_known(x, y), _first_known(y, x)),
    "fmod": lambda x, y: op.mod(x, y, fmod=1),
    "fmin": lambda x, y: np.minimum(_first_known(x, y), _first_known(y, x)),
    "greater": op.greater,
    "greater_equal": op.greater_or_equal,
    "hypot": _hypot,
    "invert": _neither,
    "isfinite": lambda x: ~(np.isnan(x) | np.isinf(x)),
    "isinf": op.isinf,
    "isnan": op.isnan,
    "less": op.less,
    "less_equal": op.less_or_equal,
    "log": op.log,
    "log10": lambda x: np.log(x) / np.log(10.0),
    "log1p": log1p,
    "log2": lambda x: np.log(x) / np.log(2.0),
    "logical_and": _both,
    "logical_not": _neither,
    "logical_or": _either,
    "logical_xor": _one_of,
    "logit": lambda x: np.log(x / (1.0 - x)),
    "maximum": lambda x, y: op.max([x, y]),  # missing where either is
    "minimum": lambda x, y: op.min([x, y]),
    "multiply": op.mul,
    "negative": op.neg,
    "not_equal": lambda x, y: ~(x == y),
    "positive": lambda x: x,
    "power": op.pow,
    "reciprocal": op.reciprocal,
    "remainder": _remainder,
    "rint": op.round,
    "sign": op.sign,
    "sin": lambda x: _wave(x, 0),
    "sinh": _sinh,
    "sqrt": op.sqrt,
    "square": lambda x: x * x,
    "subtract": op.sub,
    "tan": lambda x: np.sin(x) / np.cos(x),
    "tanh": op.tanh,
    "trunc": lambda x: np.where(x < 0.0, np.ceil(x), np.floor(x)),
}
