"""Columns and rows as people have them: unread and extra columns, objects, polars frames, no rows."""

import dataclasses
import sys
from typing import NamedTuple

import numpy as np
import onnx.parser
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

import modelkit as mk
from modelkit.errors import ConversionError, DriftError, SignatureError

N = 200


def saved(model, example, path, form="onnx", **options):
    """The Model of an estimator that was saved and loaded."""
    manifest = mk.save(model, path, example=example, name="m", version="1", format=form, **options)
    return mk.load(path, digest=manifest.digest, allow={"joblib"})


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(N),
            "when": pd.date_range("2024-01-01", periods=N),
            "a": rng.normal(size=N),
            "cat": rng.choice(["x", "y", None], N),
            "span": pd.interval_range(0, N),
            "b": rng.normal(size=N),
            "thing": [object()] * N,
            "wait": pd.Timedelta("1s"),
            "text": rng.choice(["good film", "bad film", "so so"], N),
            "month": pd.period_range("2020", periods=N),
            "gaps": pd.array([1, None] * (N // 2), "Int64"),
            "kind": pd.Categorical(["u", "v"] * (N // 2)),
        }
    )


def prepared():
    gaps = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    return ColumnTransformer(
        [("n", StandardScaler(), ["a", "b"]), ("c", gaps, ["cat"]), ("d", "drop", ["id"])]
    )


def some(columns):
    return ColumnTransformer([("n", "passthrough", columns)])


READERS = {
    "a pipeline": (make_pipeline(prepared(), LogisticRegression()), ["a", "cat", "b"]),
    "a search": (
        GridSearchCV(make_pipeline(prepared(), LogisticRegression()), {"verbose": [False]}, cv=2),
        ["a", "cat", "b"],
    ),
    "a vote": (
        VotingClassifier(
            [
                ("l", make_pipeline(some(["b"]), LogisticRegression())),
                ("f", make_pipeline(some([2]), RandomForestClassifier(5, random_state=0))),
            ],
            voting="soft",
        ),
        ["a", "b"],
    ),
    "a union": (
        make_pipeline(FeatureUnion([("one", some(["b"])), ("two", some(["a"]))]), LogisticRegression()),
        ["a", "b"],
    ),
    "one against the rest": (
        OneVsRestClassifier(make_pipeline(some(["b", "a"]), LogisticRegression())),
        ["a", "b"],
    ),
    "one inside another": (
        make_pipeline(
            ColumnTransformer([("x", some([1]), ["wait", "b"]), ("z", StandardScaler(), [2])]),
            LogisticRegression(),
        ),
        ["a", "b"],
    ),
    "texts": (
        make_pipeline(
            ColumnTransformer([("t", TfidfVectorizer(), "text"), ("n", "passthrough", ["b"])]),
            LogisticRegression(),
        ),
        ["b", "text"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "form"), [*((kind, "onnx") for kind in READERS), ("a search", "joblib")]
)
def test_columns_that_a_pipeline_drops_may_be_sent_or_not(kind, form, frame, tmp_path):
    source, read = READERS[kind]
    source.fit(frame, frame.a + frame.b > 0)
    with saved(source, frame, tmp_path / "m.mk", form) as model:
        signature = model.signature
        assert [column.name for spec in signature.inputs for column in spec.columns] == read
        assert signature.ignored == tuple(name for name in frame if name not in read)
        expected = source.predict_proba(frame)
        for rows in (frame, frame[read], frame[[*read, "when"]], frame[read].to_dict("records")):
            np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-12)
        with pytest.raises(SignatureError, match="unexpected column 'stranger'"):
            model.predict(frame.assign(stranger=1))
        assert mk.inspect(tmp_path / "m.mk").signature == signature


def test_extra_columns_pass_for_a_caller_who_says_so(frame, tmp_path):
    source = make_pipeline(prepared(), LogisticRegression()).fit(frame, frame.a > 0)
    saved(source, frame, tmp_path / "m.mk").close()
    rows = frame.assign(stranger=1)
    with mk.load(tmp_path / "m.mk", extra="ignore") as model:
        expected = source.predict(frame)
        tables = (pl.from_pandas(rows[["b", "cat", "a", "stranger"]]), rows)
        for given in (*tables, rows.to_dict("records"), rows.to_dict("list")):
            np.testing.assert_array_equal(model.predict(given), expected)
        some = [{"a": 1.0, "b": 2.0, "cat": "x", "mine": 1}, {"cat": "x", "a": 1.0, "b": 2.0}]
        assert model.predict(some).shape == (2,)
        with pytest.raises(SignatureError, match=r"missing column 'a' \(is it 'A'\?\)"):
            model.predict(rows.rename(columns={"a": "A"}))
        assert model.signature == mk.inspect(tmp_path / "m.mk").signature
        assert mk.load(tmp_path / "m.mk").signature.extra == "refuse"
    with pytest.raises(SignatureError, match="extra is 'refuse' or 'ignore', not 'drop'"):
        mk.load(tmp_path / "m.mk", extra="drop")


def test_extra_names_beside_tensors_pass_too():
    wide = mk.Signature(
        (mk.TensorSpec("image", "float32", ("batch", 2)),),
        (mk.TensorSpec("y", "float32", ("batch",)),),
        extra="ignore",
    )
    image = np.ones((3, 2), np.float32)
    assert wide.coerce({"image": image, "id": [1, 2, 3]})["image"].shape == (3, 2)


def test_a_profile_of_the_training_rows_goes_with_a_model_that_drops_some(frame, tmp_path):
    rows = frame.drop(columns=["span", "thing", "month", "wait"])
    source = make_pipeline(prepared(), LogisticRegression()).fit(rows, rows.a > 0)
    profile = mk.Profile.fit(rows)
    with saved(source, rows, tmp_path / "m.mk", profile=profile) as model:
        watched = mk.Monitor(model)
        watched.predict(rows)
        assert watched.detector.profile.sources() == ["a", "cat", "b"]
        assert sum(feature.weight for feature in watched.detector.profile.features) == 1
        with pytest.raises(DriftError, match="it lacks"):
            mk.Monitor(model, mk.Profile.fit(rows.rename(columns={"a": "text2"})))
    assert profile.without(["nobody"]) is profile


@dataclasses.dataclass
class House:
    rooms: float
    town: str | None


class HouseTuple(NamedTuple):
    rooms: float
    town: str | None


def house_signature(**options):
    columns = (mk.Column("rooms"), mk.Column("town", "string", nullable=True))
    inputs = tuple(
        mk.TensorSpec(column.name, column.dtype, ("batch", 1), (column,)) for column in columns
    )
    return mk.Signature(inputs, (mk.TensorSpec("price", "float64", ("batch",)),), **options)


def as_pydantic(rooms, town):
    pydantic = pytest.importorskip("pydantic")

    class HouseModel(pydantic.BaseModel):
        number: float = pydantic.Field(alias="rooms")
        town: str | None = None

    return HouseModel(rooms=rooms, town=town)


def as_attrs(rooms, town):
    attrs = pytest.importorskip("attrs")
    return attrs.make_class("HouseClass", ["rooms", "town"])(rooms, town)


@pytest.mark.parametrize("kind", [House, HouseTuple, as_pydantic, as_attrs])
def test_objects_are_rows(kind):
    signature = house_signature()
    expected = signature.coerce([{"rooms": 3, "town": "Ulm"}, {"rooms": 4, "town": None}])
    for batch in (list, tuple):
        found = signature.coerce(batch([kind(3, "Ulm"), kind(4, None)]))
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in expected.items()
        }
    with pytest.raises(SignatureError, match=r"a single record; pass a list of records"):
        signature.coerce(kind(3, "Ulm"))


def test_texts_are_rows_of_a_model_of_texts():
    text = mk.TensorSpec("text", "string", ("batch", 1), (mk.Column("text", "string"),))
    signature = mk.Signature((text,), (mk.TensorSpec("y", "float64", ("batch",)),))
    assert signature.coerce(["a", "b"])["text"].tolist() == [["a"], ["b"]]
    with pytest.raises(SignatureError, match="missing value in row 1"):
        signature.coerce(["a", None])
    assert signature.coerce(pd.Series(["a", "b"]))["text"].tolist() == [["a"], ["b"]]
    with pytest.raises(SignatureError, match="a list of str"):
        house_signature().coerce(["a"])


def test_an_empty_list_is_no_rows(frame, tmp_path):
    source = make_pipeline(prepared(), LogisticRegression()).fit(frame, frame.a > 0)
    for form in ("onnx", "joblib"):
        with saved(source, frame, tmp_path / "m.mk", form) as model:
            assert model.predict([]).shape == (0,)
            assert model.predict_proba([]).shape == (0, 2)
    fixed = mk.Signature(
        (mk.TensorSpec("x", "float32", (4, 2)),), (mk.TensorSpec("y", "float32", (4,)),)
    )
    with pytest.raises(SignatureError, match="an empty list"):
        fixed.coerce([])


def test_torch_tensors_are_rows_where_numpy_shares_them():
    torch = pytest.importorskip("torch")
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("batch", 3)),), (mk.TensorSpec("y", "float32", ("batch",)),)
    )
    rows = torch.ones(2, 3)
    assert np.shares_memory(signature.coerce(rows)["x"], rows.numpy())
    assert signature.coerce({"x": rows.double()})["x"].dtype == np.float32
    for bad, fix in (
        (torch.ones(2, 3, requires_grad=True), r"pass X\.detach\(\)"),
        (torch.ones(2, 3, device="meta"), r"a torch tensor on meta; pass X\.cpu\(\)"),
        (torch.ones(2, 3, dtype=torch.bfloat16), r"torch\.bfloat16"),
    ):
        for given in (bad, {"x": bad}):
            with pytest.raises(SignatureError, match=fix):
                signature.coerce(given)


