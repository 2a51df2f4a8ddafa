"""Functions of numbers in float64, by the names that numpy and scipy give them.

ONNX has no log1p, no expm1 and no float64 kernel for many others. The forms here are Kahan's
(W. Kahan, HP-15C Advanced Functions Handbook, 1982): the rounding of 1 + x is divided out of the
result again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.convert.estimators.traced import UFUNCS, alike, constant, op

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


def expm1(numbers: Any) -> Any:
    """exp(x) - 1."""
    grown = np.exp(numbers)
    kept = grown - 1.0
    tiny = kept == 0.0
    mended = kept * numbers / np.log(grown)
    near = np.abs(numbers) < NEAR
    small = np.where(tiny, numbers, np.where(near, mended, kept))
    lost = numbers < ALL_LOST
    return np.where(lost, -1.0, small)


def _log2(numbers: Any) -> Any:
    return np.log(numbers) / np.log(2.0)


def _log10(numbers: Any) -> Any:
    return np.log(numbers) / np.log(10.0)


def _exp2(numbers: Any) -> Any:
    return 2.0**numbers


def _cbrt(numbers: Any) -> Any:
    """The cube root: a power of nearly 1/3, and one step of Newton's, which ends at the root."""
    size = np.abs(numbers)
    near = size ** (1 / 3)
    square = near * near
    excess = near - size / square
    better = near - excess / 3.0
    ends = (near == 0.0) | np.isinf(near)
    return np.sign(numbers) * np.where(ends, near, better)


def _square(numbers: Any) -> Any:
    return numbers * numbers


def _rounded_square(numbers: Any) -> Any:
    """A square, of which `rounding` sees that other libraries round what is made of it otherwise."""
    return numbers**2.0


def _trunc(numbers: Any) -> Any:
    below = numbers < 0.0
    return np.where(below, np.ceil(numbers), np.floor(numbers))


def _isfinite(numbers: Any) -> Any:
    return ~(np.isnan(numbers) | np.isinf(numbers))


def _sin(numbers: Any) -> Any:
    return _wave(numbers, 0)


def _cos(numbers: Any) -> Any:
    return _wave(numbers, 1)


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
    quarter = remainder(turned + float(quarters), 4.0)
    size = np.where(op.mod(quarter, constant(2.0), fmod=1) == 1.0, cosine, sine)
    found = np.where(quarter > 1.5, -size, size)
    whole = (op.sin, op.cos)[quarters](numbers)
    return np.where(np.abs(numbers) < FAR_ROUND, found, whole)


def _tan(numbers: Any) -> Any:
    return _sin(numbers) / _cos(numbers)


def _sinh(numbers: Any) -> Any:
    grown = expm1(np.abs(numbers))
    share = grown / (grown + 1.0)
    infinite = np.isinf(grown)
    half = (grown + np.where(infinite, 1.0, share)) * 0.5
    return np.sign(numbers) * half


def _cosh(numbers: Any) -> Any:
    both = np.exp(numbers) + np.exp(-numbers)
    return both * 0.5


def _arcsinh(numbers: Any) -> Any:
    """log(x + sqrt(x^2 + 1)) for x from 0 on, as log1p of what does not cancel."""
    size = np.abs(numbers)
    large = size > 1e150
    usual = np.where(large, 1.0, size)
    square = usual * usual
    root = np.sqrt(square + 1.0)
    share = square / (root + 1.0)
    small = log1p(usual + share)
    found = np.where(large, np.log(size) + np.log(2.0), small)
    return np.sign(numbers) * found


def _arccosh(numbers: Any) -> Any:
    above = numbers - 1.0
    excess = np.where(above < 0.0, np.nan, above)
    square = excess * (excess + 2.0)
    return log1p(excess + np.sqrt(square))


def _arctanh(numbers: Any) -> Any:
    twice = 2.0 * numbers
    ratio = twice / (1.0 - numbers)
    return log1p(ratio) * 0.5


# arctan(x) / x - 1 by powers of x squared, where x is at most tan(pi / 16): the series itself.
ARCTAN = [(-1) ** k / (2 * k + 1) for k in range(1, 13)]
HALVED = 2  # times that the angle is halved, to get there


def arctan(numbers: Any) -> Any:
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


def arctan2(numbers: Any, others: Any) -> Any:
    """The angle of a point, by its second coordinate and its first."""
    endless = np.isinf(numbers) & np.isinf(others)
    ratio = np.where(endless, np.sign(numbers) * np.sign(others), numbers / others)
    angle = np.where(_both_zero(numbers, others), 0.0, arctan(ratio))
    behind = _is_negative(others)
    turn = np.where(_is_negative(numbers), -np.pi, np.pi)
    return np.where(behind, angle + turn, angle)


def _both_zero(numbers: Any, others: Any) -> Any:
    return (numbers == 0.0) & (others == 0.0)


def _is_negative(numbers: Any) -> Any:
    """Whether a number is below 0, or the zero that is."""
    return (numbers < 0.0) | (1.0 / numbers < 0.0)


def _arcsin(numbers: Any) -> Any:
    below = (1.0 - numbers) * (numbers + 1.0)
    return arctan2(numbers, np.sqrt(below))


