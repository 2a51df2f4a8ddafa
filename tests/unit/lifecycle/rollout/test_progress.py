"""What a process says of a rollout that ended: how, why, and who answers now."""

from __future__ import annotations

import re

import pytest
from helpers.churn import X

import modelkit as mk
from modelkit.lifecycle.rollout.progress import GuardProgress, RolloutProgress
from modelkit.model.identity import Identity


def policy(**options):
    return mk.RolloutPolicy((mk.RolloutStage(0.5),), **options)


def test_status_says_that_somebody_went_back_after_a_promotion(two):
    rollout = mk.Rollout(*two, share=0.5)
    rollout.promote("it looks well")
    assert "churn 1.1.0 answers everything" in str(rollout.status())
    rollout.rollback("orders went down")
    status = rollout.status()
    assert (status.decision, status.reason) == ("rollback", "orders went down")
    assert "churn 1.0.0 answers everything" in str(status)


@pytest.mark.parametrize("decision", ["rollback", "promote"])
def test_a_process_knows_what_somebody_else_decided(churn, decision):
    with mk.Rollout(churn, "churn", poll=1000) as rollout:
        underway = churn.start_rollout("churn", "1.1.0", policy(), reason="canary")
        rollout.refresh()
        churn.decide_rollout("churn", underway, decision, reason="a person says so")
        rollout.refresh()
        status = rollout.status()
        assert (status.decision, status.reason) == (decision, "a person says so")
        assert not status.under_way
        answers = "1.1.0" if decision == "promote" else "1.0.0"
        assert f"churn {answers} answers everything" in str(status)


def test_a_process_says_who_answers_when_the_champion_was_set_by_hand(churn):
    with mk.Rollout(churn, "churn", poll=1000) as rollout:
        churn.start_rollout("churn", "1.1.0", policy(), reason="canary")
        rollout.refresh()
        churn.set_alias("churn", "champion", "2.0.0", expected="1.0.0", reason="hot fix")
        rollout.refresh()
        assert "it has ended, and churn 2.0.0 answers everything" in str(rollout.status())


def test_a_process_says_when_calls_are_counted(churn):
    with mk.Rollout(churn, "churn", poll=1000) as rollout:
        assert rollout.status().notes == ()
        churn.start_rollout("churn", "1.1.0", policy(tick=20.0), reason="canary")
        rollout.refresh()
        rollout.run(X[:1])
        status = rollout.status()
        assert status.calls == (0, 0)
        assert status.notes == (
            "no call is counted yet: calls are added up every 20 s, with the first call after that",
        )


@pytest.mark.parametrize(
    ("worse", "better", "words"),
    [(2.4, 352911437.0, ("2.4", "400", "3.53e+08", "100")), (120.4, None, ("120", "400", "", ""))],
)
def test_the_page_and_the_terminal_write_evidence_alike(worse, better, words):
    """The page had 352911437, which nobody found in the terminal again."""
    guard = GuardProgress("errors", worse, 400.0, better, 100.0)
    progress = RolloutProgress(Identity("churn", "1.0.0", "sha256:0"), guards=(guard,))
    text = "evidence against the candidate {} of {}, for it {} of {}".format(*words).removesuffix(
        ", for it  of "
    )
    assert f"errors: {text}" in str(progress)
    cells = re.findall(r"<td.*?</td>", progress._repr_html_())
    cells = [re.sub("<[^>]*>", "", cell) for cell in cells]
    assert cells[-6:] == ["errors", *words, ""]
