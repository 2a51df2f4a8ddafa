"""Functions of numbers in float64, by the names that numpy and scipy give them.

ONNX has no log1p, no expm1 and no float64 kernel for many others. The forms here are Kahan's
(W. Kahan, HP-15C Advanced Functions Handbook, 1982): the rounding of 1 + x is divided out of the
result again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelkit.convert.estimators.arithmetic import (
    choose,
    equal,
    greater,
    less,
    minus,
    over,
    plus,
    times,
)
from modelkit.convert.estimators.tensors import Var, cast, doubles, op

QUARTER_REST = 6.123233995736766e-17  # pi / 2 less the number nearest to it
ALL_LOST = -36.0  # below this exponent, exp(x) - 1 rounds to -1
# Half of pi in parts: of the first two, products with whole numbers up to 2**20 are exact.
HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
FAR_ROUND = 1e6  # beyond this size of an angle, onnxruntime's own sine is taken
NEAR = 1.0  # below this size of x, exp(x) - 1 loses digits


def log1p(numbers: Var) -> Var:
    """log(1 + x)."""
    shifted = plus(numbers, 1.0)
    kept = minus(shifted, 1.0)
    tiny = equal(kept, 0.0)
    infinite = op.isinf(numbers, detect_negative=0)
    mended = over(times(op.log(shifted), numbers), kept)
    return choose(op.or_(tiny, infinite), numbers, mended)


def expm1(numbers: Var) -> Var:
    """exp(x) - 1."""
    grown = op.exp(numbers)
    kept = minus(grown, 1.0)
    tiny = equal(kept, 0.0)
    mended = over(times(kept, numbers), op.log(grown))
    near = less(op.abs(numbers), NEAR)
    small = choose(tiny, numbers, choose(near, mended, kept))
    lost = less(numbers, ALL_LOST)
    return choose(lost, -1.0, small)


def _log2(numbers: Var) -> Var:
    return over(op.log(numbers), np.log(2.0))


def _log10(numbers: Var) -> Var:
    return over(op.log(numbers), np.log(10.0))


def _exp2(numbers: Var) -> Var:
    return op.pow(doubles(2.0), numbers)


def _cbrt(numbers: Var) -> Var:
    """The cube root: a power of nearly 1/3, and one step of Newton's, which ends at the root."""
    size = op.abs(numbers)
    near = op.pow(size, doubles(1 / 3))
    square = times(near, near)
    excess = minus(near, over(size, square))
    better = minus(near, over(excess, 3.0))
    ends = op.or_(equal(near, 0.0), op.isinf(near))
    return times(op.sign(numbers), choose(ends, near, better))


def _square(numbers: Var) -> Var:
    return times(numbers, numbers)


def _rounded_square(numbers: Var) -> Var:
    """A square, of which `rounding` sees that other libraries round what is made of it otherwise."""
    return op.pow(numbers, doubles(2.0))


def _trunc(numbers: Var) -> Var:
    below = less(numbers, 0.0)
    return choose(below, op.ceil(numbers), op.floor(numbers))


def _isfinite(numbers: Var) -> Var:
    return op.not_(op.or_(op.isnan(numbers), op.isinf(numbers)))


def _sin(numbers: Var) -> Var:
    return _wave(numbers, 0)


def _cos(numbers: Var) -> Var:
    return _wave(numbers, 1)


