"""Ray, Spark and Dask: a package scores and rows are compared as on this machine, to the bit.

`make test-engines` runs this in an environment that has them; elsewhere the tests are skipped.
"""

import pickle
import warnings
from importlib import import_module

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.encoders import uneven_texts
from helpers.engines import (
    INPUTS,
    KEPT,
    NARROW,
    PARTS,
    ROWS,
    customers,
    local,
    matrix,
    profile_of,
    texts_of,
)

import modelkit as mk
from modelkit.errors import IntegrityError, SignatureError, UsageError
from modelkit.integrations.scorer import scorer as module
from modelkit.integrations.scorer.tallier import Tallier

# Spark warns of pandas 3 wherever it meets it (SPARK-55965); Ray leaves files and sockets to the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings(
        "ignore:Series.values returning an ndarray:pandas.errors.Pandas4Warning"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of settings that Ray sets itself
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(600),
]


class Ray:
    """Ray on two CPUs of this machine."""

    name = "ray"

    def __init__(self):
        self.ray = pytest.importorskip("ray")
        self.ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)

    def rows(self, table, parts=PARTS):
        return self.ray.data.from_arrow(split(table, parts))

    def table(self, rows):
        blocks = [self.ray.get(block) for block in rows.to_arrow_refs()]
        having = [block for block in blocks if block.num_columns]
        return pa.concat_tables(having) if having else pa.table({})  # Ray drops empty blocks

    def stop(self):
        self.ray.shutdown()


class Spark:
    """A local session of Spark with two threads."""

    name = "spark"

    def __init__(self):
        sql = pytest.importorskip("pyspark.sql")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.session = (
                sql.SparkSession.builder.master("local[2]")
                .config("spark.ui.enabled", "false")
                .config("spark.ui.showConsoleProgress", "false")
                .config("spark.driver.bindAddress", "127.0.0.1")
                .config("spark.sql.shuffle.partitions", "4")
                .getOrCreate()
            )

    def rows(self, table, parts=PARTS):
        return self.session.createDataFrame(table).repartition(parts)

    def table(self, rows):
        return rows.toArrow()

    def stop(self):
        self.session.stop()


class Dask:
    """Dask's threads in this process."""

    name = "dask"

    def __init__(self):
        self.frames = pytest.importorskip("dask.dataframe")
        # Dask makes strings of all columns of objects, of lists and bytes too, unless told not to.
        self.settings = import_module("dask.config").set({"dataframe.convert-string": False})

    def rows(self, table, parts=PARTS):
        return self.frames.from_map(pd_frame, split(table, parts))

    def table(self, rows):
        return pa.Table.from_pandas(rows.compute(), preserve_index=False)

    def stop(self):
        self.settings.__exit__(None, None, None)


