"""Wrong arguments: each message says what was expected, which value came, and what to do."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import ContainerError, ConversionError, SignatureError, UsageError
from modelkit.testing import check_model

X = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=["age", "income"])
Y = (X["age"] > 0).astype(int)
ESTIMATOR = LogisticRegression().fit(X, Y)
SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float64", ("n", 2)),), (mk.TensorSpec("y", "float64", ("n",)),)
)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    path = tmp_path_factory.mktemp("packages") / "churn.mk"
    mk.save(ESTIMATOR, path, example=X, name="churn", version="1", profile=mk.Profile.fit(X))
    return path


@pytest.fixture(scope="module")
def model(package):
    with mk.load(package) as opened:
        yield opened


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    X.assign(left=Y).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("take", "message"),
    [
        (mk.Batcher, "a Batcher takes a Model, not str; mk.load"),
        (mk.Meter, "a Meter takes a Model, not str; mk.load"),
        (mk.Monitor, "a Monitor takes a Model, not str; mk.load"),
        (mk.Explainer, "an Explainer takes a Model, not str; mk.load"),
        (lambda path: mk.Replicas([path]), "Replicas takes a Model, not str; mk.load"),
        (
            lambda path: mk.Profile.fit(X, model=path),
            r"Profile.fit\(model=\) takes a Model, not str",
        ),
        (lambda path: check_model(path, X), "check_model takes a Model, not str"),
    ],
)
def test_a_path_where_a_model_is_taken(package, take, message):
    with pytest.raises(TypeError, match=message):
        take(str(package))


@pytest.mark.parametrize("deadline", ["1", [1], -1, 0, float("nan")])
def test_a_deadline_that_is_none(model, deadline):
    with pytest.raises(
        ValueError, match="deadline is in seconds from now and must be positive; got"
    ):
        model.predict(X[:1], deadline=deadline)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda profile: mk.Detector(profile, alpha="0.1"), "alpha is between 0 and 1; got '0.1'"),
        (
            lambda profile: mk.Detector(profile, tolerance="x"),
            "a tolerance is a share of rows, .* got 'x'",
        ),
        (lambda _: mk.Profile.fit(X[:3]), "X has 1 row left; a profile needs 50 on each side"),
        (
            lambda _: mk.Profile.fit(X, reference=X[["age"]]),
            r"the reference lacks the columns \['income'\]$",
        ),
        (
            lambda _: mk.Profile.fit(X, reference=X.assign(id=1)),
            r"the reference has the columns \['id'\], which X does not have$",
        ),
    ],
)
def test_what_drift_refuses(make, message):
    with pytest.raises(UsageError, match=message):
        make(mk.Profile.fit(X))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: mk.Guard("errors", worse="2"),
            UsageError,
            "guard 'errors': worse is a number, not '2'",
        ),
        (lambda: mk.Guard("errors", floor="1%"), UsageError, "floor is a number, not '1%'"),
        (lambda: mk.RolloutStage("5%"), UsageError, "a stage: share is a number, not '5%'"),
        (
            lambda: mk.RolloutStage(0.5, calls="9"),
            UsageError,
            "a stage: calls is a number, not '9'",
        ),
        (
            lambda: mk.RolloutPolicy((mk.RolloutStage(0.5),), horizon="7d"),
            UsageError,
            "a rollout: horizon is a number, not '7d'",
        ),
        (lambda: mk.Preprocess(scale="1/255"), UsageError, "scale is a number, not '1/255'"),
        (lambda: mk.Preprocess(mean="x"), UsageError, "mean is a number, or one for each channel"),
        (
            lambda: mk.Preprocess(mean=np.array(0.5)),
            UsageError,
            "mean is a number, or one for each channel",
        ),
        (lambda: mk.Preprocess(std=()), UsageError, "std is a number, or one for each channel"),
    ],
)
def test_a_text_where_a_number_is_taken(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"level": "95"}, "between 0 and 1, not '95'"),
        (
            {"slices": "month"},
            r"slices names the column 'month', and the rows have \['age', 'income'\]",
        ),
        ({"sample_weight": -np.ones(200)}, "at least 0, one above it; the least is -1"),
        ({"sample_weight": np.ones(3)}, r"one number for each of 200 rows; got \(3,\)"),
    ],
)
def test_what_an_evaluation_refuses(model, said, message):
    with pytest.raises(UsageError, match=message):
        mk.evaluate(model, X, Y, **said)


def test_a_metric_that_the_task_does_not_have(model):
    with pytest.raises(KeyError, match="unknown metric 'auc'; there are accuracy, "):
        mk.evaluate(model, X, Y)["auc"]


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ({"name": ""}, UsageError, "name '' cannot be a part of a path and of a URL"),
        (
            {"profile": X},
            TypeError,
            "profile= is a Profile, as mk.Profile.fit makes it, not DataFrame",
        ),
        ({"background": X[["age"]]}, SignatureError, "^background=: the rows do not fit"),
        ({"golden": "rows"}, SignatureError, "^golden=: cannot read rows from str"),
    ],
)
def test_what_save_refuses(tmp_path, said, kind, message):
    usual = {"example": X, "name": "churn", "version": "1"}
    with pytest.raises(kind, match=message):
        mk.save(ESTIMATOR, tmp_path / "churn.mk", **(usual | said))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"folder to write the package to does not exist: '.*absent'"
    ):
        mk.save(ESTIMATOR, tmp_path / "absent" / "a.mk", example=X, name="a", version="1")


def test_a_file_of_another_kind_is_named(rows, tmp_path):
    for read in (mk.load, mk.inspect, mk.Registry(tmp_path / "models").register):
        with pytest.raises(
            ContainerError, match=r"rows.csv' is not a modelkit package, as mk.save"
        ):
            read(rows)
    with pytest.raises(ConversionError, match=r"rows.csv' is not a readable ONNX model"):
        mk.save(rows, tmp_path / "a.mk", name="a", version="1")


def test_what_else_is_of_the_wrong_kind(package, model, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    registry.register(package)
    registry.set_alias("churn", "champion", "1", expected=None, reason="first")
    for ask, message in (
        (lambda: mk.attach(package, metadata="x"), "metadata is a dict of JSON values, not 'x'"),
        (lambda: registry.keep("churn", "1", "note", "text"), "what is kept is bytes.*, not str"),
        (
            lambda: registry.start_rollout("churn", "1", None, reason="x"),
            "policy is a mk.RolloutPolicy, not None",
        ),
        (
            lambda: registry.start_rollout("churn", "1", registry.version("churn"), reason="x"),
            "policy is a mk.RolloutPolicy, not <ModelVersion",
        ),
        (lambda: mk.FunctionModel("x", SIGNATURE), "made of a function of feeds, not of 'x'"),
        (
            lambda: mk.FunctionModel(len, SIGNATURE.inputs),
            "signature is a mk.Signature, not \\(<Tensor",
        ),
    ):
        with pytest.raises(TypeError, match=message):
            ask()


def test_a_background_is_named(model):
    with pytest.raises(SignatureError, match="the background: the rows do not fit") as caught:
        mk.Explainer(model, background=X[["age"]])
    assert caught.value.problems == ("missing column 'income'",)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate {package} {folder}/absent.parquet --label left", "No such file or directory"),
        ("registry {folder}/models register {package} --verdict {binary}", "is not text in UTF-8"),
        (
            "rollout {folder}/models start churn@1 --policy {binary} --reason x",
            "is not text in UTF-8",
        ),
        ("serve {package} --tokens {binary}", "is not text in UTF-8"),
        ("inspect {rows}", "is not a modelkit package"),
    ],
)
def test_what_the_command_line_says(package, rows, tmp_path, capsys, command, message):
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    said = command.format(package=package, rows=rows, folder=tmp_path, binary=binary)
    assert main(said.split()) == 1
    assert message in capsys.readouterr().err


def test_the_help_of_a_command_says_what_it_does(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    for command in ("inspect", "predict", "drift", "gate", "serve", "registry"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        usage, about, *_ = capsys.readouterr().out.split("\n\n")
        assert usage.startswith(f"usage: modelkit {command}")
        assert about.endswith(".")
        assert about.split()[1] in listed


def test_a_budget_of_a_monitor_is_a_number(model):
    with pytest.raises(UsageError, match="budget is in rows a second, 0 or more; got '10'"):
        mk.Monitor(model, budget="10")
