"""Train with differential privacy, save what you claim of it, and measure what the answers give away.

    python private_training.py

It trains a model of odd and even digits with less and less epsilon, and prints how well an attacker
tells training rows from others, beside the most that the claim allows. It takes diffprivlib 0.6.6, and
scikit-learn below 1.8, which that needs.
"""

from importlib.metadata import version
from math import exp, inf

import numpy as np
from diffprivlib.models import LogisticRegression as PrivateRegression
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

import modelkit as mk

MECHANISM = (
    f"objective perturbation of diffprivlib {version('diffprivlib')}, neighbours differ in one row"
)


def data(seed=0):
    """Rows and whether the digit is odd: 200 to train on, the others not."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X = X[order] - 8.0  # the middle of what a pixel can be: no figure of the rows
    y = y[order] % 2
    return (X[:200], y[:200]), (X[200:], y[200:])


def fit(X, y, epsilon, seed=None):
    """A classifier; give no seed in earnest, since whoever knows it can take the noise away.

    A Normalizer looks at one row at a time, and makes data_norm=1 true of any row. What looks at all
    rows, such as a StandardScaler, would need a share of epsilon.
    """
    options = {"C": 1e4, "max_iter": 5000}
    last = LogisticRegression(**options)
    if epsilon < inf:
        last = PrivateRegression(epsilon=epsilon, data_norm=1.0, random_state=seed, **options)
    return make_pipeline(Normalizer(), last).fit(X, y)


def as_scikit_learn(private):
    """The same classifier, as scikit-learn has it: noise came with the training, not with the answers."""
    plain = LogisticRegression()
    for name in ("classes_", "coef_", "intercept_", "n_features_in_", "n_iter_"):
        setattr(plain, name, getattr(private, name))
    return plain


def train(path, rows, epsilon=inf, seed=None):
    """Save a model of the training rows with its claim."""
    claim = {"epsilon": epsilon, "delta": 0.0, "mechanism": MECHANISM}
    mk.save(
        fit(*rows, epsilon, seed),
        path,
        example=rows[0],
        name="digits",
        converters={PrivateRegression: as_scikit_learn},
        privacy=claim if epsilon < inf else None,
    )


def most_advantage(claim):
    """What an attacker reaches at most, if the claim is true (Kairouz, Oh and Viswanath 2015)."""
    if claim is None:
        return 1.0
    return (exp(claim.epsilon) - 1 + 2 * claim.delta) / (exp(claim.epsilon) + 1)


def main(path="digits.mk", seed=None):
    trained_on, others = data()
    print("epsilon  accuracy  membership advantage   at most, if the claim is true")
    for epsilon in (inf, 100.0, 30.0, 10.0, 3.0, 1.0):
        train(path, trained_on, epsilon, seed)
        found = mk.evaluate(path, *others, train=trained_on)
        leak = found["membership_advantage"]
        shown = f"{leak.value:.3f} [{leak.low:.3f}, {leak.high:.3f}]"
        bound = most_advantage(mk.inspect(path).privacy)
        print(f"{epsilon:7g}  {found['accuracy'].value:8.3f}  {shown:21}  {bound:.3f}")


if __name__ == "__main__":
    main()