@pytest.fixture(scope="module")
def polars_frame():
    rng = np.random.default_rng(0)
    kinds = [["u", "v"][i % 2] for i in range(N)]
    holes = [["u", "v", None][i % 3] for i in range(N)]
    return pl.DataFrame(
        {
            "a": rng.normal(size=N),
            "i": [None if i % 9 == 0 else i % 4 for i in range(N)],
            "s": [["x", "y", None][i % 3] for i in range(N)],
            "c": pl.Series(kinds, dtype=pl.Categorical),
            "e": pl.Series(holes, dtype=pl.Enum(["u", "v"])),
            "t": [i % 2 == 0 for i in range(N)],
            "day": pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 7, 18), eager=True),
        }
    )


@pytest.mark.parametrize("form", ["onnx", "joblib"])
def test_frames_of_polars_at_save_and_at_predict(form, polars_frame, tmp_path):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("n", numbers, ["a", "i"]), ("c", words, ["s", "c", "e", "t"])])
    source = make_pipeline(columns, LogisticRegression()).fit(polars_frame, np.arange(N) % 2)
    with saved(source, polars_frame, tmp_path / "m.mk", form) as model:
        expected = source.predict_proba(polars_frame)
        for rows in (polars_frame, polars_frame.to_arrow(), polars_frame.to_dicts()):
            np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-12)
        assert model.signature.ignored == ("day",)


