"""mk.gate from two packages to its answers: what it asks, what it does not depend on, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.encoders import tiny
from helpers.judged import ASKED, OWN, drawn_rows, median_distance, right_or_wrong, save_reading
from helpers.records import hearing
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import IsolationForest, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

import modelkit as mk
from modelkit.errors import UsageError
from modelkit.events import Judged
from modelkit.lifecycle.evaluation.answered import Answered, clusters_of
from modelkit.stats.influence import Undefined


def test_an_equal_candidate_is_shown_to_be_no_worse_and_not_to_be_better(
    judged_pair, judged_rows, verdict
):
    assert verdict.decision == "promote"
    assert {check.name: check.part for check in verdict.checks} == {
        "signature": "contract",
        "integrity": "contract",
        "golden rows": "contract",
        "parity": "contract",
        "numbers": "contract",
        "accuracy >= 0.7": "floor",
        "accuracy": "metric",
        "log_loss": "metric",
        "median distance": "metric",
        "no harm to roc_auc": "veto",
        "accuracy where region is north": "slice",
        "roc_auc where region is north": "slice",
        "accuracy where region is south": "slice",
        "roc_auc where region is south": "slice",
    }
    for check in verdict.checks:
        assert check.question.endswith("?")
        if check.part in ("floor", "metric", "veto", "slice"):
            assert check.formula
            assert check.low <= check.estimate <= check.high
    better = mk.gate(*judged_pair, *judged_rows, margin=0)
    assert better.decision == "inconclusive"
    assert better["accuracy"].question == "Is accuracy shown to be better?"


def test_who_listens_hears_of_each_verdict(judged_pair, judged_rows):
    with hearing(Judged) as heard:
        verdict = mk.gate(*judged_pair, *judged_rows, margin=0)
    name, _, version = verdict.candidate.partition(" ")
    told = (verdict.candidate_digest, verdict.decision, verdict.champion)
    assert heard == [Judged(name, version, *told)]


def test_the_order_of_the_rows_changes_nothing_to_the_last_bit(judged_pair, rows, verdict):
    X, y = rows
    order = np.random.default_rng(1).permutation(len(y))
    shuffled = mk.gate(*judged_pair, X.iloc[order], y[order], **ASKED)
    assert shuffled.to_json() == verdict.to_json()
    customers = np.arange(len(y)) // 3
    asked = {**ASKED, "require": ["f1", OWN]}
    asked["margin"] = dict.fromkeys(("accuracy", "roc_auc", "f1", "median distance"), 0.05)
    first = mk.gate(*judged_pair, X, y, clusters=customers, **asked)
    second = mk.gate(*judged_pair, X.iloc[order], y[order], clusters=customers[order], **asked)
    assert first.to_json() == second.to_json()


def test_equal_rows_in_other_groups_change_nothing_either(judged_pair):
    y = np.tile([0, 1, 1], 40)
    X = right_or_wrong(np.ones(120, bool), np.tile([True, True, False], 40), y).round(0)
    customers = np.arange(120) // 7
    order = np.random.default_rng(2).permutation(120)
    asked = {"margin": {"accuracy": 0.1, "roc_auc": 0.1}, "require": ["roc_auc"]}
    first = mk.gate(*judged_pair, X, y, clusters=customers, slices={"c": customers}, **asked)
    second = mk.gate(
        *judged_pair,
        X.iloc[order],
        y[order],
        clusters=customers[order],
        slices={"c": customers[order]},
        **asked,
    )
    assert first.to_json() == second.to_json()


def test_attaching_an_evaluation_changes_no_verdict(judged_pair, rows, verdict, tmp_path):
    path = tmp_path / "candidate.mk"
    path.write_bytes(judged_pair[0].read_bytes())
    before = mk.inspect(path).digest
    with mk.load(path) as model:
        evaluation = mk.evaluate(model, rows[0][["a", "b"]], rows[1])
    mk.attach(path, evaluation=evaluation)
    assert mk.inspect(path).digest != before
    judged = mk.gate(path, judged_pair[1], *rows, **ASKED)
    assert judged.to_json() == verdict.to_json()


def test_harm_blocks_and_says_where(judged_pair):
    rng = np.random.default_rng(3)
    there, truth = drawn_rows(rng, 1000, gain=-0.12, discordant=0.14)
    others, more = drawn_rows(rng, 5000)
    X, y = pd.concat([there, others], ignore_index=True), np.concatenate([truth, more])
    region = np.repeat(["harmed", "other"], [1000, 5000])
    found = mk.gate(*judged_pair, X, y, margin=0.05, slices={"region": region})
    assert found["accuracy"].outcome == "pass"
    assert found["accuracy where region is harmed"].outcome == "fail"
    assert found["accuracy where region is other"].outcome == "pass"
    assert found.decision == "block"
    assert found.reason == "it fails accuracy where region is harmed"
    whole = mk.gate(*judged_pair, X, y, margin=0.005)
    assert (whole["accuracy"].outcome, whole.decision) == ("fail", "block")


def test_slices_that_are_too_small_to_tell_are_listed_and_stop_nothing(judged_pair, rows):
    X, y = rows
    few = X.assign(region=np.where(np.arange(len(y)) < 12, "few", "many"))
    found = mk.gate(*judged_pair, few, y, margin=0.02, slices=["region"])
    check = found["accuracy where region is few"]
    assert (check.outcome, check.required) == ("unclear", False)
    assert "12 rows are too few to tell" in check.text
    assert found["accuracy where region is many"].outcome == "pass"
    assert found.decision == "promote"


def test_floors_are_the_users_and_have_three_answers(judged_pair, judged_rows):
    accuracy = np.mean((judged_rows[0]["b"] > 0) == judged_rows[1])
    asked = [f"accuracy >= {accuracy + change:.6f}" for change in (-0.05, 0.001, 0.05)]
    found = mk.gate(*judged_pair, *judged_rows, margin=0.05, require=[*asked, "log_loss <= 3"])
    outcomes = [check.outcome for check in found.checks if check.part == "floor"]
    assert outcomes == ["pass", "unclear", "fail", "pass"]
    assert found.decision == "block"


def test_a_candidate_that_takes_other_rows_is_blocked_before_they_are_looked_at(
    judged_pair, rows, tmp_path
):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=["a", "b", "c"])
    path = tmp_path / "other.mk"
    fitted = LogisticRegression().fit(X, np.arange(60) % 3)
    mk.save(fitted, path, example=X, name="churn", version="2")
    found = mk.gate(path, judged_pair[1], *rows, margin=0.02)
    assert found.decision == "block"
    assert (found.rows, found.data_digest, found.uses) == (0, "", 0)
    assert "it needs the column 'c'" in found["signature"].text
    assert found["signature"].outcome == "fail"


def test_golden_rows_that_are_answered_otherwise_here_block(judged_pair, judged_rows):
    class Changed(mk.Wrapper):
        def _run(self, feeds, outputs, call):
            answers = self.inner._run(feeds, outputs, call)
            return {name: values[::-1] for name, values in answers.items()}

        _call, _acall, _arun = mk.Model._call, mk.Model._acall, mk.Model._arun
        base = property(lambda self: self)  # as on a machine that computes otherwise

    with mk.load(judged_pair[0]) as model:
        found = mk.gate(Changed(model), judged_pair[1], *judged_rows, margin=0.02)
    assert found["golden rows"].outcome == "fail"
    assert found.decision == "block"


def test_answers_that_are_no_numbers_block(tmp_path):
    X, y = load_diabetes(return_X_y=True)

    class Lost(mk.Wrapper):
        def _run(self, feeds, outputs, call):
            answers = self.inner._run(feeds, outputs, call)
            if len(feeds["X"]) < 50:  # the golden rows
                return answers
            return {
                name: np.where(np.arange(len(v)) == 3, np.nan, v) for name, v in answers.items()
            }

        _call, _acall, _arun = mk.Model._call, mk.Model._acall, mk.Model._arun

    path = tmp_path / "m.mk"
    mk.save(LinearRegression().fit(X, y), path, example=X, name="m", version="1")
    with mk.load(path) as model:
        found = mk.gate(Lost(model), path, X, y, margin=5)
    assert found["numbers"].outcome == "fail"
    assert "to 1 of 442 rows" in found["numbers"].text
    assert found["mae"].outcome == "unclear"
    assert found.decision == "block"


def test_a_regressor_and_a_classifier_of_three_classes_are_judged_by_their_own_metrics(tmp_path):
    X, y = load_diabetes(return_X_y=True)
    mk.save(
        LinearRegression().fit(X[::2], y[::2]), tmp_path / "l.mk", example=X, name="m", version="1"
    )
    forest = RandomForestRegressor(20, max_depth=2, random_state=0).fit(X[::2], y[::2])
    mk.save(forest, tmp_path / "f.mk", example=X, name="m", version="2")
    held = (X[1::2], y[1::2])
    margin = {"mae": 10, "rmse": 10, "r2": 0.2}
    found = mk.gate(
        tmp_path / "f.mk", tmp_path / "l.mk", *held, margin=margin, require=["rmse", "r2"]
    )
    assert found.metric == "mae"
    with mk.load(tmp_path / "f.mk") as ours, mk.load(tmp_path / "l.mk") as theirs:
        errors = [np.abs(held[1] - model.predict(held[0]).reshape(-1)) for model in (ours, theirs)]
    # Lower is better, so above zero the candidate is better.
    assert found["mae"].estimate == pytest.approx(np.mean(errors[1] - errors[0]))
    X, y = load_iris(return_X_y=True)
    mk.save(
        LogisticRegression(max_iter=500).fit(X, y),
        tmp_path / "i.mk",
        example=X,
        name="i",
        version="1",
    )
    same = mk.gate(tmp_path / "i.mk", tmp_path / "i.mk", X, y, margin=0.05)
    assert (same.kind, same.decision) == ("multiclass", "promote")
    assert "candidate and champion are the same model" in same.notes


def test_clusters_count_as_one_observation(judged_pair):
    rng = np.random.default_rng(4)
    X, y = drawn_rows(rng, 400)
    again = np.repeat(np.arange(400), 25)
    X, y = X.iloc[again].reset_index(drop=True), y[again]
    rowwise = mk.gate(*judged_pair, X, y, margin=0.03)
    found = mk.gate(*judged_pair, X.assign(customer=again), y, margin=0.03, clusters="customer")
    assert (found.rows, found.independent) == (10_000, 400)
    width = found["accuracy"].high - found["accuracy"].low
    # And a little more: for a customer who was not drawn.
    assert found["accuracy"].text == "shown"
    close = mk.gate(*judged_pair, X.assign(customer=again), y, margin=0.015, clusters="customer")
    assert "not shown by 400 clusters" in close["accuracy"].text
    more = replace(close, checks=(replace(close["accuracy"], rows_needed=20_000),))
    assert more.reason.endswith("about 800 clusters would show it, and these are 400")
    assert 1 < width / (5 * (rowwise["accuracy"].high - rowwise["accuracy"].low)) < 1.2


def test_few_rows_that_both_answer_alike_promote_nothing(judged_pair):
    y = np.tile([0, 1], 4)
    X = right_or_wrong(np.ones(8, bool), np.ones(8, bool), y)
    margin = {"accuracy": 0.01, "roc_auc": 0.01}
    found = mk.gate(*judged_pair, X, y, margin=margin, require=["roc_auc"])
    assert found["accuracy"].outcome == "unclear"
    assert found["roc_auc"].outcome == "unclear"
    assert found.decision == "inconclusive"
    assert found.rows_needed is not None or found["roc_auc"].rows_needed is None


def test_a_candidate_that_looks_worse_is_not_sent_for_fewer_rows_than_there_are(judged_pair):
    """It read "some 990 rows would show it, of 1,500"."""
    place = np.arange(1500)
    y = np.tile([0, 1], 750)
    found = mk.gate(*judged_pair, right_or_wrong(place < 1495, place >= 15, y), y, margin=0.01)
    check = found["accuracy"]
    assert (found.decision, check.rows_needed < 1500) == ("inconclusive", True)
    assert ": the candidate looks worse; one as good as the champion is shown by " in check.text
    assert found.reason.endswith("1,500 rows would be enough, were it as good as the champion")
    more = replace(check, rows_needed=4000)
    assert replace(found, checks=(more,)).reason.endswith(
        "accuracy; about 4,000 rows would show it, and these are 1,500"
    )
    worse = replace(more, estimate=-0.02)
    assert replace(found, checks=(worse,)).reason.endswith(
        "these are 1,500, and the candidate looks worse"
    )
    used = replace(check, estimate=0.001)  # but others have used the rows, and alpha
    assert replace(found, checks=(used,)).reason.endswith(
        "rows that no gate has used would show it"
    )


def test_checks_of_the_caller_count_like_others(judged_pair, judged_rows):
    robust = mk.types.GateCheck(
        "robust", "Does noise change few answers?", "fail", text="12 % changed"
    )
    assert mk.gate(*judged_pair, *judged_rows, margin=0.05, checks=[robust]).decision == "block"
    unclear = replace(robust, outcome="unclear")
    found = mk.gate(*judged_pair, *judged_rows, margin=0.05, checks=[unclear])
    assert (found.decision, found.rows_needed) == ("inconclusive", None)
    spare = replace(unclear, required=False)
    assert mk.gate(*judged_pair, *judged_rows, margin=0.05, checks=[spare]).decision == "promote"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"margin": -0.1}, "at least 0"),
        ({"margin": True and "x"}, "at least 0"),
        ({"margin": 1}, "with a margin of 1 any candidate passes"),
        ({"margin": 2, "metric": "matthews"}, "one percentage point is .01"),
        ({"margin": 0.1, "alpha": 0.7}, "alpha"),
        ({"margin": 0.1, "metric": "accurcy"}, "unknown metric 'accurcy'"),
        ({"margin": 0.1, "require": ["log_loss"]}, "no margin says how much worse log_loss"),
        ({"margin": {"accuracy": 0.1, "f1": 0.1}}, "f1, which is not compared"),
        ({"margin": 0.1, "require": ["accuracy >= high"]}, "unknown metric 'accuracy >= high'"),
        ({"margin": 0.1, "metric": "calibration_slope"}, "best in between"),
        ({"margin": 0.1, "budgets": {"p50": 2}}, "unknown budget 'p50'"),
        ({"margin": 0.1, "budgets": {"p50_ratio": 0}}, "above 0"),
        ({"margin": 0.1, "metric": mk.GateMetric("accuracy", median_distance)}, "another metric"),
        ({"margin": 0.1, "require": ["mine >= 1"]}, "unknown metric 'mine'"),
    ],
)
def test_what_cannot_be_judged_is_refused(judged_pair, judged_rows, asked, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        mk.gate(*judged_pair, *judged_rows, **asked)


def test_models_of_no_package_and_rows_that_do_not_fit_are_refused(judged_pair, rows):
    X, y = rows
    with mk.load(judged_pair[0]) as model:
        loose = mk.FunctionModel(lambda feeds: feeds, model.signature)
        with pytest.raises(UsageError, match="candidate is of no package"):
            mk.gate(loose, judged_pair[1], X, y, margin=0.1)
    with pytest.raises(UsageError, match="registry:churn@champion"):
        mk.gate(judged_pair[0], "registry:churn@champion", X, y, margin=0.1)
    with pytest.raises(UsageError, match="y has 10 rows"):
        mk.gate(*judged_pair, X[["a", "b"]], y[:10], margin=0.1)
    with pytest.raises(UsageError, match="group them into at most 50"):
        mk.gate(*judged_pair, X[["a", "b"]], y, margin=0.1, slices={"id": np.arange(len(y))})
    check = mk.types.GateCheck("twice", "?", "pass")
    with pytest.raises(UsageError, match="same name"):
        mk.gate(*judged_pair, X, y, margin=0.1, checks=[check, check])
    with pytest.raises(UsageError, match="same name: accuracy"):
        mk.gate(
            *judged_pair, X[["a", "b"]], y, margin=0.1, checks=[replace(check, name="accuracy")]
        )


def test_models_are_judged_whatever_watches_them(judged_pair, rows, tmp_path):
    save_reading(tmp_path / "c.mk", "b", "3")
    with mk.load(tmp_path / "c.mk") as model:
        meter = mk.Meter(model)
        found = mk.gate(meter, judged_pair[1], *rows, **ASKED)
        assert meter.totals().rows == 0
    assert found.decision == "promote"


@pytest.fixture(scope="module")
def forest_and_line(tmp_path_factory):
    """A champion that answers missing values, and a candidate that takes none; rows and truth."""
    folder = tmp_path_factory.mktemp("gaps")
    X, y = load_iris(return_X_y=True, as_frame=True)
    line = LogisticRegression(max_iter=1000).fit(X, y)
    mk.save(line, folder / "line.mk", example=X, name="iris", version="2")

    def champion(rows=X, **options):
        path = folder / "forest.mk"
        forest = RandomForestClassifier(5, random_state=0).fit(rows, y)
        mk.save(forest, path, example=rows, name="iris", version="1", **options)
        return path

    return folder / "line.mk", champion, X, y


def with_gap(X):
    holed = X.copy()
    holed.iloc[3, 1] = np.nan
    return holed


@pytest.mark.parametrize(
    ("of_champion", "of_gate", "outcome", "said"),
    [
        ({}, lambda X: X, "unclear", "in service the candidate refuses a row"),
        (
            {"nullable": False},
            lambda X: X,
            "pass",
            "it takes every row that the champion takes, and gives the same outputs",
        ),
        ({}, with_gap, "fail", "refuses some of these rows.*'sepal width \\(cm\\)'.*row 3"),
        ({"background": with_gap}, lambda X: X, "fail", "has rows with gaps in 'sepal width"),
        ({"profile": lambda X: mk.Profile.fit(with_gap(X))}, lambda X: X, "fail", "has rows with"),
    ],
)
def test_a_candidate_without_missing_values_is_judged_on_rows_without(
    forest_and_line, of_champion, of_gate, outcome, said
):
    candidate, champion, X, y = forest_and_line
    made = {name: form(X) if callable(form) else form for name, form in of_champion.items()}
    trained = with_gap(X) if "background" in made else X
    verdict = mk.gate(candidate, champion(trained, **made), of_gate(X), y, margin=0.1)
    assert (verdict.decision == "block") == (outcome == "fail")
    assert verdict["signature"].outcome == outcome
    assert re.search(said, verdict["signature"].text, re.DOTALL)
    assert mk.Verdict.from_json(verdict.to_json()) == verdict


def test_the_positive_class_is_that_of_floors_and_differences(judged_pair, judged_rows, tmp_path):
    X, y = judged_rows
    asked = {"margin": 0.05, "metric": "recall", "require": ["precision >= 0.5"]}
    of = {which: mk.gate(*judged_pair, X, y, positive=which, **asked) for which in (0, 1, None)}
    assert [of[which].positive for which in (0, 1, None)] == ["0", "1", "1"]
    assert "precision, recall: of the class '0'" in of[0].notes
    assert of[None] == of[1]
    with mk.load(judged_pair[0]) as ours, mk.load(judged_pair[1]) as theirs:
        for which in (0, 1):
            told = [
                mk.evaluate(model, X, y, positive=which)["recall"].value for model in (ours, theirs)
            ]
            assert of[which]["recall"].estimate == pytest.approx(told[0] - told[1])
    assert mk.Verdict.from_json(of[0].to_json()) == of[0]
    registry = mk.Registry(tmp_path / "models")
    uses = [mk.gate(*judged_pair, X, y, positive=p, registry=registry, **asked) for p in (0, 1, 0)]
    assert [found.uses for found in uses] == [1, 2, 1]  # of the same rows, whichever is positive
    with pytest.raises(UsageError, match="not a class of this model"):
        mk.gate(*judged_pair, X, y, positive="late", **asked)


def test_of_outlier_detectors_the_outliers_are_positive(tmp_path):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(400, 2)), rng.normal(size=(40, 2)) * 5])
    y = np.repeat([1, -1], [400, 40])
    mk.save(
        IsolationForest(n_estimators=20, contamination=0.1, random_state=0).fit(X),
        tmp_path / "i.mk",
        example=X,
        name="i",
        version="1",
    )
    seen = []

    def hits(truth, outputs):
        seen.extend(np.unique(truth).tolist())
        return float(np.mean(truth == outputs["label"]))

    own = mk.GateMetric("hits", hits)
    asked = {"metric": "recall", "margin": {"recall": 0.3, "hits": 0.1}, "require": [own]}
    verdict = mk.gate(*[tmp_path / "i.mk"] * 2, X, y, **asked)
    assert verdict.positive == "-1"
    assert "recall: of the class '-1'" in verdict.notes
    assert {*seen} == {-1, 1}  # as the detector writes them
    assert mk.gate(*[tmp_path / "i.mk"] * 2, X, y, positive=1, **asked).positive == "1"


def test_rows_are_needed_for_a_gate_that_is_the_first_on_them(models, tmp_path):
    rng = np.random.default_rng(1)
    X, y = drawn_rows(rng, 300)
    registry = mk.Registry(tmp_path / "models")
    asked = []
    for margin in (0.01, 0.011, 0.0101):
        verdict = mk.gate(*models, X, y, margin=margin, registry=registry)
        asked.append((verdict.uses, verdict.rows_needed))
    alone = mk.gate(*models, X, y, margin=0.01)
    assert [uses for uses, _ in asked] == [1, 2, 3]
    assert asked[2][1] == pytest.approx(asked[0][1], rel=0.05)
    assert asked[0][1] > alone.rows_needed  # half of alpha, as the registry counts


def test_few_clusters_show_nothing(models):
    X, y = drawn_rows(np.random.default_rng(3), 400)
    for sizes in ([200, 200], [360, 40], [360, 20, 10, 5, 5]):
        which = np.repeat(np.arange(len(sizes)), sizes)
        margin = {"roc_auc": 0.3, "accuracy": 0.3}
        asked = {"metric": "roc_auc", "require": ["accuracy", "accuracy >= 0.1"]}
        verdict = mk.gate(*models, X, y, margin=margin, clusters=which, **asked)
        assert verdict.decision == "inconclusive"
        for name in ("roc_auc", "accuracy", "accuracy >= 0.1"):
            assert verdict[name].outcome == "unclear"
            assert f"{len(sizes)} clusters, which count as" in verdict[name].text
            least = 5 if len(sizes) == 2 else 10
            assert f"are too few to tell: it takes {least}" in verdict[name].text
    five = np.repeat(np.arange(5), 80)  # one more may have a fifth of the rows, all wrong
    assert mk.gate(*models, X, y, margin=0.3, clusters=five).decision == "inconclusive"
    forty = np.repeat(np.arange(40), 10)
    assert mk.gate(*models, X, y, margin=0.3, clusters=forty).decision == "promote"
    three = np.repeat(np.arange(100), [50] * 3 + [1] * 97)  # .084 at .05
    with pytest.raises(Undefined, match=r"count as 8\.0 of one size, .* it takes 10"):
        clusters_of(Answered("binary", *(np.zeros(247, int),) * 2, clusters=three, classes=(0, 1)))
    with pytest.raises(Undefined, match="too few"):
        clusters_of(Answered("binary", y, y, clusters=np.zeros(400, int), classes=(0, 1)))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda y, outputs: 1 / 0, "metric 'own' raised ZeroDivisionError: division by zero"),
        (lambda y, outputs: outputs["nothing"], "metric 'own' raised KeyError"),
        (lambda y, outputs: "0.5", "metric 'own' gave '0.5': its function returns one number"),
        (lambda y, outputs: None, "metric 'own' gave None"),
        (lambda y, outputs: np.ones(3), "metric 'own' gave array"),
        (lambda y: 0.5, "metric 'own' raised TypeError"),
    ],
)
def test_a_metric_that_gives_no_number_is_named(models, function, said):
    X, y = drawn_rows(np.random.default_rng(4), 100)
    own = mk.GateMetric("own", function)
    with pytest.raises(UsageError, match=said) as caught:
        mk.gate(*models, X, y, margin={"own": 0.1}, metric=own)
    assert caught.value.metric == "own"


def test_a_metric_without_a_figure_says_of_which_model(models):
    X, y = drawn_rows(np.random.default_rng(5), 100)
    own = mk.GateMetric("own", lambda truth, outputs: np.nan)
    check = mk.gate(*models, X, y, margin={"own": 0.1}, metric=own)["own"]
    assert check.outcome == "unclear"
    assert check.text == "own cannot be compared: the figure of the candidate is nan"
    part = mk.GateMetric("part", lambda truth, outputs: np.float32(truth.mean()))
    assert mk.gate(*models, X, y, margin={"part": 0.1}, metric=part)["part"].estimate == 0


def test_a_gate_of_encoders_says_what_to_do_instead(tmp_path):
    path = tmp_path / "encoder.mk"
    mk.save(tiny(), path, name="encoder", version="1")
    with pytest.raises(
        UsageError, match=r"encoder 1 is an encoder.*mk\.evaluate\(encoder"
    ) as caught:
        mk.gate(path, path, ["a", "b"], [0, 1], margin=0.1)
    assert "checks=[mk.types.GateCheck" in str(caught.value)


@pytest.mark.parametrize(("n", "said"), [(30, 1), (199, 1), (200, 1), (2000, 0)])
def test_few_rows_are_told(models, n, said):
    X, y = drawn_rows(np.random.default_rng(7), n)
    notes = [each for each in mk.gate(*models, X, y, margin=0.1).notes if "few" in each]
    assert len(notes) == said
    if n == 200:
        assert notes[0].endswith(
            "rows of the rarer class are few: tests of figures by class are rough"
        )


def test_where_no_number_of_rows_is_given_it_says_how_much_worse_it_may_be(judged_pair):
    """It gave a standard error that was a tenth of the interval beside it."""
    rng = np.random.default_rng(4)
    X, y = drawn_rows(rng, 1200)
    days = np.arange(1200) // 40
    found = mk.gate(*judged_pair, X, y, margin=0.01, metric="brier", clusters=days)["brier"]
    assert found.outcome == "unclear"
    assert found.rows_needed is None
    bound = f"they show only that it is worse by less than {-found.low:.3g}"
    assert found.text == f"not shown by 30 clusters: {bound}"
