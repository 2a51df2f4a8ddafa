"""`modelkit diff`: in what two packages differ."""

from helpers.commands import run

import modelkit as mk


def test_digests_columns_and_figures_are_compared(capsys, shell):
    status, out, _ = run(capsys, "diff", "churn.mk", "new.mk")
    assert status == 0
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert out.splitlines()[0].split() == ["churn.mk", "new.mk"]
    assert lines["version"] == ["1.0.0", "1.1.0"]
    assert lines["digest"] == [f"sha256:{mk.inspect(n).digest}" for n in ("churn.mk", "new.mk")]
    assert "name" not in lines
    with mk.load("churn.mk") as model:
        accuracy = mk.Evaluation.packaged(model)["accuracy"].value
    assert lines["accuracy"] == [str(accuracy), "-"]


def test_columns_that_differ_are_shown(capsys, packages):
    _, out, _ = run(capsys, "diff", packages / "1.0.0.mk", packages / "narrow.mk")
    assert any(line.startswith("input ") for line in out.splitlines())


def test_equal_packages_are_equal(capsys, shell):
    assert run(capsys, "diff", "new.mk", "new.mk") == (0, "the packages are equal\n", "")
    assert run(capsys, "diff", "new.mk", "none.mk")[0] == 1
