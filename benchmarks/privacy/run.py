"""What the membership advantage says of models, and how often its interval holds the true one."""

from __future__ import annotations

from importlib.metadata import version
from math import exp, inf, sqrt
from tempfile import TemporaryDirectory

import numpy as np
from benchmarks.common.measure import command, judge, seconds, table
from diffprivlib.models import LogisticRegression as PrivateRegression
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

import modelkit as mk
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.gap import membership_advantage

LIBRARIES = ("numpy", "scipy", "scikit-learn", "diffprivlib")
MISSED = 0.025  # of each end, of an interval of 95 %
EPSILONS = (100.0, 30.0, 10.0, 3.0, 1.0)
TRAINED_ON = 250
CLUSTER = 10  # rows


# Models


def rows_of(name: str, seed: int):
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        X, y = X - 8, y % 2  # the middle of what a pixel can be
    else:
        X, y = load_breast_cancer(return_X_y=True)
        X = np.log1p(X) - 4
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = X[order], y[order]
    return (X[:TRAINED_ON], y[:TRAINED_ON]), (X[TRAINED_ON:], y[TRAINED_ON:])


def as_scikit_learn(private: PrivateRegression) -> LogisticRegression:
    plain = LogisticRegression()
    for name in ("classes_", "coef_", "intercept_", "n_features_in_", "n_iter_"):
        setattr(plain, name, getattr(private, name))
    return plain


def private(epsilon: float, seed: int):
    last = PrivateRegression(
        epsilon=epsilon, data_norm=1.0, C=1e4, max_iter=5000, random_state=seed
    )
    return make_pipeline(Normalizer(), last)


def kinds(seed: int):
    """Name, epsilon and estimator of each."""
    forest = RandomForestClassifier(100, random_state=seed, n_jobs=1)
    yield "overfitted: forest of whole trees", inf, forest
    hardly = make_pipeline(Normalizer(), LogisticRegression(C=1e4, max_iter=5000))
    yield "hardly a penalty: logistic regression, C = 10,000", inf, hardly
    plain = make_pipeline(StandardScaler(), LogisticRegression())
    yield "plain: logistic regression, scikit-learn's penalty", inf, plain
    for epsilon in EPSILONS:
        yield f"private, C = 10,000: epsilon {epsilon:g}", epsilon, private(epsilon, seed)


def models(args) -> str:
    """Three kinds of models: the membership advantage, and what the claim allows"""
    rows = []
    for data in ("digits", "breast cancer"):
        found: dict[str, list] = {}
        bounds = {}
        for seed in range(args.seeds):
            trained_on, others = rows_of(data, seed)
            for name, epsilon, estimator in kinds(seed):
                found.setdefault(name, []).append(figures(estimator, trained_on, others, epsilon))
                bounds[name] = (exp(epsilon) - 1) / (exp(epsilon) + 1) if epsilon < inf else 1.0
        for name, each in found.items():
            value, low, high, accuracy = np.mean(each, axis=0)
            spread = np.std([one[0] for one in each])
            shown = np.mean([one[1] > 0 for one in each])
            above = np.mean([one[1] > bounds[name] for one in each])
            rows.append(
                [
                    f"{data}, {name}",
                    f"{value:.3f} ({spread:.3f})",
                    f"[{low:.3f}, {high:.3f}]",
                    f"{shown:.2f}",
                    f"{accuracy:.3f}",
                    f"{bounds[name]:.3f}",
                    *judge(float(above), "at most", 0.0),
                ]
            )
    header = (
        "model | advantage, mean (spread) | interval, mean ends | shown above 0 | accuracy | "
        "at most, as claimed | shown above that: target | reached"
    )
    return table(header, rows)


def figures(estimator, trained_on, others, epsilon: float) -> tuple[float, ...]:
    with TemporaryDirectory() as folder:
        path = f"{folder}/model.mk"
        mechanism = f"objective perturbation of diffprivlib {version('diffprivlib')}, one row"
        mk.save(
            estimator.fit(*trained_on),
            path,
            example=trained_on[0],
            converters={PrivateRegression: as_scikit_learn},
            privacy=None
            if epsilon == inf
            else {"epsilon": epsilon, "delta": 0.0, "mechanism": mechanism},
        )
        found = mk.evaluate(path, *others, train=trained_on)
    leak = found["membership_advantage"]
    return leak.value, leak.low, leak.high, found["accuracy"].value


# Coverage


def side(errors, weights=None, clusters=None) -> Answered:
    errors = errors.reshape(-1, 1)
    return Answered("regression", 0 * errors, errors, weights=weights, clusters=clusters)


def grouped(rng, sizes, shift: float, alike: float) -> Answered:
    """Log errors N(shift, 1); those of a cluster correlate by `alike`."""
    which = np.repeat(np.arange(len(sizes)), sizes)
    common = sqrt(alike) * rng.normal(size=len(sizes))[which]
    own = sqrt(1 - alike) * rng.normal(size=len(which))
    return side(np.exp(shift + common + own), clusters=which)


def true_advantage(shift: float) -> float:
    """Of losses with laws N(0, 1) and N(shift, 1)."""
    return float(2 * norm.cdf(shift / 2) - 1)


def alone(m: int, n: int, shift: float, *, weighted: bool = False):
    def draw(rng):
        weights = [rng.exponential(size=size) if weighted else None for size in (m, n)]
        before, after = rng.normal(size=m), rng.normal(shift, 1, n)
        return side(np.exp(before), weights[0]), side(np.exp(after), weights[1])

    return draw, true_advantage(shift)


