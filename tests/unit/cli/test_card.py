"""`modelkit card`: both formats, of any package, without running it."""

import json

import pytest
from helpers.commands import run

import modelkit as mk
from modelkit.integrations import cards


def test_a_card_is_markdown_unless_another_format_is_asked_for(capsys, penguins_mk):
    status, out, err = run(capsys, "card", penguins_mk)
    assert (status, err) == (0, "")
    assert out == f"{cards.model_card(penguins_mk)}\n"
    status, out, err = run(capsys, "card", penguins_mk, "--format", "cyclonedx")
    assert (status, err) == (0, "")
    assert json.loads(out)["metadata"]["component"]["name"] == "penguins"


def test_a_pickled_estimator_is_not_opened_for_its_card(capsys, joblib_mk):
    status, out, _ = run(capsys, "card", joblib_mk)
    assert status == 0
    assert mk.inspect(joblib_mk).digest in out


def test_wrong_arguments_and_what_is_no_package_are_refused(capsys, tmp_path):
    (tmp_path / "x.mk").write_bytes(b"nothing of the kind")
    status, out, err = run(capsys, "card", tmp_path / "x.mk")
    assert (status, out) == (1, "")
    assert "not a modelkit package" in err
    with pytest.raises(SystemExit, match="2"):
        run(capsys, "card", tmp_path / "x.mk", "--format", "pdf")
    assert "invalid choice: 'pdf'" in capsys.readouterr().err
