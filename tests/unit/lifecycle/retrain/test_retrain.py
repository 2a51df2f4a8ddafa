"""One retraining: its steps, how it ends, what is refused, and what the history tells."""

import json
from pathlib import Path

import pytest
from helpers.retrainings import (
    AT_ONCE,
    CANARY,
    DAY,
    START,
    Clock,
    X,
    Y,
    judging,
    registry_at,
    retrain,
    save,
    train,
    verdict,
)
from helpers.signers import key_pair
from sklearn.ensemble import HistGradientBoostingClassifier

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import Conflict, NotFound, RetrainError, UntrustedError, UsageError
from modelkit.lifecycle.gate.verdict import Verdict
from modelkit.lifecycle.retrain.records import retrainings_of

STEPS = ["train", "save", "gate", "register", "rollout"]


def test_a_run_that_the_gate_promotes(registry, tmp_path):
    run = retrain(registry, tmp_path)
    assert run.state == "promoted"
    assert not run.under_way
    assert [step.name for step in run.steps] == STEPS
    assert registry.aliases("churn")["champion"].version == run.version == "2027.01.15-1"
    release = registry.version("churn", run.version)
    assert release.parents == (registry.version("churn", "1.0.0").digest,)
    kept = Verdict.from_json(registry.kept("churn", run.version, "verdict.json").decode())
    assert kept.decision == "promote"
    assert registry.history("churn")[-1].reason == "retraining 1: asked for: the tests"


def test_a_registry_that_trusts_keys_gets_what_the_training_signs(registry, tmp_path):
    private, public = key_pair(tmp_path)
    trusting = mk.Registry(registry.url, trust=mk.Trust([public]))
    with pytest.raises(UntrustedError, match="no signature counts by"):
        retrain(trusting, tmp_path / "unsigned")
    (failed,) = retrainings_of(trusting, "churn")
    assert (failed.state, failed.message) == ("failed", "UntrustedError in the step register")
    version = registry.fetch("churn", "1.0.0", tmp_path / "here")
    mk.sign(version, private)
    registry.register(version)
    run = retrain(
        trusting,
        tmp_path,
        train=lambda t: train(t) or mk.sign(t.package, private),
        clock=Clock(START + DAY),
    )
    assert run.state == "promoted"
    trusting.load("churn").close()


def test_what_a_training_is_told(registry, tmp_path):
    told = []
    retrain(registry, tmp_path, train=lambda t: told.append(t) or train(t),
            judge=lambda t: told.append(t) or verdict(t))  # fmt: skip
    first, second = told
    assert first == second
    assert first.champion == registry.version("churn", "1.0.0")
    assert (first.name, first.at, first.reason) == ("churn", START, "asked for: the tests")
    assert first.package.is_relative_to(first.folder)
    assert first.folder.is_relative_to(tmp_path)


@pytest.mark.parametrize(("outcome", "state"), [("unclear", "inconclusive"), ("fail", "blocked")])
def test_what_the_gate_does_not_promote_changes_nothing(registry, tmp_path, outcome, state):
    before = registry.history("churn")
    run = retrain(registry, tmp_path, judge=judging(registry, outcome))
    assert run.state == state
    assert "own" in run.message
    assert [step.name for step in run.steps] == STEPS[:3]
    assert registry.history("churn") == before
    assert [release.version for release in registry.versions("churn")] == ["1.0.0"]


def nothing(training):
    pass


def other_model(training):
    mk.save(lambda_model(), training.package, example=X, name="other", version="1.0.0")


def lambda_model():
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(X, X[:, 0])


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ({"train": nothing}, "saved no package"),
        ({"train": other_model}, "package of 'other'"),
        ({"judge": nothing}, "returns the Verdict"),
        ({"judge": lambda t: verdict(t, candidate_digest="0" * 64)}, "not about the package"),
        ({"judge": lambda t: verdict(t, generation=None, alias="")}, "registry:churn@champion"),
    ],
)
def test_functions_that_give_something_else(registry, tmp_path, functions, words):
    with pytest.raises(RetrainError, match=words):
        retrain(registry, tmp_path, **functions)
    assert retrainings_of(registry, "churn")[-1].state == "failed"


def test_an_error_reaches_the_caller_and_its_words_no_record(registry, tmp_path):
    def spoilt(training):
        raise ValueError("could not convert string to float: 'Mrs Smith'")

    with pytest.raises(ValueError, match="Mrs Smith"):
        retrain(registry, tmp_path, train=spoilt)
    (run,) = retrainings_of(registry, "churn")
    assert (run.state, run.message) == ("failed", "ValueError in the step train")
    files = [path for path in Path(registry.url).rglob("*") if path.is_file()]
    assert not [path for path in files if b"Smith" in path.read_bytes()]


