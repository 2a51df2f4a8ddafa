"""`modelkit sign` and `modelkit verify`: a package is signed, and one that is not right is an error."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import run
from helpers.forge import forge
from helpers.places import ROOT
from helpers.signers import key_pair

import modelkit as mk
from modelkit.package.signing import signatures_of


@pytest.fixture
def package(boosting_mk, tmp_path):
    return Path(shutil.copy(boosting_mk, tmp_path / "churn.mk"))


@pytest.fixture
def signer(tmp_path):
    return key_pair(tmp_path)


def test_a_package_is_signed_and_verified(capsys, package, signer):
    private, public = signer
    digest = mk.inspect(package).digest
    status, out, err = run(capsys, "verify", package)
    assert (status, err) == (0, "")
    assert "signatures   0 there, NOT checked: pass --key" in out
    status, out, err = run(capsys, "sign", package, "--key", private, "--expires", "2999-01-31")
    assert (status, err) == (0, "")
    (signed,) = signatures_of(package)
    assert (
        out == f"{package}.sig: key {signed.key} signed {digest}, until 2999-01-31T00:00:00+00:00\n"
    )
    status, out, err = run(capsys, "verify", package, "--key", public)
    assert (status, err) == (0, "")
    first, hashes, golden, signatures = out.splitlines()
    assert first == f"breast-cancer 1.0.0, sha256:{digest}"
    assert hashes == f"  hashes       right, of {len(mk.inspect(package).files)} files"
    assert golden.startswith("  golden rows  right, largest relative difference ")
    assert signatures == f"  signatures   right, by {public}"


def test_a_key_comes_from_the_environment_of_a_process(package, signer):
    private, public = signer
    environment = {**os.environ, "SIGNING_KEY": private.read_text()}
    for arguments in (["sign", "--key", "env:SIGNING_KEY"], ["verify", "--key", public]):
        command = [sys.executable, "-m", "modelkit", arguments[0], package, *arguments[1:]]
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        assert "PRIVATE" not in done.stdout + done.stderr


def test_what_is_not_right_is_an_error(capsys, package, signer, tmp_path):
    private, public = signer
    _, other = key_pair(tmp_path, "other")
    run(capsys, "sign", package, "--key", private)
    status, out, err = run(capsys, "verify", package, "--key", other)
    assert (status, out) == (1, "")
    assert "no signature counts by" in err
    assert "other.pub" in err
    assert run(capsys, "verify", package, "--key", other, "--key", public)[0] == 0
    package.write_bytes(forge(package.read_bytes(), edit=lambda plain: plain.update(version="2")))
    status, out, err = run(capsys, "verify", package, "--key", public)
    assert (status, out) == (1, "")
    assert "release.pub signed another package" in err
    assert run(capsys, "verify", tmp_path / "release.pem")[0] == 1


def test_a_joblib_package_is_verified_by_consent_and_key(capsys, joblib_mk, signer, tmp_path):
    private, public = signer
    package = shutil.copy(joblib_mk, tmp_path / "forest.mk")
    status, _, err = run(capsys, "verify", package)
    assert status == 1
    assert err.endswith("on the command line: --allow joblib, --digest, --key\n")
    run(capsys, "sign", package, "--key", private)
    status, out, _ = run(capsys, "verify", package, "--key", public, "--allow", "joblib")
    assert status == 0
    assert "golden rows  right" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--expires", "tomorrow"], 2, "'tomorrow' is not a date such as 2030-01-31"),
        (["--expires", "2020-01-01"], 2, "expires has passed"),
        (["--key", "env:NO_SUCH_KEY"], 2, "variable 'NO_SUCH_KEY'"),
        (["--key", "none.pem"], 1, "none.pem"),
    ],
)
def test_arguments_that_cannot_be_meant(capsys, package, signer, arguments, status, message):
    try:
        found, _, err = run(capsys, "sign", package, "--key", signer[0], *arguments)
    except SystemExit as ended:
        found, err = ended.code, capsys.readouterr().err
    assert found == status
    assert message in err
    assert not package.with_name("churn.mk.sig").exists()


@pytest.mark.skipif(not (shutil.which("openssl") and shutil.which("bash")), reason="no openssl")
def test_the_lines_of_the_page_make_a_key_and_sign(package, tmp_path):
    """The shell lines of docs/howto/protect/sign.md, as they stand there."""
    page = (ROOT / "docs" / "howto" / "protect" / "sign.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```shell\n(openssl .*?)```", page, re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-ec", lines],  # noqa: S607 - of this machine
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=True,
        timeout=60,
    )
    mk.load(package, trust=mk.Trust([tmp_path / "release.pub"])).close()
