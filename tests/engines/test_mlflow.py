"""MLflow opens and serves packages, and what it logged of others becomes packages.

`make test-engines` runs this in an environment that has MLflow; elsewhere it is skipped.
"""

import os
import pickle
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.places import ROOT
from helpers.servers import Served, free_port, started, wait_until
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import (
    ConversionError,
    IntegrityError,
    PackageError,
    SignatureError,
    UntrustedError,
)

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
mlflow = pytest.importorskip("mlflow")

from mlflow.exceptions import MlflowException  # noqa: E402 - skipped before without MLflow

from modelkit.integrations import mlflow as mkm  # noqa: E402 - skipped before without MLflow
from modelkit.integrations.mlflow.flavors import NATIVE_CLASSES  # noqa: E402
from modelkit.integrations.mlflow.logged import model_signature  # noqa: E402
from modelkit.integrations.mlflow.opened import PackagePyfunc  # noqa: E402

# What MLflow warns of in itself, and Spark's word on pandas 3 (SPARK-55965).
pytestmark = [
    pytest.mark.filterwarnings("ignore:::mlflow"),
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(600),
]
NUMBERS = ["age", "visits", "income"]
OK = 200
NAME = "churn.eu"


def customers(n, seed):
    """Rows whose whole numbers have no missing value, whose floats and texts have some."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "age": rng.integers(18, 80, n).astype(float),
            "visits": rng.integers(0, 9, n),
            "income": rng.normal(3, 1, n),
            "plan": pd.Series(rng.choice(["basic", "full"], n), dtype=object),
        }
    )
    rows.loc[3, "age"] = np.nan
    rows.loc[5, "plan"] = None
    return rows, np.where(rows["visits"] > 4, "yes", "no")


X, Y = customers(400, 0)
FLOATS = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
FRAME = pd.DataFrame(FLOATS, columns=["a", "b", "c", "d"])
SIGN = (FLOATS[:, 0] + FLOATS[:, 1] > 0).astype(int)


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """A tracking store and a registry in one file of SQLite."""
    folder = tmp_path_factory.mktemp("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/store.db")  # which the registry follows
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("tests", artifact_location=f"file://{folder}/files")
    )
    yield
    mlflow.set_experiment(experiment_id="0")  # which every store has
    mlflow.set_tracking_uri("")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    before = make_column_transformer(
        (numbers, NUMBERS), (OneHotEncoder(handle_unknown="ignore"), ["plan"])
    )
    model = make_pipeline(before, LogisticRegression()).fit(X, Y)
    path = tmp_path_factory.mktemp("packages") / "churn.mk"
    mk.save(model, path, example=X, name=NAME, version="1.0.0")
    return path


@pytest.fixture(scope="module")
def graph():
    """A linear classifier whose input is a tensor without columns."""
    from skl2onnx import to_onnx

    model = LogisticRegression().fit(FLOATS, SIGN)
    return to_onnx(model, FLOATS[:1], options={"zipmap": False})


@pytest.fixture(scope="module")
def tensors(graph, tmp_path_factory):
    path = tmp_path_factory.mktemp("packages") / "tensors.mk"
    mk.save(graph, path, name="tensors", version="1")
    return path


@pytest.fixture(scope="module")
def logged(package):
    return mkm.log_model(package)


@pytest.fixture(scope="module")
def served(package):
    return mk.load(package).run(X)


def test_the_file_itself_is_logged_with_its_digest_and_nothing_is_pickled(package, logged):
    manifest = mk.inspect(package)
    root = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    files = sorted(path.name for path in root.rglob("*") if path.is_file())
    assert [name for name in files if name.endswith((".mk", ".pkl"))] == ["churn.mk"]
    assert (root / "data" / "churn.mk").read_bytes() == package.read_bytes()
    assert logged.metadata["modelkit"]["digest"] == manifest.digest
    flavor = logged.flavors["python_function"]
    assert flavor["loader_module"] == "modelkit.integrations.mlflow"
    needed = (root / "requirements.txt").read_text().splitlines()
    libraries = {line.partition("==")[0] for line in needed}
    assert libraries == {"mlflow", "modelkit-sdk", "onnxruntime", "numpy", "pandas"}
    assert mlflow.active_run() is None


def test_the_training_frame_is_answered_to_the_bit_under_its_own_index(logged, served):
    model = mlflow.pyfunc.load_model(logged.model_uri)
    rows = X.set_index(np.arange(400) + 7)
    answer = model.predict(rows)
    assert list(answer) == ["label", "probabilities"]
    assert answer.index.equals(rows.index)
    assert list(answer["label"]) == list(served["label"])
    assert np.array_equal(np.stack(answer["probabilities"]), served["probabilities"])


def test_whole_numbers_may_be_missing_in_every_form(logged, package):
    model = mlflow.pyfunc.load_model(logged.model_uri)
    gaps = X.astype({"visits": float})
    gaps.loc[[0, 9], "visits"] = np.nan
    expected = mk.load(package).run(gaps)["probabilities"]
    for rows in (gaps, gaps.astype({"visits": "Int64"}), gaps.astype({"plan": "string"})):
        assert np.array_equal(np.stack(model.predict(rows)["probabilities"]), expected)


def test_a_call_names_the_outputs_that_it_wants(logged, served):
    model = mlflow.pyfunc.load_model(logged.model_uri)
    answer = model.predict(X[:9], params={"outputs": ["label"]})
    assert list(answer) == ["label"]
    assert list(answer["label"]) == list(served["label"][:9])
    with pytest.raises(SignatureError, match="score"):
        model.predict(X[:9], params={"outputs": ["score"]})


def test_texts_are_objects_beside_any_other_output():
    def answer(feeds):
        labels = np.where(feeds["x"] > 0, "yes", "no").astype(object)
        return {"label": labels, "scores": feeds["x"]}

    texts = mk.TensorSpec("label", "string", ("n",))
    outputs = (texts, mk.TensorSpec("scores", "float64", ("n",)))
    signature = mk.Signature((mk.TensorSpec("x", "float64", ("n",)),), outputs)
    called = PackagePyfunc(mk.FunctionModel(answer, signature))
    rows = {"x": np.array([-1.0, 2.0])}
    kinds = {"label": np.dtype(object), "scores": np.dtype(np.float64)}
    for wanted in (["label", "scores"], ["label"], ["scores"]):
        found = called.predict(rows, {"outputs": wanted})
        assert dict(found.dtypes) == {name: kinds[name] for name in wanted}
        assert [list(found[name]) for name in wanted] == [
            list(answer(rows)[name]) for name in wanted
        ]


def test_every_choice_and_number_of_rows_gives_columns_of_one_type(logged, served):
    model = mlflow.pyfunc.load_model(logged.model_uri)
    for n in (1, 2, 3, 9):  # with two classes, two rows could be taken for a matrix
        answer = model.predict(X[:n], params={"outputs": ["probabilities", "label"]})
        assert list(answer) == ["probabilities", "label"]
        assert all(isinstance(row, np.ndarray) for row in answer["probabilities"])
        assert np.array_equal(np.stack(answer["probabilities"]), served["probabilities"][:n])
    assert model.predict(X[:0]).shape == (0, 2)


def test_rows_that_do_not_fit_are_told_by_the_package_itself(logged):
    model = mlflow.pyfunc.load_model(logged.model_uri)
    with pytest.raises(SignatureError, match="visits"):
        model.predict(X.assign(visits="many"))
    with pytest.raises(SignatureError, match="a number is not turned into text"):
        model.predict(X.assign(plan=1))


def test_a_column_may_hold_missing_values_and_may_not_be_left_out(logged, package):
    model = mlflow.pyfunc.load_model(logged.model_uri)
    for name in X.columns:
        with pytest.raises(MlflowException, match=rf"missing inputs \['{name}'\]"):
            model.predict(X.drop(columns=name))
    gone = X.assign(plan=None, age=None)
    expected = mk.load(package).run(gone)["probabilities"]
    assert np.array_equal(np.stack(model.predict(gone)["probabilities"]), expected)


def test_categories_of_pandas_fit_a_model_that_was_trained_on_them(tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    parts = pd.Categorical(np.where(SIGN, "p", "q"))
    rows = FRAME.assign(part=parts)
    rows.loc[3, "part"] = None
    trees = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(rows, FRAME["a"])
    mk.save(trees, tmp_path / "parts.mk", example=rows, name="parts", version="1")
    model = mlflow.pyfunc.load_model(mkm.log_model(tmp_path / "parts.mk").model_uri)
    expected = mk.load(tmp_path / "parts.mk").predict(rows)
    for same in (rows, rows.astype({"part": object})):
        assert np.array_equal(model.predict(same)["prediction"], expected)


def test_an_array_is_given_as_a_frame_with_the_names_of_its_columns(tmp_path):
    path = tmp_path / "array.mk"
    linear = LogisticRegression().fit(FLOATS, SIGN)
    mk.save(linear, path, example=FLOATS, name="array", version="1")
    model = mlflow.pyfunc.load_model(mkm.log_model(path).model_uri)
    with pytest.raises(MlflowException, match="missing inputs"):
        model.predict(FLOATS)
    rows = pd.DataFrame(FLOATS, columns=model.metadata.get_input_schema().input_names())
    assert list(model.predict(rows)["label"]) == list(mk.load(path).predict(FLOATS))


def test_a_digest_pins_the_package_by_the_environment_or_by_the_settings(logged, monkeypatch):
    uri = logged.model_uri
    digest = logged.metadata["modelkit"]["digest"]
    other = "0" * 64
    for same in (digest, f"sha256:{digest}", digest.upper()):
        mlflow.pyfunc.load_model(uri, model_config={"digest": same})
        monkeypatch.setenv("MODELKIT_DIGEST", same)
        mlflow.pyfunc.load_model(uri)
    monkeypatch.delenv("MODELKIT_DIGEST")
    with pytest.raises(IntegrityError, match="model_config asks for 0000"):
        mlflow.pyfunc.load_model(uri, model_config={"digest": other})
    monkeypatch.setenv("MODELKIT_DIGEST", digest)
    mlflow.pyfunc.load_model(uri)
    monkeypatch.setenv("MODELKIT_DIGEST", other)
    with pytest.raises(IntegrityError, match="MODELKIT_DIGEST asks for 0000"):
        mlflow.pyfunc.load_model(uri, model_config={"digest": digest})


def test_a_package_that_was_exchanged_in_the_store_is_refused(package, tensors, tmp_path):
    folder = tmp_path / "model"
    mlflow.artifacts.download_artifacts(mkm.log_model(package).model_uri, dst_path=folder)
    (folder / "data" / "churn.mk").write_bytes(tensors.read_bytes())
    with pytest.raises(IntegrityError, match="asks for"):
        mlflow.pyfunc.load_model(str(folder))


def test_tensors_without_columns_are_declared_as_tensors(tensors):
    logged = mkm.log_model(tensors)
    assert "(-1, 4)" in str(logged.signature.inputs)
    answer = mlflow.pyfunc.load_model(logged.model_uri).predict(FLOATS)
    for name, values in mk.load(tensors).run(FLOATS).items():
        assert np.array_equal(np.stack(answer[name]), values)


def test_settings_and_metadata_of_a_caller_are_added(package):
    info = mkm.log_model(package, model_config={"team": "risk"}, metadata={"team": "risk"})
    digest = mk.inspect(package).digest
    assert info.metadata == {"team": "risk", "modelkit": info.metadata["modelkit"]}
    mlflow.pyfunc.load_model(info.model_uri, model_config={"digest": digest})
    with pytest.raises(IntegrityError, match="asks for 0000"):
        mlflow.pyfunc.load_model(info.model_uri, model_config={"digest": "0" * 64})
    with pytest.raises(TypeError, match="as a dict"):
        mkm.log_model(package, model_config="settings.yaml")
    with pytest.raises(TypeError, match="sets itself"):
        mkm.log_model(package, model_config={"digest": "0" * 64})


def test_a_pickled_package_is_not_logged(tmp_path):
    path = tmp_path / "pickled.mk"
    model = LogisticRegression().fit(FLOATS, SIGN)
    mk.save(model, path, example=FLOATS, name="pickled", version="1", format="joblib")
    with pytest.raises(UntrustedError, match="without asking"):
        mkm.log_model(path)


def test_every_type_of_an_output_has_one_in_mlflow_or_is_refused():
    tensors = (mk.TensorSpec("x", "float32", ("n", 2)),)
    kinds = ["int8", "uint16", "int64", "uint32", "float16", "float64", "bool", "string"]
    outputs = tuple(mk.TensorSpec(f"o{i}", kind, ("n",)) for i, kind in enumerate(kinds))
    outputs += (mk.TensorSpec("deep", "float32", ("n", 2, 3)), mk.TensorSpec("k", "int64", ()))
    found = model_signature(mk.Signature(tensors, outputs)).outputs
    names = [str(kind) for kind in found.input_types()]
    assert names[:4] == ["DataType.integer", "DataType.integer", "DataType.long", "DataType.long"]
    assert names[8] == "Array(Array(float))"
    assert found.input_names()[-1] == "deep"
    refused = mk.Signature(tensors, (mk.TensorSpec("big", "uint64", ("n",)),))
    with pytest.raises(SignatureError, match="uint64"):
        model_signature(refused)
    alone = mk.Signature(tensors, (mk.TensorSpec("total", "float32", ()),))
    with pytest.raises(SignatureError, match="a value for each row"):
        model_signature(alone)


def test_a_server_of_mlflow_answers_as_the_package_does(logged, served):
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", logged.model_uri]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environ = {
        "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        "MODELKIT_DIGEST": logged.metadata["modelkit"]["digest"],
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    with started(command, environ) as process:
        server = Served(process, port)
        wait_until(lambda: answers_ping(server), process)
        rows = X[:12].astype(object).where(X[:12].notna(), None)
        records = rows.to_dict("records")
        split = {"columns": list(rows), "data": rows.to_numpy().tolist()}
        for body in ({"dataframe_records": records}, {"dataframe_split": split}):
            status, answer = server.post("/invocations", body)
            assert status == OK, answer
            found = np.array([each["probabilities"] for each in answer["predictions"]])
            assert np.array_equal(found, served["probabilities"][:12])
        only = {"dataframe_records": records, "params": {"outputs": ["label"]}}
        answer = server.post("/invocations", only)[1]["predictions"]
        assert answer == [{"label": label} for label in served["label"][:12]]
        server.end()


def answers_ping(server):
    try:
        return server.ask("GET", "/ping")[0] == OK
    except OSError:
        return False


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    pytest.importorskip("pyspark")
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("spark")),
    }
    session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def frame(spark):
    """The rows of X in Spark, with a column "id" before the others."""
    rows = X.reset_index(names="id").astype({"plan": object})
    gaps = rows.where(rows.notna(), None).to_numpy().tolist()
    kinds = "id long, age double, visits long, income double, plan string"
    return spark.createDataFrame(gaps, kinds).repartition(3)


def test_spark_scores_by_the_function_that_mlflow_makes(logged, served, spark, frame):
    from pyspark.sql.functions import struct

    answer = mlflow.pyfunc.spark_udf(spark, logged.model_uri, env_manager="local")
    by_place = answer(*X.columns)
    by_name = (answer(), answer(struct(*reversed(X.columns))), answer(struct("*")))
    for asked in (by_place, *by_name):
        found = frame.select("id", asked.alias("answer")).orderBy("id").collect()
        assert [row["answer"]["label"] for row in found] == list(served["label"])
        got = np.array([row["answer"]["probabilities"] for row in found])
        assert np.array_equal(got, served["probabilities"])


def test_spark_is_refused_where_a_column_is_left_out(logged, spark, frame):
    from pyspark.errors import AnalysisException, PythonException
    from pyspark.sql.functions import struct

    answer = mlflow.pyfunc.spark_udf(spark, logged.model_uri, env_manager="local")
    all_but_last = list(X.columns)[:-1]
    for asked in (answer(*all_but_last), answer(struct(*all_but_last))):
        with pytest.raises(PythonException, match="missing"):
            frame.select(asked.alias("answer")).collect()
    with pytest.raises(AnalysisException, match="plan"):
        frame.drop("plan").select(answer().alias("answer")).collect()


def saved(flavor, model, folder, **options):
    """A folder as MLflow writes it for a flavor."""
    module = import_module(f"mlflow.{flavor}")
    module.save_model(model, folder, pip_requirements=[], **options)  # else it opens it to see
    return str(folder)


def imported(folder, path, example, **options):
    """The Model of a package that was made from a folder of MLflow."""
    mkm.import_model(folder, path, example=example, name="imported", version="1", **options)
    return mk.load(path)


def test_an_onnx_model_becomes_a_package(graph, tensors, tmp_path):
    folder = tmp_path / "model"
    saved("onnx", graph, folder)
    model = imported(folder, tmp_path / "onnx.mk", FLOATS)
    for name, values in mk.load(tensors).run(FLOATS).items():
        assert np.array_equal(model.run(FLOATS)[name], values)


def test_boosted_trees_become_packages_without_pickle(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=5, max_depth=3).fit(FRAME, SIGN)
    folder = saved("xgboost", model, tmp_path / "xgboost")
    found = imported(folder, tmp_path / "xgboost.mk", FRAME)
    assert np.allclose(found.predict_proba(FRAME), model.predict_proba(FRAME), atol=1e-6)
    lightgbm = pytest.importorskip("lightgbm")
    rows = lightgbm.Dataset(FRAME, SIGN)
    booster = lightgbm.train({"objective": "regression", "verbose": -1}, rows, 5)
    folder = saved("lightgbm", booster, tmp_path / "lightgbm")
    found = imported(folder, tmp_path / "lightgbm.mk", FRAME)
    assert np.allclose(np.ravel(found.predict(FRAME)), booster.predict(FRAME), atol=1e-6)
    catboost = pytest.importorskip("catboost")
    model = catboost.CatBoostRegressor(iterations=5, verbose=0, allow_writing_files=False)
    model.fit(FRAME, FLOATS[:, 0])
    folder = saved("catboost", model, tmp_path / "catboost")
    found = imported(folder, tmp_path / "catboost.mk", FRAME)
    assert np.allclose(np.ravel(found.predict(FRAME)), model.predict(FRAME), atol=1e-6)


def test_a_skops_file_opens_by_what_its_reader_allows_and_not_by_what_it_says(tmp_path):
    pytest.importorskip("skops")
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, SIGN)
    folder = saved("sklearn", plain, tmp_path / "plain", serialization_format="skops")
    found = imported(folder, tmp_path / "plain.mk", FRAME)
    assert np.allclose(found.predict_proba(FRAME), plain.predict_proba(FRAME), atol=1e-6)
    forest = RandomForestClassifier(5, random_state=0).fit(FRAME, SIGN)
    tree = "sklearn.tree._tree.Tree"
    folder = saved(
        "sklearn",
        forest,
        tmp_path / "forest",
        serialization_format="skops",
        skops_trusted_types=[tree],
    )
    with pytest.raises(UntrustedError, match=tree):
        imported(folder, tmp_path / "forest.mk", FRAME)
    found = imported(folder, tmp_path / "forest.mk", FRAME, allow={tree})
    assert np.allclose(found.predict_proba(FRAME), forest.predict_proba(FRAME), atol=1e-6)


def test_a_link_out_of_the_folder_of_a_model_is_refused(graph, tensors, tmp_path):
    folder = tmp_path / "model"
    saved("onnx", graph, folder)
    elsewhere = tmp_path / "key"
    elsewhere.write_bytes(b"secret")
    (folder / "weights.bin").symlink_to(elsewhere)
    for uri in (str(folder), folder.as_uri()):
        with pytest.raises(PackageError, match="is a link to"):
            imported(uri, tmp_path / "m.mk", tensors)


@pytest.mark.parametrize("kind", ["LGBMClassifier", "LGBMRegressor"])
def test_an_estimator_of_lightgbm_needs_the_three_types_of_the_page(kind, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    pytest.importorskip("skops")
    model = getattr(lightgbm, kind)(n_estimators=5, verbose=-1).fit(FRAME, SIGN)
    folder = saved("lightgbm", model, tmp_path / "model")
    needed = {"collections.OrderedDict", "lightgbm.basic.Booster", f"lightgbm.sklearn.{kind}"}
    page = (ROOT / "docs/howto/scale/mlflow_models.md").read_text()
    for name in needed:
        assert f'"{name}"' in page
        with pytest.raises(UntrustedError, match=name):
            imported(folder, tmp_path / "model.mk", FRAME, allow=needed - {name})
    found = imported(folder, tmp_path / "model.mk", FRAME, allow=needed)
    assert np.allclose(found.predict(FRAME), model.predict(FRAME), atol=1e-6)


BROKEN = {
    "xgboost": {"data": "file", "model_class": "xgboost.sklearn.XGBClassifier"},
    "lightgbm": {"data": "file"},
    "catboost": {"data": "file", "model_type": "CatBoostClassifier"},
    "sklearn": {"pickled_model": "file", "serialization_format": "skops"},
    "onnx": None,
}


@pytest.mark.parametrize("flavor", BROKEN)
def test_a_file_that_its_library_cannot_read_is_told(flavor, tmp_path):
    pytest.importorskip({"sklearn": "skops"}.get(flavor, flavor))
    model = mlflow.models.Model(flavors={flavor: BROKEN[flavor]})
    model.save(tmp_path / "MLmodel")
    (tmp_path / "file").write_bytes(b"no model")
    with pytest.raises(PackageError, match=f"flavor {flavor} .* cannot be read"):
        imported(str(tmp_path), tmp_path / "m.mk", FRAME)


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.touch, (self.place,)


def test_a_pickled_model_is_not_read_without_consent(tmp_path):
    model = LogisticRegression().fit(FRAME, SIGN)
    folder = saved("sklearn", model, tmp_path / "model", serialization_format="pickle")
    found = imported(folder, tmp_path / "model.mk", FRAME, allow={"pickle"})
    assert np.allclose(found.predict_proba(FRAME), model.predict_proba(FRAME), atol=1e-6)
    opened = tmp_path / "opened"
    (tmp_path / "model" / "model.pkl").write_bytes(pickle.dumps(Trap(opened)))
    with pytest.raises(UntrustedError, match="runs whatever code"):
        imported(folder, tmp_path / "model.mk", FRAME)
    with pytest.raises(TypeError, match="collection"):
        imported(folder, tmp_path / "model.mk", FRAME, allow="pickle")
    assert not opened.exists()


def edited(folder, flavor, **changes):
    """Change what a folder says of its model."""
    from mlflow.models import Model

    model = Model.load(folder)
    model.flavors[flavor].update(changes)
    model.save(str(Path(folder) / "MLmodel"))


def test_a_model_that_names_another_class_or_another_file_is_refused(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=2).fit(FRAME, SIGN)
    folder = saved("xgboost", model, tmp_path / "model")
    for kind in ("os.system", "xgboost.core.ctypes", "subprocess.Popen"):
        edited(folder, "xgboost", model_class=kind)
        with pytest.raises(UntrustedError, match=kind):
            imported(folder, tmp_path / "bad.mk", FRAME)
    (tmp_path / "outside.ubj").write_bytes(b"secret")
    for place in ("../outside.ubj", str(tmp_path / "outside.ubj"), "absent", None):
        edited(folder, "xgboost", model_class="xgboost.sklearn.XGBClassifier", data=place)
        with pytest.raises(PackageError, match="not in its folder"):
            imported(folder, tmp_path / "bad.mk", FRAME)


def test_the_classes_of_boosted_trees_are_those_that_their_libraries_have():
    for library, names in NATIVE_CLASSES.items():
        module = pytest.importorskip(library)
        for name in names:
            assert hasattr(getattr(module, name), "load_model")


def test_a_package_is_not_imported_and_comes_back_as_the_message_says(logged, package, tmp_path):
    with pytest.raises(ConversionError, match=r"package of modelkit.*'data/churn.mk'"):
        imported(logged.model_uri, tmp_path / "other.mk", X)
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri))
    assert mk.inspect(folder / "data/churn.mk").digest == mk.inspect(package).digest


def test_a_model_of_another_flavor_is_refused(tmp_path):
    from mlflow.models import Model

    model = Model()
    model.add_flavor("python_function", loader_module="another")
    (tmp_path / "model").mkdir()
    model.save(str(tmp_path / "model" / "MLmodel"))
    with pytest.raises(ConversionError, match="python_function"):
        imported(str(tmp_path / "model"), tmp_path / "other.mk", X)