@pytest.mark.parametrize("form", ["onnx", "joblib"])
@pytest.mark.parametrize("gaps", ["in fit", "nowhere"])
@pytest.mark.parametrize("encoder", [TargetEncoder(cv=2), OneHotEncoder(handle_unknown="ignore")])
def test_a_text_that_polars_misses_is_none_where_the_example_misses_none(
    encoder, gaps, form, frame, tmp_path
):
    """scikit-learn sees None there, which no imputer of NaN fills."""
    whole = pl.from_pandas(frame[["a", "text"]])
    rows = whole.with_columns(pl.when(pl.col("a") > 0).then("text").alias("text"))
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), encoder)
    source = make_pipeline(
        ColumnTransformer([("c", words, ["text"])], remainder="passthrough"), Ridge()
    )
    source.fit(rows if gaps == "in fit" else whole, frame.b)
    with saved(source, whole, tmp_path / "m.mk", form) as model:
        np.testing.assert_allclose(model.predict(rows), source.predict(rows), atol=1e-9)


def test_records_and_tables_are_examples(frame, tmp_path):
    rows = frame[["a", "text", "b"]]
    columns = ColumnTransformer(
        [("n", StandardScaler(), ["a", "b"]), ("c", OneHotEncoder(), ["text"])]
    )
    source = make_pipeline(columns, LogisticRegression()).fit(rows, rows.a > 0)
    examples = [rows.to_dict("records"), rows.to_dict("list"), pl.from_pandas(rows).to_arrow()]
    for example in examples:
        with saved(source, example, tmp_path / "m.mk") as model:
            np.testing.assert_array_equal(model.predict(rows), source.predict(rows))


def test_names_that_stand_twice_are_refused(frame, tmp_path):
    rows = pd.concat([frame[["a", "b"]], frame[["a"]]], axis=1)
    source = LogisticRegression().fit(rows.to_numpy(), frame.a > 0)
    with pytest.raises(ConversionError, match=r"several columns of one name, \['a'\]"):
        saved(source, rows, tmp_path / "m.mk")


@pytest.mark.parametrize("form", ["onnx", "joblib"])
def test_names_that_are_numbers(form, frame, tmp_path):
    rows = frame[["a", "when", "b"]].set_axis([0, 1, 2], axis=1)
    source = make_pipeline(ColumnTransformer([("n", "passthrough", [0, 2])]), LogisticRegression())
    source.fit(rows, frame.a > 0)
    with saved(source, rows, tmp_path / "m.mk", form) as model:
        np.testing.assert_array_equal(model.predict(rows), source.predict(rows))
        assert model.signature.ignored == ("1",)


