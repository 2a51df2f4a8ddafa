"""`modelkit export grafana`: it writes files, and overwrites none that was changed."""

import pytest
from helpers.commands import run

from modelkit import cli
from modelkit.integrations.grafana import Objectives, alert_rules, dashboard

FILES = ("dashboard.json", "alerts.yml")


def export(folder, *options):
    return cli.main(["export", "grafana", "--output", str(folder), *options])


def test_the_command_writes_two_files_and_says_which(tmp_path, capsys):
    folder = tmp_path / "a" / "b"
    assert export(folder) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / name) for name in FILES]
    assert (folder / "dashboard.json").read_text() == dashboard()
    assert (folder / "alerts.yml").read_text() == alert_rules(Objectives())


def test_files_that_were_changed_are_not_overwritten(tmp_path, capsys):
    assert export(tmp_path) == export(tmp_path) == 0
    theirs = (tmp_path / "alerts.yml").read_text() + "# ours\n"
    (tmp_path / "alerts.yml").write_text(theirs)
    (tmp_path / "dashboard.json").unlink()
    capsys.readouterr()
    assert export(tmp_path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "alerts.yml in" in err
    assert "--force" in err
    assert (tmp_path / "alerts.yml").read_text() == theirs
    assert not (tmp_path / "dashboard.json").exists()
    assert export(tmp_path, "--force") == 0
    assert "# ours" not in (tmp_path / "alerts.yml").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--p99", "0"), "p99 is in seconds"),
        (("--p99", "60"), "p99 is in seconds"),
        (("--p99", "nan"), "p99 is in seconds"),
        (("--errors", "0"), "errors is the part"),
        (("--errors", "0.5"), "errors is the part"),
        (("--errors", "nan"), "errors is the part"),
        (("--runbook", ""), "runbook is the URL"),
        (("--runbook", "https://a/b#c"), "runbook is the URL"),
        (("--runbook", "{{ $labels.model }}"), "runbook is the URL"),
        (("--runbook", "docs\u0085metrics.md"), "runbook is the URL"),
    ],
)
def test_objectives_out_of_range_are_refused(tmp_path, capsys, options, said):
    assert export(tmp_path / "new", *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert export(tmp_path / "file") == 1
    assert "file" in capsys.readouterr().err


def test_where_one_file_cannot_stand_none_is_written(penguins_mk, tmp_path, capsys):
    (tmp_path / "tokens").write_text("a file, where a folder has to be")
    status, _, err = run(capsys, "export", "kubernetes", penguins_mk, "--output", tmp_path)
    assert (status, "tokens" in err) == (1, True)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".yaml"]
