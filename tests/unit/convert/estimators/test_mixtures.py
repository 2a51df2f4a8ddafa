"""Mixtures of Gaussians."""

import numpy as np
import pytest
from helpers.answers import check
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("mixture", [GaussianMixture, BayesianGaussianMixture])
def test_mixtures_of_float32(rows, fresh, tmp_path, mixture, kind):
    single = rows.astype(np.float32)
    fitted = mixture(n_components=2, covariance_type=kind, tol=0.1, random_state=0).fit(single)
    check(fitted, single, fresh.astype(np.float32), tmp_path / "a.mk")
