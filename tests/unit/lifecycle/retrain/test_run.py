"""A retraining is a value: JSON and a card."""

import pytest
from helpers.retrainings import retrain

import modelkit as mk
from modelkit.errors import PackageError


def test_a_run_is_the_same_after_json_and_has_a_card(registry, tmp_path):
    run = retrain(registry, tmp_path)
    assert mk.types.RetrainRun.from_json(run.to_json()) == run
    assert run.version in run._repr_html_()
    assert (
        str(run)
        .splitlines()[0]
        .endswith(f"promoted with {run.version} in place of 1.0.0: champion is {run.version}")
    )
    for text in ("", "{}", "[]", run.to_json().replace("promoted", "perhaps")):
        with pytest.raises(PackageError):
            mk.types.RetrainRun.from_json(text)
