"""`modelkit seal`, and `--unseal` where commands open a package."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.sealed import key_files

import modelkit as mk
from modelkit.cli import main
from modelkit.cli.serve import _opened
from modelkit.cli.settings import Settings
from modelkit.errors import UntrustedError


@pytest.fixture
def keys(tmp_path):
    return {name: [str(path) for path in key_files(tmp_path, name)] for name in ("ada", "ben")}


@pytest.fixture
def sealed(boosting_mk, keys, tmp_path, capsys):
    out = str(tmp_path / "sealed.mk")
    command = ["seal", str(boosting_mk), "--to", f"ada={keys['ada'][1]}", "--output", out]
    assert main([*command, "--to", f"ben={keys['ben'][1]}"]) == 0
    assert "sealed for ada, ben" in capsys.readouterr().out
    return out


def test_commands_open_what_was_sealed(sealed, keys, breast_cancer, tmp_path, capsys, monkeypatch):
    X, y = breast_cancer
    rows = tmp_path / "rows.csv"
    X[:40].assign(benign=y[:40]).to_csv(rows, index=False)
    X[:200].to_csv(tmp_path / "X.csv", index=False)
    given = str(tmp_path / "X.csv")
    monkeypatch.setenv("A_KEY", Path(keys["ben"][0]).read_text())
    for command in (
        ["doctor", sealed],
        ["verify", sealed],
        ["predict", sealed, given],
        ["explain", sealed, given, "--background", given],
        ["evaluate", sealed, str(rows), "--label", "benign"],
        ["drift", sealed, given, "--reference", given],
    ):
        assert main(command) != 0
        error = capsys.readouterr()
        assert "sealed for ada, ben" in error.out + error.err
        for key in (keys["ada"][0], "env:A_KEY"):
            assert main([*command, "--unseal", key]) == 0, capsys.readouterr()
    assert main(["predict", sealed, given]) == 1
    assert "on the command line: --unseal" in capsys.readouterr().err


def test_it_is_inspected_without_a_key(sealed, boosting_mk, capsys):
    assert main(["inspect", sealed, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == mk.inspect(boosting_mk).digest
    assert found["needs"] == {"unseal": ["ada", "ben"]}


def test_other_recipients_need_the_key_of_one(sealed, keys, tmp_path, capsys):
    command = ["seal", sealed, "--to", f"ben={keys['ben'][1]}", "--output", sealed]
    assert main(command) == 1
    assert main([*command, "--unseal", keys["ada"][0]]) == 0
    assert main(["doctor", sealed, "--unseal", keys["ada"][0]]) == 1
    err = capsys.readouterr().err
    assert "sealed for ben, and unseal=" in err
    assert "ada.pem' opens it for none" in err
    assert main(["doctor", sealed, "--unseal", keys["ben"][0]]) == 0


def test_a_server_opens_what_was_sealed(sealed, keys, breast_cancer, boosting_mk, tmp_path):
    X, _ = breast_cancer
    registry = mk.Registry(tmp_path / "models")
    name = registry.register(sealed).name
    registry.set_alias(name, "champion", "1.0.0", expected=None, reason="first")
    wanted = mk.load(boosting_mk).predict(X[:5])
    for asked in (Settings(sealed), Settings(name, registry=registry.url)):
        with pytest.raises(UntrustedError, match="sealed for ada, ben"):
            _opened(asked)
        served = _opened(replace(asked, unseal=keys["ada"][0]))
        with served if isinstance(served, mk.Model) else served.model as model:
            assert np.array_equal(model.predict(X[:5]), wanted)


def test_recipients_are_names_with_keys(boosting_mk, keys, tmp_path, capsys):
    command = ["seal", str(boosting_mk), "--output", str(tmp_path / "out.mk")]
    public = keys["ada"][1]
    for recipients, words in (
        (["ada"], "NAME=KEY"),
        ([f"={public}"], "whose names match"),
        ([f"ada={public}", f"ada={public}"], "each NAME once"),
        ([f"ada={keys['ada'][0]}"], "not a public key"),
    ):
        asked = [part for each in recipients for part in ("--to", each)]
        assert main([*command, *asked]) == 2
        assert words in capsys.readouterr().err
