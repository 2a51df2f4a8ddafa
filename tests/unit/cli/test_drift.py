"""`modelkit drift`: its status says whether rows differ."""

import numpy as np
import pandas as pd
import pytest
from helpers.commands import run

import modelkit as mk
from modelkit import cli


@pytest.fixture
def drift_csvs(penguins, tmp_path):
    """Rows of the past, later ones like them, and later ones with heavier penguins; each with a key of its own."""
    X = penguins[0].dropna().sample(frac=1, random_state=0)
    past, later = X[:220], X[220:]
    heavier = later.assign(body_mass_g=later["body_mass_g"] * 1.25)
    for name, rows in {"past": past, "later": later, "heavier": heavier}.items():
        rows.assign(key=[f"{name}{i}" for i in range(len(rows))]).to_csv(
            tmp_path / f"{name}.csv", index=False
        )
    return {name: tmp_path / f"{name}.csv" for name in ("past", "later", "heavier")}


def test_drift_says_by_its_status_whether_rows_differ(capsys, penguins_mk, drift_csvs, tmp_path):
    status, out, err = run(
        capsys, "drift", penguins_mk, "--reference", drift_csvs["past"], drift_csvs["later"]
    )
    assert (status, err) == (0, "")
    assert out.startswith(
        "Drift of a batch, no alarm: 113 rows against 110 of the reference, alpha 0.01\n"
    )
    status, out, err = run(
        capsys, "drift", penguins_mk, "--reference", drift_csvs["past"], drift_csvs["heavier"],
        "--output", tmp_path / "drift.html", "--output", tmp_path / "drift.csv",
    )  # fmt: skip
    assert (status, err) == (4, "")
    assert "ALARM body_mass_g: changed" in out
    assert "key" not in out
    assert "body_mass_g" in (tmp_path / "drift.html").read_text(encoding="utf-8")
    table = pd.read_csv(tmp_path / "drift.csv").set_index("feature")
    assert table.loc["body_mass_g", "psi"] > 0.25
    assert table.loc["body_mass_g", "alarms"] == '["changed"]'


def test_drift_goes_by_the_profile_in_the_package(
    capsys, pipeline, penguins, penguins_mk, drift_csvs, tmp_path
):
    X = penguins[0].dropna()
    with mk.load(penguins_mk) as model:
        profile = mk.Profile.fit(X, model=model)
    path = tmp_path / "watched.mk"
    mk.save(pipeline, path, example=X, name="penguins", version="1.0.0", profile=profile)
    status, out, _ = run(capsys, "drift", path, drift_csvs["heavier"], "--alpha", "0.05", "--json")
    assert status == 4
    report = mk.DriftReport.from_json(out)
    assert report.alpha == 0.05
    assert "body_mass_g" in {alarm.feature for alarm in report.alarms}
    assert {drift.rows for drift in report.features} == {
        113
    }  # what the model answers is compared too


def test_drift_tells_units_by_columns_that_the_model_does_not_take(
    capsys, pipeline, penguins, tmp_path
):
    rows = penguins[0].dropna().sample(2000, replace=True, random_state=0)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(2000) // 50, unit="D")
    profile = mk.Profile.fit(rows.assign(day_of=days.astype(str)), unit="day", time="day_of")
    path = tmp_path / "daily.mk"
    mk.save(pipeline, path, example=rows, name="penguins", version="1.0.0", profile=profile)
    later = rows.assign(day_of="2025-01-01T12:00")[:50]
    for factor, expected in ((1.0, 0), (1.4, 4)):
        heavier = later.assign(body_mass_g=later["body_mass_g"] * factor)
        heavier.to_csv(tmp_path / "day.csv", index=False)
        status, out, err = run(capsys, "drift", path, tmp_path / "day.csv", "--alpha", "0.05")
        assert (status, err) == (expected, "")
    assert "body_mass_g: changed with day 2025-01-01" in out


def test_drift_has_another_status_for_mistakes(capsys, penguins_mk, drift_csvs):
    status, out, err = run(capsys, "drift", penguins_mk, drift_csvs["later"])
    assert (status, out) == (2, "")
    assert "on the command line: --reference" in err
    for wrong in (["--alpha", "1%"], ["--nothing"], []):
        current = [str(drift_csvs["later"])] if wrong else []
        with pytest.raises(SystemExit) as caught:
            cli.main(["drift", str(penguins_mk), *current, *wrong])
        assert caught.value.code == 2
