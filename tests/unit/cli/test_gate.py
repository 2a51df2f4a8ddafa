"""`modelkit gate`: its exit status, what it writes, and the registry it works with."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from helpers.judged import arguments, folder_of

import modelkit as mk
from modelkit.cli import main


@pytest.fixture(scope="module")
def folder(judged_pair, judged_rows, tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("gate"), judged_pair, judged_rows)


SLICED = ("--slice", "region", "--margin", "0.02")


@pytest.mark.parametrize("data", ["test.csv", "test.parquet"])
def test_the_status_tells_the_decision(folder, data, capsys):
    plain = arguments(folder, data=data)
    assert main([*plain, *SLICED]) == 0
    assert capsys.readouterr().out.startswith("PROMOTE: churn 1.1.0 in place of churn 1.0.0: ")
    assert main([*plain, "--slice", "region", "--margin", "0"]) == 3
    assert "INCONCLUSIVE" in capsys.readouterr().out
    assert main([*plain, *SLICED, "--require", "accuracy >= 0.99"]) == 4
    assert "it fails accuracy >= 0.99" in capsys.readouterr().out


def test_errors_and_mistakes_have_statuses_of_their_own(folder, capsys):
    assert main(arguments(folder, "--margin", "0.1", "--slice", "planet")) == 2
    assert main(arguments(folder, "--margin", "0.1", "--margin", "0.2")) == 2
    assert "no margin says how much worse accuracy may be" in capsys.readouterr().err
    assert main(arguments(folder, "--margin", "0.1", champion="none.mk")) == 1
    with pytest.raises(SystemExit) as caught:
        main(arguments(folder))
    assert caught.value.code == 2


def test_it_writes_json_junit_and_a_page(folder, tmp_path, capsys):
    paths = {name: tmp_path / name for name in ("v.json", "v.xml", "v.html")}
    written = ("--output", paths["v.json"], "--output", paths["v.xml"], "--output", paths["v.html"])
    asked = ("--require", "log_loss", "--margin", "accuracy=0.02", "--margin", "log_loss=0.05")
    status = main(arguments(folder, "--slice", "region", *asked, *map(str, written), "--json"))
    assert status == 0
    verdict = mk.Verdict.from_json(paths["v.json"].read_text(encoding="utf-8"))
    assert capsys.readouterr().out.strip() == verdict.to_json()
    assert verdict.margins == {"accuracy": 0.02, "log_loss": 0.05}
    suite = ET.parse(paths["v.xml"]).getroot().find("testsuite")  # noqa: S314 - our own
    assert int(suite.get("tests")) == len(verdict.checks)
    assert paths["v.html"].read_text(encoding="utf-8") == verdict.to_html()


def test_columns_that_nothing_names_are_refused_or_left_out(folder, capsys):
    more = (*SLICED, "--budget", "size_ratio=1.1")
    assert main(arguments(folder, *more, data="more.csv")) == 1
    assert "unexpected column 'id'" in capsys.readouterr().err
    assert main(arguments(folder, *more, "--extra", "ignore", data="more.csv")) == 0


def test_a_candidate_goes_from_the_gate_to_the_champion(folder, tmp_path, capsys):
    where = str(tmp_path / "models")
    registry = ["registry", where]
    alias = ["alias", "churn@champion"]
    assert main([*registry, "register", str(folder / "a.mk")]) == 0
    assert main([*registry, *alias, "1.0.0", "--expected", "none", "--reason", "first"]) == 0
    verdict = str(tmp_path / "verdict.json")
    judged = [
        *("gate", str(folder / "b.mk"), "--champion", "registry:churn@champion"),
        *("--registry", where, str(folder / "test.csv"), "--label", "churned"),
        *("--output", verdict, *SLICED),
    ]
    assert main(judged) == 0
    assert main([*registry, "register", str(folder / "b.mk"), "--verdict", verdict]) == 0
    moved = [*registry, *alias, "1.1.0", "--verdict", verdict, "--reason", "gate"]
    assert main(moved) == 0
    assert "generation 2" in capsys.readouterr().out
    assert main(moved) == 3  # the champion that was judged is no longer there
    assert main([*registry, *alias, "1.1.0", "--reason", "why"]) == 2
    assert "pass --expected with the version" in capsys.readouterr().err
    assert main(["gate", *judged[1:3], "registry:churn@champion", *judged[6:]]) == 2