def _arccos(numbers: Any) -> Any:
    return arctan2(np.sqrt(1.0 - numbers), np.sqrt(numbers + 1.0)) * 2.0


def _degrees(numbers: Any) -> Any:
    return numbers * (180.0 / np.pi)


def _radians(numbers: Any) -> Any:
    return numbers * (np.pi / 180.0)


def _logit(numbers: Any) -> Any:
    return np.log(numbers / (1.0 - numbers))


def _same(numbers: Any) -> Any:
    return numbers


def remainder(numbers: Any, divisor: Any) -> Any:
    """What a division leaves, with the sign of the divisor."""
    left = op.mod(*alike([numbers, divisor]), fmod=1)
    other = (left < 0.0) ^ (divisor < 0.0)
    turned = ~(left == 0.0) & other
    return np.where(turned, left + divisor, left)


def _divide(numbers: Any, divisor: Any) -> Any:
    dtype = np.result_type(numbers.dtype, np.float16)  # integers are no integers any more
    return op.div(numbers.astype(dtype), divisor.astype(dtype))


def _floor_divide(numbers: Any, divisor: Any) -> Any:
    whole = numbers - remainder(numbers, divisor)
    none = divisor == 0.0
    found = np.where(none, numbers / divisor, np.rint(whole / divisor))
    endless = np.isinf(divisor) & _isfinite(numbers)
    signs = np.sign(numbers) * np.sign(divisor)
    return np.where(endless, np.floor(signs * 0.5), found)


def _larger(numbers: Any, others: Any) -> Any:
    """The larger of two, and a missing one where either is."""
    return op.max([numbers, others])


def _smaller(numbers: Any, others: Any) -> Any:
    return op.min([numbers, others])


def _hypot(numbers: Any, others: Any) -> Any:
    """The length of two sides: infinite where one is; squares that run over are of less by a power of two."""
    size = np.maximum(np.abs(numbers), np.abs(others))
    scale = np.where(size > 1e150, 2.0 ** (-600), np.where(size < 1e-150, 2.0**600, 1.0))
    squares = _rounded_square(numbers * scale) + _rounded_square(others * scale)
    endless = np.isinf(numbers) | np.isinf(others)
    return np.where(endless, np.inf, np.sqrt(squares) / scale)


def _unequal(numbers: Any, others: Any) -> Any:
    return ~(numbers == others)


def _both(numbers: Any, others: Any) -> Any:
    return op.and_(truth_of(numbers), truth_of(others))


def _either(numbers: Any, others: Any) -> Any:
    return op.or_(truth_of(numbers), truth_of(others))


def _one_of(numbers: Any, others: Any) -> Any:
    return op.xor(truth_of(numbers), truth_of(others))


def _neither(numbers: Any) -> Any:
    return op.not_(truth_of(numbers))


def truth_of(numbers: Any) -> Any:
    """Whether numbers are something else than 0."""
    return numbers.astype(np.bool_)


UNARY: dict[str, Callable[[Any], Any]] = {
    "absolute": op.abs,
    "arccos": _arccos,
    "arccosh": _arccosh,
    "arcsin": _arcsin,
    "arcsinh": _arcsinh,
    "arctan": arctan,
    "arctanh": _arctanh,
    "cbrt": _cbrt,
    "ceil": op.ceil,
    "cos": _cos,
    "cosh": _cosh,
    "deg2rad": _radians,
    "degrees": _degrees,
    "exp": op.exp,
    "exp2": _exp2,
    "expit": op.sigmoid,
    "expm1": expm1,
    "fabs": op.abs,
    "floor": op.floor,
    "isfinite": _isfinite,
    "isinf": op.isinf,
    "isnan": op.isnan,
    "log": op.log,
    "log10": _log10,
    "log1p": log1p,
    "log2": _log2,
    "logit": _logit,
    "negative": op.neg,
    "positive": _same,
    "rad2deg": _degrees,
    "radians": _radians,
    "reciprocal": op.reciprocal,
    "rint": op.round,
    "sign": op.sign,
    "sin": _sin,
    "sinh": _sinh,
    "sqrt": op.sqrt,
    "square": _square,
    "tan": _tan,
    "tanh": op.tanh,
    "trunc": _trunc,
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": op.add,
    "arctan2": arctan2,
    "divide": _divide,
    "float_power": op.pow,
    "floor_divide": _floor_divide,
    "hypot": _hypot,
    "maximum": _larger,
    "minimum": _smaller,
    "multiply": op.mul,
    "power": op.pow,
    "remainder": remainder,
    "subtract": op.sub,
}
COMPARING: dict[str, Callable[[Any, Any], Any]] = {
    "equal": op.equal,
    "greater": op.greater,
    "greater_equal": op.greater_or_equal,
    "less": op.less,
    "less_equal": op.less_or_equal,
    "not_equal": _unequal,
}
LOGICAL: dict[str, Callable[..., Any]] = {
    "bitwise_and": _both,
    "bitwise_or": _either,
    "bitwise_xor": _one_of,
    "invert": _neither,
    "logical_and": _both,
    "logical_not": _neither,
    "logical_or": _either,
    "logical_xor": _one_of,
}
UFUNCS |= UNARY | BINARY | COMPARING | LOGICAL