def pd_frame(table):
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def split(table, parts):
    """Parts of a table; the last is empty."""
    size = -(-table.num_rows // max(parts - 1, 1)) or 1
    return [table.slice(i * size, size) for i in range(parts)]


@pytest.fixture(scope="module", params=[Ray, Spark, Dask])
def engine(request):
    started = request.param()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def integration(engine):
    return import_module(f"modelkit.integrations.{engine.name}")


def table_of(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


def by_id(table):
    return table.sort_by("id")


def values_of(table, output):
    """An output's values as an array, be it a column of lists or several columns."""
    if output in table.column_names:
        column = table[output]
        return matrix(column) if pa.types.is_list(column.type) else column.to_pylist()
    names = [name for name in table.column_names if name.startswith(f"{output}_")]
    return np.column_stack([table[name].to_numpy() for name in names])


def test_scored_rows_are_those_of_this_machine_to_the_bit(engine, integration, packages):
    """Over partitions of which one is empty, with kept columns of many types."""
    frame = customers(ROWS, 5)
    rows = engine.rows(table_of(frame))
    scored = integration.score(rows, packages.churn, keep=KEPT)
    found = by_id(engine.table(scored))
    served = local(packages.churn, frame[INPUTS])
    assert values_of(found, "label") == served["label"].tolist()
    assert np.array_equal(values_of(found, "probabilities"), served["probabilities"])
    kept = table_of(frame).select(KEPT)
    for name in KEPT:
        assert found[name].cast(kept[name].type).to_pylist() == kept[name].to_pylist(), name


def test_outputs_are_chosen_and_packages_travel_as_bytes(engine, integration, packages):
    frame = customers(60, 6)
    data = packages.churn.read_bytes()
    rows = engine.rows(table_of(frame))
    scored = integration.score(rows, data, outputs=["label"], keep=["id"])
    found = engine.table(scored)
    assert found.column_names == ["id", "label"]
    assert values_of(by_id(found), "label") == local(data, frame[INPUTS])["label"].tolist()


def test_more_partitions_than_rows_and_no_rows_at_all(engine, integration, packages):
    frame = customers(3, 7)
    rows = engine.rows(table_of(frame), 6)
    scored = integration.score(rows, packages.churn, keep=["id"])
    assert by_id(engine.table(scored))["id"].to_pylist() == [0, 1, 2]
    nothing = engine.rows(table_of(frame[:0]), 2)
    assert engine.table(integration.score(nothing, packages.churn, keep=["id"])).num_rows == 0


def test_a_filter_to_zero_rows(engine, integration, packages):
    rows = engine.rows(table_of(customers(60, 6)))
    if engine.name == "ray":
        none = rows.filter(expr="id < 0")
    elif engine.name == "spark":
        none = rows.filter("id < 0")
    else:
        none = rows[rows["id"] < 0]
    assert engine.table(integration.score(none, packages.churn, keep=["id"])).num_rows == 0


def test_types_that_few_engines_know(engine, integration, packages):
    numbers = np.arange(40, dtype=np.float32)
    table = pa.table({"x": [[own] for own in numbers], "id": np.arange(40)})
    found = by_id(engine.table(integration.score(engine.rows(table), packages.narrow, keep=["id"])))
    served = local(packages.narrow, {"x": numbers[:, None]})
    for name in NARROW:
        assert values_of(found, name) == served[name].tolist(), name
    assert np.array_equal(values_of(found, "lists"), served["lists"])


def test_texts_are_embedded(engine, integration, packages):
    frame = texts_of(80)
    found = by_id(
        engine.table(integration.score(engine.rows(table_of(frame)), packages.texts, keep=["id"]))
    )
    served = local(packages.texts, frame[["text"]])["embedding"]
    # The graph rounds by how many texts run at once.
    assert np.allclose(values_of(found, "embedding"), served, atol=1e-6)


def test_texts_are_run_by_their_tokens_whatever_batches_an_engine_has(
    engine, integration, packages
):
    """One long text among hundreds in a partition does not make all others as long."""
    texts = uneven_texts(1200, 6)
    rows = engine.rows(table_of(pd.DataFrame({"text": texts, "id": range(len(texts))})), 2)
    found = engine.table(integration.score(rows, packages.run_sizes, keep=["id"]))
    sizes = values_of(by_id(found), "embedding")
    tokens = mk.load(packages.run_sizes).token_count(texts)
    assert sizes.prod(axis=1).max() <= 512
    assert sizes[:, 1].sum() <= 1.1 * tokens.sum()


def test_explanations_are_those_of_this_machine(engine, integration, packages):
    frame = packages.numbers.assign(id=range(300))
    scorer = mk.Scorer(packages.forest, keep=["id"], explain=True)
    found = by_id(engine.table(integration.score(engine.rows(table_of(frame)), scorer)))
    explained = mk.Explainer(mk.load(packages.forest, threads=1)).explain(packages.numbers)
    contributions = values_of(found, "contributions").reshape(300, 2, 4).transpose(0, 2, 1)
    assert np.array_equal(contributions, explained.values)
    assert np.array_equal(values_of(found, "base"), explained.base_values)


@pytest.mark.parametrize("options", [{}, {"unit": "table"}])
def test_one_exact_test_of_the_counts_of_all_workers(engine, integration, packages, options):
    profile = profile_of(packages.churn, **options)
    frame = customers(ROWS, 8, 0.3)
    frame = frame.assign(table=frame["id"] // 100)
    keep = ["id", *INPUTS, *options.values()]
    scored = integration.score(engine.rows(table_of(frame)), packages.churn, keep=keep)
    report = integration.drift(scored, profile, scores=["label", "probabilities"], alpha=0.05)
    served = local(packages.churn, frame[INPUTS])
    own = mk.Detector(profile, alpha=0.05).test(frame[keep[1:]], served)
    assert report.features == own.features
    assert report.alarms == own.alarms
    assert report.rows == ROWS
    assert options or report.alarms
    rows_alone = integration.drift(engine.rows(table_of(frame)), profile)
    assert rows_alone.rows == ROWS


def test_tallies_of_many_partitions_are_added_up_on_the_way(engine, integration, packages):
    """More than a task adds up at once, and some of no rows."""
    profile = profile_of(packages.churn)
    frame = customers(300, 9)[INPUTS]
    report = integration.drift(engine.rows(table_of(frame), 40), profile)
    assert report.features == mk.Detector(profile).test(frame).features
    assert report.rows == 300


def test_probabilities_are_told_by_their_names(engine, integration, packages):
    """In whatever order their columns stand, where an engine's rows have one for each class."""
    profile = profile_of(packages.churn)
    frame = customers(ROWS, 8)
    served = local(packages.churn, frame[INPUTS])
    chances = dict(zip(("no", "yes"), served["probabilities"].T, strict=True))
    turned = frame[INPUTS].assign(**{f"probabilities_{own}": chances[own] for own in ("yes", "no")})
    rows = engine.rows(table_of(turned))
    report = integration.drift(rows, profile, scores=["probabilities"])
    own = {"probabilities": served["probabilities"]}
    assert report.features == mk.Detector(profile).test(frame[INPUTS], own).features
    other = engine.rows(table_of(turned.rename(columns={"probabilities_yes": "probabilities_si"})))
    with pytest.raises(Exception, match=r"lack \['probabilities_yes'\]"):
        integration.drift(other, profile, scores=["probabilities"])


def test_mistakes_are_told_before_anything_runs(engine, integration, packages):
    rows = engine.rows(table_of(customers(30, 6)))
    with pytest.raises(SignatureError, match="unknown outputs"):
        integration.score(rows, packages.churn, outputs=["chances"])
    with pytest.raises(TypeError, match=f"a {engine.name} Data"):
        integration.score(customers(30, 6), packages.churn)
    with pytest.raises(TypeError, match=f"a {engine.name} Data"):
        integration.drift(customers(30, 6), profile_of(packages.churn))
    with pytest.raises(TypeError, match="has its own"):
        integration.score(rows, mk.Scorer(packages.churn), keep=["id"])
    with pytest.raises(UsageError, match="lacks the scores"):
        integration.drift(rows, profile_of(packages.churn), scores=["chances"])
    with pytest.raises(UsageError, match="the table is empty"):
        integration.drift(
            engine.rows(table_of(customers(30, 6)[:0]), 1), profile_of(packages.churn)
        )


def test_columns_are_told_where_the_job_is_built(engine, integration, packages):
    frame = customers(30, 6)
    rows = engine.rows(table_of(frame.rename(columns={"age": "Age"})))
    with pytest.raises(SignatureError, match=r"missing column 'age' \(is it 'Age'\?\)"):
        integration.score(rows, packages.churn)
    with pytest.raises(SignatureError, match="keep names"):
        integration.score(engine.rows(table_of(frame)), packages.churn, keep=["ID"])
    with pytest.raises(UsageError, match=r"missing column 'age' \(is it 'Age'\?\)"):
        integration.drift(rows, profile_of(packages.churn))


def test_decimals_are_told_where_the_job_is_built(engine, integration, packages):
    if engine.name == "dask":
        pytest.skip("pandas has decimals as objects, whose values are told by the job")
    table = table_of(customers(30, 6))
    decimals = table["age"].cast(pa.decimal128(38, 20), safe=False)
    rows = engine.rows(table.set_column(4, "age", decimals))
    with pytest.raises(SignatureError, match=r"\['age'\] are decimals.*cast"):
        integration.score(rows, packages.churn)


def test_a_package_that_changed_on_the_way_is_refused(engine, integration, packages, tmp_path):
    path = tmp_path / "changing.mk"
    frame = packages.numbers.assign(id=range(300))
    from sklearn.linear_model import LinearRegression

    for version in "12":
        model = LinearRegression().fit(packages.numbers, frame["x0"] * int(version))
        mk.save(
            model,
            tmp_path / f"{version}.mk",
            example=packages.numbers,
            name="changing",
            version=version,
        )
    path.write_bytes((tmp_path / "1.mk").read_bytes())
    scored = integration.score(engine.rows(table_of(frame)), path)
    path.write_bytes((tmp_path / "2.mk").read_bytes())
    module._held._values.clear()  # Dask's threads are in this process
    with pytest.raises(Exception, match="asked for") as caught:
        engine.table(scored)
    assert IntegrityError.__name__ in str(caught.value) or isinstance(caught.value, IntegrityError)


def test_what_travels_is_small(packages):
    cloudpickle = pytest.importorskip("cloudpickle")
    scorer = mk.Scorer(packages.churn, keep=KEPT, outputs=["probabilities"])
    assert len(cloudpickle.dumps(scorer.arrow)) < 2048
    profile = profile_of(packages.churn)
    assert len(pickle.dumps(Tallier(profile))) < len(profile.to_bytes()) + 512
