"""`modelkit doctor`: runtimes, versions and golden rows."""

import io
import re

import numpy as np
from helpers.commands import run
from helpers.forge import forge, members_of, npz

import modelkit as mk


def test_doctor_finds_nothing_wrong_here(capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 0
    assert "no problems found" in out
    assert "CPUExecutionProvider" in out
    assert "Azure" not in out


def test_doctor_names_two_runtimes_and_the_line_that_mends_it(capsys, monkeypatch, tmp_path):
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 9.9\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    status, out, _ = run(capsys, "doctor")
    assert status == 1
    assert "PROBLEM: 2 runtimes" in out
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime\n" in out


def test_doctor_verifies_a_package_and_names_other_versions(capsys, penguins_mk, tmp_path):
    status, out, _ = run(capsys, "doctor", penguins_mk)
    assert status == 0
    assert "golden rows agree" in out
    assert "where the package was made" not in out
    other = tmp_path / "other.mk"
    other.write_bytes(
        forge(penguins_mk.read_bytes(), edit=lambda plain: plain["versions"].update(numpy="0.1"))
    )
    status, out, _ = run(capsys, "doctor", other)
    assert status == 0
    assert re.search(r"numpy \S+ here, 0.1 where the package was made", out)
    status, out, _ = run(capsys, "inspect", other)
    assert re.search(r"here +numpy ", out)


def test_doctor_fails_where_golden_rows_no_longer_agree(capsys, penguins_mk, tmp_path):
    data = penguins_mk.read_bytes()
    with np.load(io.BytesIO(members_of(data)["golden.npz"])) as file:
        golden = npz(**{**file, "out1": file["out1"] + 0.1})
    path = tmp_path / "drifted.mk"
    path.write_bytes(forge(data, golden=golden))
    status, out, _ = run(capsys, "doctor", path)
    assert status == 1
    assert "PROBLEM: output 'probabilities' of the golden rows differs by 0.1" in out


def test_doctor_opens_a_joblib_package_with_consent(capsys, joblib_mk, tmp_path):
    """It could open none, and a library that `requires` alone names was a KeyError."""
    status, _, err = run(capsys, "doctor", joblib_mk)
    assert status == 1
    assert "joblib" in err
    data = forge(
        joblib_mk.read_bytes(), edit=lambda plain: plain["requires"].update({"made-up": "1.2"})
    )
    path = tmp_path / "other.mk"
    path.write_bytes(data)
    digest = mk.inspect(path).digest
    status, out, _ = run(capsys, "doctor", path, "--allow", "joblib", "--digest", digest)
    assert status == 1
    assert "made-up none here, 1.2 where the package was made" in out
    assert "PROBLEM" in out
    status, out, _ = run(
        capsys, "doctor", joblib_mk, "--allow=joblib", "--digest", mk.inspect(joblib_mk).digest
    )
    assert (status, "golden rows agree" in out) == (0, True)