def test_a_version_that_is_taken_fails_the_run(registry, tmp_path):
    with pytest.raises(Conflict, match="registered"):
        retrain(registry, tmp_path, train=lambda t: save(t.package, "1.0.0", t.seed))
    (run,) = retrainings_of(registry, "churn")
    assert (run.state, run.message) == ("failed", "Conflict in the step register")


@pytest.mark.parametrize("policy", [AT_ONCE, CANARY])
def test_a_run_is_superseded_where_somebody_moves_the_champion(registry, tmp_path, policy):
    save(tmp_path / "fix.mk", "1.0.1", seed=3)

    def judge(training):
        verdict = judging(registry)(training)
        if len(registry.history("churn")) == 1:
            registry.register(tmp_path / "fix.mk")
            registry.set_alias("churn", "champion", "1.0.1", expected="1.0.0", reason="hot fix")
        return verdict

    run = retrain(registry, tmp_path, judge=judge, policy=policy)
    assert run.state == "superseded"
    assert "1.0.1" in run.message
    assert registry.aliases("churn")["champion"].version == "1.0.1"
    assert registry.state("churn").rollout is None
    again = retrain(registry, tmp_path, judge=judge, policy=AT_ONCE)
    assert (again.number, again.state, again.champion) == (2, "promoted", "1.0.1")


@pytest.mark.parametrize(
    ("decision", "state"), [("promote", "promoted"), ("rollback", "rolled back"), ("by hand", "superseded")]
)  # fmt: skip
def test_a_run_on_trial_ends_with_its_rollout(registry, tmp_path, decision, state):
    clock = Clock()
    run = retrain(registry, tmp_path, policy=CANARY, clock=clock)
    assert run.state == "on trial"
    assert run.under_way
    clock.now += 10 * DAY
    refused = retrain(registry, tmp_path, policy=CANARY, clock=clock)
    assert (refused.state, refused.reason, refused.number) == ("refused", "busy", 0)
    rollout = registry.state("churn").rollout
    assert rollout.candidate == run.version
    if decision == "by hand":
        save(tmp_path / "fix.mk", "1.0.1", seed=3)
        registry.register(tmp_path / "fix.mk")
        registry.set_alias("churn", "champion", "1.0.1", expected="1.0.0", reason="hot fix")
    else:
        registry.decide_rollout("churn", rollout, decision, reason="the guards")
    (seen,) = [run for run in retrainings_of(registry, "churn", clock.now) if run.number]
    retrain(registry, tmp_path, drift=(), clock=clock)
    (kept,) = [run for run in retrainings_of(registry, "churn", clock.now) if run.number]
    assert seen.state == state
    assert kept == seen
    assert START < kept.ended < START + 60  # when it was decided, and not when that was seen


def test_no_run_begins_beside_the_rollout_of_somebody_else(registry, tmp_path):
    save(tmp_path / "fix.mk", "1.0.1", seed=3)
    registry.register(tmp_path / "fix.mk")
    registry.start_rollout("churn", "1.0.1", CANARY.rollout, reason="by hand")
    run = retrain(registry, tmp_path)
    assert (run.state, run.reason) == ("refused", "busy")
    assert "1.0.1" in run.message


def test_a_model_without_champion(tmp_path):
    with pytest.raises(NotFound, match="no registry"):
        retrain(mk.Registry(tmp_path / "models"), tmp_path)
    save(tmp_path / "one.mk", "1.0.0")
    registry = mk.Registry(tmp_path / "models")
    registry.register(tmp_path / "one.mk")
    with pytest.raises(NotFound, match="champion"):
        retrain(registry, tmp_path)


