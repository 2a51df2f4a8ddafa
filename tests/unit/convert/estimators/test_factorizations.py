"""NMF: the weights of its components."""

import numpy as np
import pytest
from helpers.packages import opened
from helpers.transformers import FRESH, TRAIN
from sklearn.decomposition import NMF, MiniBatchNMF

from modelkit.errors import ConversionError

SEED = {"random_state": 0}
FACTORS = {
    "by coordinates": NMF(3, **SEED),
    "with penalties": NMF(4, alpha_W=1e-3, l1_ratio=0.4, init="nndsvd", **SEED),
    "by multiplication": NMF(3, solver="mu", init="nndsvda", max_iter=150, **SEED),
    "of counts": NMF(2, solver="mu", beta_loss="kullback-leibler", alpha_W=1e-4, **SEED),
    "in batches": MiniBatchNMF(3, max_iter=20, **SEED),
    "in batches, of counts": MiniBatchNMF(2, beta_loss="kullback-leibler", max_iter=20, **SEED),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FACTORS)
def test_factors_without_negative_numbers(name, tmp_path):
    """The iteration of the source, stopped where it stops: by all rows of a batch together."""
    train = TRAIN[:, :5] / TRAIN[:, :5].max(axis=0)
    fresh = FRESH[:, :5] / TRAIN[:, :5].max(axis=0)
    model = FACTORS[name].fit(train)
    package = opened(model, train, tmp_path)
    nothing = [0 * fresh[:2]] if model.tol and name in ("by coordinates", "with penalties") else []
    for rows in (fresh, fresh[:3], fresh[:1], *nothing):
        np.testing.assert_allclose(
            package.predict(rows), model.transform(rows), rtol=1e-9, atol=1e-12
        )


def test_factors_left_to_chance_are_refused(tmp_path):
    model = NMF(2, shuffle=True, init="random", max_iter=500, **SEED).fit(TRAIN)
    with pytest.raises(ConversionError, match="shuffle=False"):
        opened(model, TRAIN, tmp_path)