def telling_weights(shift: float):
    """Weights of e^x on log losses x, which make the laws N(1, 1) and N(1 + shift, 1)."""

    def draw(rng):
        logs = rng.normal(size=300), rng.normal(shift, 1, 300)
        return tuple(side(np.exp(each), np.exp(each)) for each in logs)

    return draw, true_advantage(shift)


def right_or_wrong(first: float, second: float):
    def draw(rng):
        wrong = (rng.random(300) > share for share in (first, second))
        return tuple(side(each * 1.0) for each in wrong)

    return draw, first - second


def together(sizes, shift: float, alike: float):
    def draw(rng):
        return grouped(rng, sizes, 0.0, alike), grouped(rng, sizes, shift, alike)

    return draw, true_advantage(shift)


EQUAL = np.full(40, CLUSTER)
UNEQUAL = np.concatenate([[100, 100, 60], np.full(37, 4)])
CELLS = {
    **{
        f"{m} and {n} rows, true advantage {true_advantage(shift):.2f}": alone(m, n, shift)
        for m, n in ((20, 20), (100, 100), (1000, 1000), (1000, 100))
        for shift in (0.0, 0.5, 2.0)
    },
    "300 and 300, right or wrong, 1 and .7": right_or_wrong(1.0, 0.7),
    "300 and 300, right or wrong, .9 and .9": right_or_wrong(0.9, 0.9),
    **{
        f"300 and 300, weights, {true_advantage(shift):.2f}": alone(300, 300, shift, weighted=True)
        for shift in (0.0, 0.5)
    },
    **{
        f"300 and 300, weights that grow with the loss, {true_advantage(shift):.2f}": (
            telling_weights(shift)
        )
        for shift in (0.0, 0.5)
    },
    **{
        f"40 clusters of 10, correlation {alike:g}, {true_advantage(shift):.2f}": together(
            EQUAL, shift, alike
        )
        for alike in (0.3, 1.0)
        for shift in (0.0, 0.5)
    },
    **{
        f"40 clusters, three with 64 % of the rows, {true_advantage(shift):.2f}": together(
            UNEQUAL, shift, 1.0
        )
        for shift in (0.0, 0.5)
    },
}


def coverage(args) -> str:
    """Intervals of 95 %: how often the true advantage is below, and above"""
    rows = []
    for name, (draw, true) in CELLS.items():
        rng = np.random.default_rng(0)
        found = [membership_advantage(*draw(rng), 0.95) for _ in range(args.runs)]
        below = np.mean([true < each.low for each in found])
        above = np.mean([true > each.high for each in found])
        width = np.mean([each.high - each.low for each in found])
        worst = max(below, above)
        limit = MISSED + 3 * sqrt(MISSED * (1 - MISSED) / args.runs)
        shown = [f"{1 - below - above:.3f}", f"{below:.3f}", f"{above:.3f}", f"{width:.3f}"]
        rows.append([name, *shown, *judge(float(worst), "at most", round(limit, 3))])
    return table("cell | held | below | above | width | each end: target | reached", rows)


def shares_interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Of the difference of two shares, by the normal law."""
    first, second = before.mean(), after.mean()
    error = sqrt(first * (1 - first) / len(before) + second * (1 - second) / len(after))
    return first - second - 1.96 * error, first - second + 1.96 * error


def best_threshold(before: np.ndarray, after: np.ndarray) -> float:
    both = np.sort(np.concatenate([before, after]))
    excess = np.searchsorted(np.sort(before), both, "right") / len(before)
    excess = excess - np.searchsorted(np.sort(after), both, "right") / len(after)
    return both[excess.argmax()]


def naive(args) -> str:
    """What is usually done: how often 95 % hold the true advantage, of 300 and 300 rows"""
    rows = []
    for shift in (0.0, 0.2, 0.5, 2.0):
        true = true_advantage(shift)
        rng = np.random.default_rng(0)
        held = {"modelkit": [], "same rows": [], "half": []}
        widths = {name: [] for name in held}
        for _ in range(args.runs):
            before, after = rng.normal(size=300), rng.normal(shift, 1, 300)
            ours = membership_advantage(side(np.exp(before)), side(np.exp(after)), 0.95)
            at = best_threshold(before, after)
            half = best_threshold(before[:150], after[:150])
            ends = {
                "modelkit": (ours.low, ours.high),
                "same rows": shares_interval(before <= at, after <= at),
                "half": shares_interval(before[150:] <= half, after[150:] <= half),
            }
            for name, (low, high) in ends.items():
                held[name].append(low <= true <= high)
                widths[name].append(high - low)
        shown = [f"{np.mean(held[name]):.3f} ({np.mean(widths[name]):.3f})" for name in held]
        rows.append(
            [f"{true:.2f}", *shown, *judge(float(np.mean(held["modelkit"])), "at least", 0.95)]
        )
    header = (
        "true advantage | modelkit: held (width) | threshold and interval of the same rows | "
        "threshold of one half, interval of the other | target of modelkit | reached"
    )
    return table(header, rows)


def price(_) -> str:
    """100,000 training rows and 100,000 others, of losses alone"""
    rng = np.random.default_rng(0)
    sides = alone(100_000, 100_000, 0.5)[0](rng)
    spent = seconds(lambda: membership_advantage(*sides, 0.95), 5)
    return table(
        "what | seconds | target | reached",
        [["membership_advantage", f"{spent:.3f}", *judge(spent, "at most", 0.5)]],
    )


SECTIONS = {"models": models, "coverage": coverage, "naive": naive, "price": price}

if __name__ == "__main__":
    command(__doc__, SECTIONS, LIBRARIES, "privacy", runs=2000, seeds=20)
