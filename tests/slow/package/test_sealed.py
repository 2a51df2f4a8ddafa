"""Sealed packages in a bucket, by a KMS, in the child of a fork; and every flipped bit of ten thousand."""

import os
import pickle
import runpy

import numpy as np
import pytest
from helpers.buckets import moto
from helpers.forge import WEIGHTS, members_of
from helpers.places import ROOT
from helpers.sealed import key_files, opened_flips

import modelkit as mk
from modelkit.errors import UntrustedError

X = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
WIDE = np.random.default_rng(0).normal(size=(4, 1088)).astype(np.float32)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return key_files(tmp_path_factory.mktemp("keys"), "ada")


@pytest.fixture
def aws(tmp_path, monkeypatch):
    """The services of AWS on this machine; gives the URL of a bucket."""
    with moto(tmp_path) as (url, environment):
        for name, value in {**environment, "AWS_DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(name, value)
        yield url


def test_a_kms_wraps_and_unwraps_the_data_key(aws, toy, tmp_path):
    import boto3
    from botocore.exceptions import ClientError

    key = boto3.client("kms").create_key()["KeyMetadata"]["KeyId"]
    kms = runpy.run_path(str(ROOT / "docs" / "recipes" / "kms.py"))["Kms"]
    out = tmp_path / "sealed.mk"
    mk.seal(toy, {"kms": kms(key).wrap}, out=out)
    with mk.load(out, unseal=kms(key).unwrap) as model, mk.load(toy) as plain:
        assert np.array_equal(model.predict(X), plain.predict(X))
    with pytest.raises(UntrustedError, match="sealed for kms"):
        mk.load(out, unseal=kms(key, "other").unwrap)
    mk.seal(toy, {"other": kms(key, "kms").wrap}, out=out)
    with pytest.raises(ClientError, match="InvalidCiphertext"):
        mk.load(out, unseal=kms(key, "other").unwrap)


def test_a_bucket_keeps_a_sealed_package(aws, toy, keys, tmp_path):
    private, public = keys
    out = tmp_path / "sealed.mk"
    mk.seal(toy, {"ada": public}, out=out)
    registry = mk.Registry(aws)
    registry.register(out)
    assert registry.fetch("toy", "1", tmp_path / "cache").read_bytes() == out.read_bytes()
    wanted = mk.load(toy).predict(X)
    for model in (
        registry.load("toy", "1", unseal=private),
        mk.load(registry.reference("toy", "1"), unseal=private),
    ):
        assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(X), wanted)


def test_the_child_of_a_fork_answers_without_the_key(wide_mk, tmp_path):
    private, public = key_files(tmp_path, "gone")
    out = tmp_path / "sealed.mk"
    mk.seal(wide_mk, {"gone": public}, out=out)
    model = mk.load(out, unseal=private, device="cpu")
    wanted = model.predict(WIDE)
    private.unlink()
    out.unlink()
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(model.predict(WIDE), wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_ten_thousand_flipped_bits_are_refused(toy, wide_mk, keys, tmp_path):
    private, public = keys
    out = tmp_path / "sealed.mk"
    for source, count in ((toy, 9_800), (wide_mk, 200)):
        mk.seal(source, {"ada": public}, out=out)
        assert opened_flips(out.read_bytes(), private, count) == 0


def test_all_weights_come_back(wide_mk, keys, tmp_path):
    private, public = keys
    out = tmp_path / "sealed.mk"
    mk.seal(wide_mk, {"ada": public}, out=out)
    for _ in range(50):  # chunks are opened by several threads
        weights = mk.load(out, unseal=private).graph[1]
        assert weights == members_of(wide_mk.read_bytes())[WEIGHTS]