@pytest.mark.parametrize("form", ["onnx", "joblib"])
@pytest.mark.parametrize("numbers", [True, False], ids=["numbers", "texts"])
@pytest.mark.parametrize("unread", [0, 1, 2])
def test_an_array_of_objects_is_taken_with_the_column_that_is_not_read(
    unread, numbers, form, frame, tmp_path
):
    read = frame[["a", "b"]] if numbers else frame[["text", "b"]]
    rows = np.insert(read.to_numpy(object), unread, frame.when.to_numpy(object), axis=1)
    first, second = sorted({0, 1, 2} - {unread})
    encoder = "passthrough" if numbers else OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("f", encoder, [first]), ("s", SimpleImputer(), [second])])
    source = make_pipeline(columns, LogisticRegression()).fit(rows, frame.a > 0)
    with saved(source, rows, tmp_path / "m.mk", form) as model:
        assert model.signature.ignored == (str(unread),)
        np.testing.assert_array_equal(model.predict(rows), source.predict(rows))
        np.testing.assert_array_equal(model.predict(rows[:, [first, second]]), source.predict(rows))
        with pytest.raises(SignatureError, match=r"shape|columns"):
            model.predict(rows[:, [0, 1, 2, 2]])


OWN = {
    "lists": lambda frame: frame.to_numpy().tolist(),
    "tuples": lambda frame: list(frame.itertuples(index=False, name=None)),
    "records": lambda frame: frame.to_dict("records"),
    "one record": lambda frame: frame.to_dict("records")[:1],
    "columns": lambda frame: frame.to_dict("list"),
    "polars": pl.from_pandas,
    "Arrow": pa.Table.from_pandas,
    "a batch of Arrow": pa.RecordBatch.from_pandas,
}


@pytest.mark.parametrize("form", ["onnx", "joblib"])
@pytest.mark.parametrize("kind", OWN)
def test_a_package_takes_the_very_example_that_it_was_saved_with(kind, form, frame, tmp_path):
    rows = frame[["a", "b", "when"]].assign(when=1.0)
    example = OWN[kind](rows)
    names = [0, 1] if kind in ("lists", "tuples") else ["a", "b"]
    source = make_pipeline(ColumnTransformer([("n", "passthrough", names)]), LogisticRegression())
    source.fit(rows.to_numpy() if names == [0, 1] else rows, frame.a > 0)
    expected = source.predict_proba(rows.to_numpy() if names == [0, 1] else rows)
    with saved(source, example, tmp_path / "m.mk", form) as model:
        found = model.predict_proba(example)
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-12)


def test_no_library_is_imported_to_read_rows():
    import subprocess

    code = (
        "import sys, modelkit as mk, dataclasses\n"
        "@dataclasses.dataclass\n"
        "class R:\n    a: float\n"
        "s = mk.Signature((mk.TensorSpec('X', 'float64', ('batch', 1), (mk.Column('a'),)),),"
        "(mk.TensorSpec('y', 'float64', ('batch',)),), ignored=('b',))\n"
        "s.coerce([R(1)]); s.coerce([{'a': 1, 'b': 2}]); s.coerce([])\n"
        "print({'pandas', 'polars', 'torch', 'pydantic', 'attr', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_which_columns_may_be_missing_can_be_narrowed(tmp_path):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 3)), columns=list("abc"))
    holed = X.assign(a=X["a"].where(X["a"] < 1))
    forest = RandomForestClassifier(3, random_state=0).fit(holed, X["b"] > 0)

    def nullable(rows, **options):
        with saved(forest, rows, tmp_path / "m.mk", **options) as model:
            spec = model.signature.inputs[0]
            model.verify()
            for at, column in enumerate(spec.columns):
                row = X[:1].copy()
                row.iloc[0, at] = np.nan
                if column.nullable:
                    model.predict(row)
                else:
                    with pytest.raises(SignatureError, match=rf"'{column.name}': missing value"):
                        model.predict(row)
            return [column.name for column in spec.columns if column.nullable]

    assert nullable(holed) == ["a", "b", "c"]
    assert nullable(holed, nullable=["a"]) == ["a"]
    assert nullable(X, nullable=["c", "a"]) == ["a", "c"]
    assert nullable(X, nullable=False) == nullable(X, nullable=[]) == []
    with pytest.raises(ConversionError, match=r"rows of its own example.*\n.*'a': missing value"):
        nullable(holed, nullable=False)
    for odd in (True, "a", ["a", 1], 3):
        with pytest.raises(ConversionError, match="nullable= is a list of the columns that may be"):
            nullable(X, nullable=odd)
    with pytest.raises(ConversionError, match=r"nullable= names \['d'\], in which the model was"):
        nullable(X, nullable=["a", "d"])


def test_a_tensor_without_columns_can_be_narrowed(tmp_path):
    graph = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]>
        g (float[n, 2, 3] image) => (float[n, 2, 3] prediction) { prediction = Neg(image) }"""
    )
    with saved(graph, None, tmp_path / "m.mk", nullable=False) as model:
        with pytest.raises(SignatureError, match="image"):
            model.predict(np.full((1, 2, 3), np.nan, np.float32))
        model.verify()