def test_one_command_tells_the_history(registry, tmp_path, capsys):
    where = registry.url
    assert main(["retrain", where, "history", "churn"]) == 0
    assert capsys.readouterr().out == "churn was never trained again\n"
    clock = Clock()
    run = retrain(registry, tmp_path, clock=clock)
    clock.now += 60
    refused = retrain(registry, tmp_path, drift=(), clock=clock)
    assert (
        main(["retrain", where, "history", "churn", "--output", str(tmp_path / "page.html")]) == 0
    )
    printed = capsys.readouterr().out
    assert printed == f"{run}\n{refused}\n"
    assert run.version in (tmp_path / "page.html").read_text("utf-8")
    assert main(["retrain", where, "status", "churn", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [mk.types.RetrainRun.from_json(json.dumps(each)) for each in found] == [run, refused]
    assert main(["retrain", where, "status", "mistyped"]) == 1
    assert "mistyped" in capsys.readouterr().err


def test_a_candidate_that_cannot_follow_fails_the_run(tmp_path):
    """It was interrupted, and every call tried again."""
    wide = HistGradientBoostingClassifier(max_iter=2).fit(X, Y)
    mk.save(wide, tmp_path / "wide.mk", example=X, name="churn", version="1.0.0")
    registry = mk.Registry(tmp_path / "models")
    registry.register(tmp_path / "wide.mk")
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first release")
    with pytest.raises(UsageError, match="nullable=False"):
        retrain(registry, tmp_path, policy=CANARY)
    assert [(run.state, run.message) for run in retrainings_of(registry, "churn")] == [
        ("failed", "UsageError in the step rollout")
    ]


def test_a_rollout_that_holds_waits_for_a_person(registry, tmp_path):
    retrain(registry, tmp_path, policy=CANARY)
    registry.decide_rollout(
        "churn", registry.state("churn").rollout, "hold", reason="too few calls"
    )
    (run,) = retrainings_of(registry, "churn")
    assert (run.state, run.message) == ("on trial", "held, for a person to decide: too few calls")


def test_a_run_of_another_registry_leaves_nothing_where_a_run_trains(
    registry, retrained_packages, tmp_path
):
    assert retrain(registry, tmp_path / "retrainings").state == "promoted"
    other = registry_at(tmp_path / "others", retrained_packages)
    seen = []
    with pytest.raises(RetrainError, match="saved no package"):
        retrain(
            other, tmp_path / "retrainings", train=lambda told: seen.extend(told.folder.iterdir())
        )
    assert [path.name for path in seen] == ["claim-1"]
    assert retrainings_of(other, "churn")[0].state == "failed"


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"asked": True}, "asked says why, in a text"),
        ({"asked": None}, "asked says why, in a text"),
        ({"drift": None}, r"drift is a Detector, as monitor\.detector, .* not None"),
        ({"drift": mk.Meter}, r"drift is a Detector, as monitor\.detector"),
        ({"labelled": 5000}, "labelled is a function .* not 5000"),
        ({"drift": "alarm"}, "drift is a Detector"),
    ],
)
def test_an_argument_of_another_type_raises_type_error(registry, tmp_path, told, match):
    with pytest.raises(TypeError, match=match):
        retrain(registry, tmp_path, **told)
    assert retrainings_of(registry, "churn") == ()


def test_the_path_of_a_registry_is_none(tmp_path):
    with pytest.raises(TypeError, match=r"registry is a mk\.Registry"):
        retrain(str(tmp_path), tmp_path, judge=verdict)


def test_a_verdict_on_another_champion_is_no_race_that_was_lost(registry, tmp_path):
    def judge(told):
        return verdict(told, champion="other 1.0.0", champion_digest="0" * 64, generation=1)

    with pytest.raises(RetrainError, match="another model or registry"):
        retrain(registry, tmp_path, judge=judge)
    assert retrainings_of(registry, "churn")[0].state == "failed"


def test_a_champion_that_moves_in_the_middle_stays(registry, tmp_path):
    def train_slowly(told):
        train(told)
        save(tmp_path / "by-hand.mk", "2.0.0", seed=5)
        registry.register(tmp_path / "by-hand.mk")
        registry.set_alias("churn", "champion", "2.0.0", expected="1.0.0", reason="by hand")

    run = retrain(registry, tmp_path, train=train_slowly, judge=verdict)
    assert run.state == "superseded"
    assert registry.aliases("churn")["champion"].version == "2.0.0"


@pytest.mark.parametrize(
    "made",
    [
        lambda told: told.package.mkdir(),
        lambda told: told.package.write_bytes(b""),
        lambda told: told.package.write_bytes(b"PK\x03\x04" + bytes(99)),
        lambda told: told.package.symlink_to(told.folder),
        lambda told: save(told.package, told.champion.version, seed=3),
    ],
)
def test_a_training_that_makes_nonsense_fails_and_moves_nothing(registry, tmp_path, made):
    with pytest.raises(mk.errors.ModelkitError):
        retrain(registry, tmp_path, train=made)
    (run,) = retrainings_of(registry, "churn")
    assert run.state == "failed"
    assert registry.aliases("churn")["champion"].version == "1.0.0"