def _wave(numbers: Var, quarters: int) -> Var:
    """The sine of numbers, some quarters of a turn ahead.

    onnxruntime takes off too short a pi: it loses all digits of a number next to 0. Here its parts
    are exact times a quarter's number, and the last bits that are left go along (Cody and Waite).
    """
    turned = op.round(times(numbers, 2 / np.pi))
    near = minus(numbers, times(turned, HALF_PI[0]))
    less_ = times(turned, HALF_PI[1])
    rest = minus(near, less_)
    lost = minus(minus(minus(near, rest), less_), times(turned, HALF_PI[2]))
    angle = plus(rest, lost)
    lost = plus(minus(rest, angle), lost)
    sine = plus(op.sin(angle), times(lost, op.cos(angle)))
    cosine = minus(op.cos(angle), times(lost, op.sin(angle)))
    quarter = remainder(plus(turned, float(quarters)), doubles(4.0))
    size = choose(equal(op.mod(quarter, doubles(2.0), fmod=1), 1.0), cosine, sine)
    found = choose(greater(quarter, 1.5), op.neg(size), size)
    whole = (op.sin, op.cos)[quarters](numbers)
    return choose(less(op.abs(numbers), FAR_ROUND), found, whole)


def _tan(numbers: Var) -> Var:
    return over(_sin(numbers), _cos(numbers))


def _sinh(numbers: Var) -> Var:
    grown = expm1(op.abs(numbers))
    share = over(grown, plus(grown, 1.0))
    infinite = op.isinf(grown)
    half = times(plus(grown, choose(infinite, 1.0, share)), 0.5)
    return times(op.sign(numbers), half)


def _cosh(numbers: Var) -> Var:
    both = plus(op.exp(numbers), op.exp(op.neg(numbers)))
    return times(both, 0.5)


def _arcsinh(numbers: Var) -> Var:
    """log(x + sqrt(x^2 + 1)) for x from 0 on, as log1p of what does not cancel."""
    size = op.abs(numbers)
    large = greater(size, 1e150)
    usual = choose(large, 1.0, size)
    square = times(usual, usual)
    root = op.sqrt(plus(square, 1.0))
    share = over(square, plus(root, 1.0))
    small = log1p(plus(usual, share))
    found = choose(large, plus(op.log(size), np.log(2.0)), small)
    return times(op.sign(numbers), found)


def _arccosh(numbers: Var) -> Var:
    above = minus(numbers, 1.0)
    excess = choose(less(above, 0.0), np.nan, above)
    square = times(excess, plus(excess, 2.0))
    return log1p(plus(excess, op.sqrt(square)))


def _arctanh(numbers: Var) -> Var:
    twice = times(2.0, numbers)
    ratio = over(twice, minus(1.0, numbers))
    return times(log1p(ratio), 0.5)


# arctan(x) / x - 1 by powers of x squared, where x is at most tan(pi / 16): the series itself.
ARCTAN = [(-1) ** k / (2 * k + 1) for k in range(1, 13)]
HALVED = 2  # times that the angle is halved, to get there


def arctan(numbers: Var) -> Var:
    """The angle of a tangent: of the inverse where it is above 1, halved until its series is short."""
    size = op.abs(numbers)
    steep = greater(size, 1.0)
    start = choose(steep, over(1.0, size), size)
    half = start
    for _ in range(HALVED):
        half = over(half, plus(op.sqrt(plus(times(half, half), 1.0)), 1.0))
    square = _rounded_square(half)
    series = doubles(0.0)
    for factor in reversed(ARCTAN):
        series = times(plus(series, factor), square)
    angle = times(plus(half, times(half, series)), 2.0**HALVED)
    turned = plus(minus(np.pi / 2, angle), QUARTER_REST)
    return times(op.sign(numbers), choose(steep, turned, angle))


def arctan2(numbers: Var, others: Var) -> Var:
    """The angle of a point, by its second coordinate and its first."""
    endless = op.and_(op.isinf(numbers), op.isinf(others))
    ratio = choose(endless, times(op.sign(numbers), op.sign(others)), over(numbers, others))
    angle = choose(_both_zero(numbers, others), 0.0, arctan(ratio))
    behind = _is_negative(others)
    turn = choose(_is_negative(numbers), -np.pi, np.pi)
    return choose(behind, plus(angle, turn), angle)


def _both_zero(numbers: Var, others: Var) -> Var:
    return op.and_(equal(numbers, 0.0), equal(others, 0.0))


def _is_negative(numbers: Var) -> Var:
    """Whether a number is below 0, or the zero that is."""
    return op.or_(less(numbers, 0.0), less(over(1.0, numbers), 0.0))


