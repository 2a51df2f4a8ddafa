"""Gaussian processes, in double."""

import pytest
from helpers.answers import cancer, diabetes, differences, names
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor, kernels

PROCESSES = {
    "default": None,
    "lengths": kernels.ConstantKernel(2) * kernels.RBF(range(1, 11)) + kernels.WhiteKernel(0.1),
    "matern 0.5": kernels.Matern(nu=0.5) + kernels.WhiteKernel(),
    "matern 1.5": kernels.Matern(nu=1.5),
    "matern 2.5": kernels.Matern(nu=2.5) * 2,
    "products": (kernels.DotProduct() + kernels.WhiteKernel()) * kernels.DotProduct(2),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_gaussian_processes(name, tmp_path):
    estimator = GaussianProcessRegressor(
        PROCESSES[name], optimizer=None, alpha=1e-2, normalize_y=True
    )
    gap = differences(estimator, diabetes, tmp_path / "m.mk", 10.0)["prediction"]
    assert gap < 1e-12


@pytest.mark.parametrize("data", [names, cancer])
def test_gaussian_processes_of_classes(data, tmp_path):
    estimator = GaussianProcessClassifier(kernels.RBF(3.0), optimizer=None)
    # The source adds up numbers of 3,500 to one below 1.
    assert differences(estimator, data, tmp_path / "m.mk", 10.0)["probabilities"] < 1e-11
