"""`modelkit diff`: in what two packages differ."""

from helpers.commands import run

import modelkit as mk


def test_digests_columns_and_figures_are_compared(capsys, shell):
    status, out, _ = run(capsys, "diff", "churn.mk", "new.mk")
    assert status == 0
    assert out.startswith("--- churn.mk\n+++ new.mk\nversion\n  - 1.0.0\n  + 1.1.0\n")
    old, new = (mk.inspect(name).digest for name in ("churn.mk", "new.mk"))
    assert f"\ndigest\n  - sha256:{old}\n  + sha256:{new}\n" in out
    assert "\nname\n" not in out
    with mk.load("churn.mk") as model:
        accuracy = mk.Evaluation.packaged(model)["accuracy"].value
    assert f"\naccuracy\n  - {accuracy}\n" in out


def test_columns_that_differ_are_shown_and_long_facts_go_on_in_the_next_line(capsys, packages):
    _, out, _ = run(capsys, "diff", packages / "1.0.0.mk", packages / "narrow.mk")
    _, _, *lines = out.splitlines()  # the paths are as long as they are
    assert any(line.startswith("input ") for line in lines)
    assert max(map(len, lines)) <= 100
    parity = str(mk.inspect(packages / "narrow.mk").parity)
    assert len(parity) > 100
    assert f"  + {parity}" in " ".join(out.split("\n    "))


def test_equal_packages_are_equal(capsys, shell):
    assert run(capsys, "diff", "new.mk", "new.mk") == (0, "the packages are equal\n", "")
    assert run(capsys, "diff", "new.mk", "none.mk")[0] == 1