def _arcsin(numbers: Var) -> Var:
    below = times(minus(1.0, numbers), plus(numbers, 1.0))
    return arctan2(numbers, op.sqrt(below))


def _arccos(numbers: Var) -> Var:
    return times(arctan2(op.sqrt(minus(1.0, numbers)), op.sqrt(plus(numbers, 1.0))), 2.0)


def _degrees(numbers: Var) -> Var:
    return times(numbers, 180.0 / np.pi)


def _radians(numbers: Var) -> Var:
    return times(numbers, np.pi / 180.0)


def _logit(numbers: Var) -> Var:
    return op.log(over(numbers, minus(1.0, numbers)))


def _same(numbers: Var) -> Var:
    return numbers


def remainder(numbers: Var, divisor: Var) -> Var:
    """What a division leaves, with the sign of the divisor."""
    left = op.mod(numbers, divisor, fmod=1)
    other = op.xor(less(left, 0.0), less(divisor, 0.0))
    turned = op.and_(op.not_(equal(left, 0.0)), other)
    return choose(turned, plus(left, divisor), left)


def _floor_divide(numbers: Var, divisor: Var) -> Var:
    whole = minus(numbers, remainder(numbers, divisor))
    none = equal(divisor, 0.0)
    found = choose(none, over(numbers, divisor), op.round(over(whole, divisor)))
    endless = op.and_(op.isinf(divisor), _isfinite(numbers))
    signs = times(op.sign(numbers), op.sign(divisor))
    return choose(endless, op.floor(times(signs, 0.5)), found)


def _larger(numbers: Var, others: Var) -> Var:
    """The larger of two, and a missing one where either is."""
    return op.max([numbers, others])


def _smaller(numbers: Var, others: Var) -> Var:
    return op.min([numbers, others])


def _hypot(numbers: Var, others: Var) -> Var:
    """The length of two sides: infinite where one is; squares that run over are of less by a power of two."""
    size = op.max([op.abs(numbers), op.abs(others)])
    scale = choose(greater(size, 1e150), 2.0**-600, choose(less(size, 1e-150), 2.0**600, 1.0))
    squares = plus(_rounded_square(times(numbers, scale)), _rounded_square(times(others, scale)))
    endless = op.or_(op.isinf(numbers), op.isinf(others))
    return choose(endless, np.inf, over(op.sqrt(squares), scale))


def _unequal(numbers: Var, others: Var) -> Var:
    return op.not_(equal(numbers, others))


def _both(numbers: Var, others: Var) -> Var:
    return op.and_(truth_of(numbers), truth_of(others))


def _either(numbers: Var, others: Var) -> Var:
    return op.or_(truth_of(numbers), truth_of(others))


def _one_of(numbers: Var, others: Var) -> Var:
    return op.xor(truth_of(numbers), truth_of(others))


def _neither(numbers: Var) -> Var:
    return op.not_(truth_of(numbers))


def truth_of(numbers: Var) -> Var:
    """Whether numbers are something else than 0."""
    return cast(numbers, np.bool_)


UNARY: dict[str, Callable[[Var], Var]] = {
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
BINARY: dict[str, Callable[[Var, Var], Var]] = {
    "add": op.add,
    "arctan2": arctan2,
    "divide": op.div,
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
COMPARING: dict[str, Callable[[Var, Var], Var]] = {
    "equal": op.equal,
    "greater": op.greater,
    "greater_equal": op.greater_or_equal,
    "less": op.less,
    "less_equal": op.less_or_equal,
    "not_equal": _unequal,
}
LOGICAL: dict[str, Callable[..., Var]] = {
    "bitwise_and": _both,
    "bitwise_or": _either,
    "bitwise_xor": _one_of,
    "invert": _neither,
    "logical_and": _both,
    "logical_not": _neither,
    "logical_or": _either,
    "logical_xor": _one_of,
}
