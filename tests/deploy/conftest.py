"""What the tests of deployments share: a base image, a wheel, a package, and the image of it, each made once a run."""

import os
import sys
from pathlib import Path

import pytest
from helpers import images
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

IMAGE = "localhost/tumour:1.0.0"


def pytest_sessionfinish(session):
    """What containers left is removed when all workers have ended."""
    if "PYTEST_XDIST_WORKER" not in os.environ and images.STORED.exists():
        images.Podman(images.STORED).remove()


@pytest.fixture(scope="session")
def base(once):
    """The files of a Debian with Python. They are kept with the environment: `make clean` removes them."""
    path = Path(sys.prefix) / "debian.tar"

    def make(done):
        if not path.exists():
            images.debian(path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        done.touch()

    once("base", make)
    return path


@pytest.fixture(scope="session")
def wheel(once):
    return next(once("wheel", images.wheel_of_modelkit).iterdir())


@pytest.fixture(scope="session")
def rows():
    return load_breast_cancer(as_frame=True).data[["mean radius", "mean texture"]]


@pytest.fixture(scope="session")
def tumour_mk(once, rows):
    y = load_breast_cancer().target
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, y)
    options = {"example": rows, "name": "tumour", "version": "1.0.0"}
    return once("tumour.mk", lambda path: mk.save(estimator, path, **options))


@pytest.fixture(scope="session")
def context(once, tumour_mk, base, wheel):
    """The folder that an image of the package is built from."""
    return once("context", lambda path: images.context(tumour_mk, base, wheel, path, image=IMAGE))


@pytest.fixture(scope="session")
def podman(once, base, context):
    """Podman, which has the image of the package."""
    found = images.Podman(images.STORED)

    def build(done):
        found.build(base, context, IMAGE)
        done.touch()

    once("image", build)
    return found


@pytest.fixture(scope="session")
def image():
    return IMAGE
