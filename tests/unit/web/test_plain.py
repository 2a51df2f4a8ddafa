"""Plain JSON: rows as records, columns or arrays by name, and answers by the names of outputs."""

import json
import re
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.client import Client
from helpers.examples import examples
from helpers.web_models import SIGNATURES, model_of, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.model.call import PLAIN
from modelkit.web import plain
from modelkit.web.json import LONG
from modelkit.web.query import Limits, Query
from modelkit.web.replies import Refused
from modelkit.web.request import at_once

LIMITS = Limits()
THREE = SIGNATURES["nullable numbers"]
KINDS = SIGNATURES["columns of many kinds"]
ROW = {
    "size": 1.5, "rooms": None, "floor": 3, "lift": True, "flag": False, "grade": 2.5, "town": None,
    "note": "a:b", "any": 3, "seen": "2026-01-31T12:30:00.5", "due": "2026-01-31T12:30:00+01:00",
    "took": 0.000001,
}  # fmt: skip


def read(made, signature=THREE, limits=LIMITS):
    body = made if isinstance(made, bytes) else json.dumps(made).encode()
    return at_once(plain.read(body, {}, signature, limits))


def feeds(made, signature=THREE):
    return signature.coerce(read(made, signature).X)


def same(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.dtype == other[name].dtype
        np.testing.assert_array_equal(values, other[name])


# Forms.


def test_records_columns_and_the_python_call_are_read_alike():
    rows = [{"x1": 0.1, "x0": 1, "x2": None}, {"x2": -1e30, "x1": 7, "x0": 3.5}]
    columns = {name: [row[name] for row in rows] for name in ("x2", "x0", "x1")}
    expected = THREE.coerce(rows)
    same(feeds({"rows": rows}), expected)
    same(feeds({"columns": columns}), expected)
    assert feeds({"rows": rows[::-1]})["X"].dtype == np.float32


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.one_of(
    FLOATS, st.integers(-(1 << 65), 1 << 65), st.none(), st.text(max_size=3),
    st.sampled_from([1 << 24, (1 << 24) + 1, 1 << 53, (1 << 53) + 1, 3e38, 4e38, [], {}]),
)  # fmt: skip
WIDTHS = [
    THREE,
    numbers(3),
    numbers(3, dtype="float64"),
    numbers(3, dtype="float16", nullable=True),
    numbers(3, dtype="int64"),
]


@settings(max_examples=examples(300))
@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=4), st.sampled_from(WIDTHS))
def test_the_shortcut_of_records_accepts_what_coerce_accepts(values, signature):
    rows = [dict(zip(("x0", "x2", "x1"), row, strict=True)) for row in values]
    try:
        got = feeds({"rows": rows}, signature)
    except (Refused, SignatureError):
        got = None
    try:
        expected = signature.coerce(json.loads(json.dumps(rows)))
    except SignatureError:
        expected = None
    assert (got is None) is (expected is None)
    if got is not None:
        same(got, expected)


def test_one_row_of_every_kind():
    got = feeds({"rows": [ROW]}, KINDS)
    assert np.isnan(got["rooms"][0, 0])
    assert got["lift"][0, 0] == 1.0
    assert got["any"][0, 0] == "3"
    assert got["seen"][0, 0] == np.datetime64("2026-01-31T12:30:00.500")
    assert got["due"][0, 0] == np.datetime64("2026-01-31T11:30:00", "ns")
    assert got["took"][0, 0] == np.timedelta64(1, "us")
    as_columns = {name: [value] for name, value in ROW.items()}
    same(feeds({"columns": as_columns}, KINDS), got)
    same(feeds({"rows": [ROW | {"id": "not read"}]}, KINDS), got)
    gone = feeds({"rows": [ROW | {"seen": None, "took": None, "any": None}]}, KINDS)
    assert np.isnat(gone["seen"]).all()
    assert np.isnat(gone["took"]).all()


@settings(max_examples=examples(50))
@given(st.datetimes(), st.integers(0, 999_999_999), st.integers(-12 * 60, 14 * 60))
def test_points_in_time_are_read_to_the_nanosecond(moment, nanoseconds, offset):
    if not 1700 < moment.year < 2200:
        moment = moment.replace(year=2000, day=1)
    local = f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}"
    sign = "-" if offset < 0 else "+"
    text = f"{local}{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    got = feeds({"rows": [ROW | {"due": text}]}, KINDS)["due"][0, 0]
    assert got == np.datetime64(local) - np.timedelta64(offset, "m")


@settings(max_examples=examples(50))
@given(st.integers(-(10**15), 10**15))
def test_spans_are_read_to_the_microsecond(microseconds):
    seconds = microseconds / 10**6
    got = feeds({"rows": [ROW | {"took": seconds}]}, KINDS)["took"][0, 0]
    assert got == np.timedelta64(microseconds, "us")


def test_inputs_without_columns_are_arrays_by_name():
    several = SIGNATURES["several tensors"]
    got = feeds(
        {"inputs": {"ids": [[1, 2], [3, 4]], "mask": [[True, False]] * 2, "words": ["a", ""]}},
        several,
    )
    np.testing.assert_array_equal(got["ids"], [[1, 2], [3, 4]])
    image = SIGNATURES["an image"]
    assert (
        feeds({"inputs": {"image": [[[0, 1, 2], [3, 4, 255]]]}}, image)["image"].dtype == np.uint8
    )
    assert feeds({"inputs": {"image": []}}, image)["image"].shape == (0, 2, 3)
    beside = SIGNATURES["columns beside a tensor"]
    got = feeds({"inputs": {"size": [1.5], "town": [None], "picture": [[1.0, 2, 0]]}}, beside)
    np.testing.assert_array_equal(got["picture"], [[1, 2, 0]])
    scalar = feeds({"inputs": {"rate": 0.5, "x": [[1.0]]}}, SIGNATURES["a scalar"])
    assert scalar["rate"] == np.float32(0.5)
    rows = {"state": [[[0.5] * 3] * 3] * 2}
    assert feeds({"inputs": rows}, SIGNATURES["a state"])["state"].shape == (2, 3, 3)
    with pytest.raises(Refused, match="3 rows"):
        read({"inputs": rows}, SIGNATURES["a state"], Limits(rows=2))


def test_inputs_with_columns_may_be_arrays_too():
    got = feeds({"inputs": {"X": [[1, 2.5, None], [3, 4, 5]]}})
    np.testing.assert_array_equal(got["X"], np.array([[1, 2.5, np.nan], [3, 4, 5]], np.float32))
    with pytest.raises(
        Refused, match="a boolean in row 0, where numbers are expected: send 1 or 0"
    ):
        read({"inputs": {"X": [[1, True, 2]]}})


def test_texts_may_stand_alone():
    """One that holds a word of JSON, true or false, was a failure of the server."""
    text = SIGNATURES["text"]
    for rows in (["a", "it is true"], [{"note": "a"}, {"note": "it is true"}]):
        assert feeds({"rows": rows}, text)["note"][:, 0].tolist() == ["a", "it is true"]


def test_no_rows():
    for signature in (THREE, KINDS, SIGNATURES["text"]):
        assert signature.count(feeds({"rows": []}, signature)) == 0


def test_options():
    options = {"outputs": ["y"], "timeout": 0.5, "key": "k", "priority": -1, "id": "7"}
    query = read({"columns": {"x0": [], "x1": [], "x2": []}, **options})
    assert query[1:] == (("y",), 0.5, -1, "k", "7", frozenset(), None)
    assert read({"rows": []}) == ([], ("y",), None, 0, None, None, frozenset(), None)


def test_others_have_a_turn_after_parsing():
    body = json.dumps({"rows": [{"x0": 1, "x1": 2, "x2": 3}]}).encode()
    steps = plain.read(body, {}, THREE, LIMITS)
    next(steps)
    with pytest.raises(StopIteration) as end:
        next(steps)
    np.testing.assert_array_equal(end.value.value.X, [[1, 2, 3]])


# What is refused.


@dataclass(frozen=True)
class Bad:
    """A request that is refused: with which status, and what the message says."""

    made: object
    match: str
    status: int = 400
    signature: mk.Signature = THREE


def changed(**change):
    return {"rows": [ROW, ROW | change]}


IMAGE = SIGNATURES["an image"]
BAD = {
    "no JSON": Bad(b"rows", "not JSON"),
    "empty": Bad(b"", "not JSON"),
    "a list": Bad([{"x0": 1}], "a list, and a JSON object is expected"),
    "NaN": Bad(b'{"rows": [{"x0": NaN}]}', "write null for a missing value"),
    "no form": Bad({}, r"one of \['rows', 'columns', 'inputs'\]"),
    "two forms": Bad({"rows": [], "columns": {}}, r"this has \['rows', 'columns'\]"),
    "rows of a model without": Bad({"rows": []}, r"takes \['inputs'", 400, IMAGE),
    "an unknown field": Bad({"rows": [], "deadline": 1}, 'no field "deadline"'),
    "rows are an object": Bad({"rows": {}}, "a list of records"),
    "a row is a list": Bad({"rows": [{}, [1]]}, "row 1 is a list"),
    "a row is a text": Bad({"rows": ["a"]}, 'row 0 is "a"'),
    "columns are a list": Bad({"columns": []}, "an object of lists by name"),
    "a column is an object": Bad({"columns": {"x0": {}}}, "'x0' is an object in columns"),
    "an unknown output": Bad({"rows": [], "outputs": ["z"]}, 'lacks an output "z"'),
    "no outputs": Bad({"rows": [], "outputs": []}, "a list of names"),
    "outputs are a text": Bad({"rows": [], "outputs": "y"}, "a list of names"),
    "an output is a number": Bad({"rows": [], "outputs": [1]}, "each a string"),
    "an output twice": Bad({"rows": [], "outputs": ["y", "y"]}, "stands twice"),
    "timeout 0": Bad({"rows": [], "timeout": 0}, "seconds above 0"),
    "priority 1": Bad({"rows": [], "priority": 1}, "0, or -1"),
    "key 1": Bad({"rows": [], "key": 1}, "key is 1"),
    "id null": Bad({"rows": [], "id": None}, "id is null"),
    "a key twice": Bad(b'{"rows": [{"x0": 1, "x0": 2, "x1": 1, "x2": 1}]}', "a key appears twice"),
    "rows twice": Bad(b'{"rows": [], "rows": []}', "a key appears twice"),
    "a key twice in columns": Bad(b'{"columns": {"x0": [1], "x0": [2]}}', "a key appears twice"),
    "an integer beyond 64 bits": Bad(
        {"rows": [{"x0": 1 << 64, "x1": 1, "x2": 1}]}, "beyond 64 bits; write a float"
    ),
    "a long integer": Bad(
        b'{"rows": [{"x0": %s, "x1": 1, "x2": 1}]}' % (b"1" * 300), "beyond 64 bits"
    ),
    "a negative integer beyond": Bad({"columns": {"x0": [-(1 << 63) - 1]}}, "beyond 64 bits"),
    "many columns": Bad({"columns": {str(j): [] for j in range(1100)}}, "1100 names are too many"),
    "many fields": Bad({"rows": [{str(j): 1 for j in range(1100)}]}, "1100 names are too many"),
    "too many rows": Bad({"rows": [{}] * 10_001}, "10001 rows", 413),
    "too long columns": Bad({"columns": {"x0": [1] * 10_001}}, "10001 rows", 413),
    "a time is no time": Bad(changed(seen="now"), "column 'seen': .*in row 1", 422, KINDS),
    "a time with a zone": Bad(changed(seen="2026-01-31T12:30:00Z"), "without a time", 422, KINDS),
    "a time without": Bad(changed(due="2026-01-31T12:30:00"), "with a time zone", 422, KINDS),
    "a time is a number": Bad(changed(due=3), "is not a time", 422, KINDS),
    "a span is a text": Bad(changed(took="3"), "is not a span of time", 422, KINDS),
    "a span is true": Bad(changed(took=True), "is not a span of time", 422, KINDS),
    "true among numbers": Bad(
        {"rows": [{"x0": 1, "x1": True, "x2": 1}]}, "'x1': true .* in row 0", 422
    ),
    "false in a column": Bad({"columns": {"x0": [1, False]}}, "'x0': false .* in row 1", 422),
    "true in an image": Bad(
        {"inputs": {"image": [[[1, True]]]}}, "'image': a boolean in row 0", 422, IMAGE
    ),
    "true where a size is": Bad(changed(size=True), "'size': true", 422, KINDS),
    "a long span": Bad(changed(took=1e30), "is not a span of time", 422, KINDS),
    "an endless span": Bad(changed(took=-1e308), "is not a span of time", 422, KINDS),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_refused_with_its_reason(name):
    bad = BAD[name]
    with pytest.raises(Refused, match=bad.match) as caught:
        read(bad.made, bad.signature)
    assert caught.value.status == bad.status


def test_the_problems_of_several_times_are_told_together():
    with pytest.raises(Refused) as caught:
        read(changed(seen="x", due="y"), KINDS)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("form", ["rows", "columns"])
def test_problems_are_told_in_the_order_of_the_columns(form):
    """And not in that of a set, which is another one in each process."""
    names = [f"x{i}" for i in range(30)]
    made = {"columns": {name: [True] for name in names[::-1]}}
    if form == "rows":
        made = {"rows": [dict.fromkeys(names[::-1], True)]}
    with pytest.raises(Refused) as caught:
        read(made, numbers(30))
    assert [problem.split("'")[1] for problem in caught.value.problems] == names


def test_what_the_signature_refuses_is_left_to_it():
    wrong = [
        ({"rows": [{"x0": 1, "x1": 2}]}, THREE),
        ({"rows": [{"x0": 1, "x1": 2, "x2": 3, "x3": 4}]}, THREE),
        ({"rows": [{"x0": "1", "x1": 2, "x2": 3}]}, THREE),
        ({"rows": [{"x0": 1, "x1": 2, "x2": 3}, {}]}, THREE),
        ({"columns": {"x0": [1], "x1": 3, "x2": [3]}}, THREE),
        ({"columns": {"x0": [1], "x1": [[1, 2]], "x2": [3]}}, THREE),
        ({"columns": {"x0": [1], "x1": [1, 2], "x2": [3]}}, THREE),
        (changed(floor=300), KINDS),
        (changed(floor=1.5), KINDS),
        (changed(town="Rome"), KINDS),
        (changed(any=[1]), KINDS),
        ({"inputs": {"image": [[[1, 2, 256], [1, 2, 3]]]}}, IMAGE),
        ({"inputs": {"image": [[[1, 2, 0.5], [1, 2, 3]]]}}, IMAGE),
        ({"inputs": {"image": [[[1, 2], [1, 2, 3]]]}}, IMAGE),
        ({"inputs": {"image": [1]}}, IMAGE),
        ({"inputs": {"image": 1}}, IMAGE),
        ({"inputs": {"picture": []}}, IMAGE),
    ]
    for made, signature in wrong:
        query = read(made, signature)
        with pytest.raises(SignatureError):
            signature.coerce(query.X)


def test_a_long_text_among_numbers_takes_no_memory():
    # As an array of numpy, each number would become as long a text.
    values = ["x" * 1_000_000, *[1] * 1_000_000]
    query = read({"inputs": {"image": values}}, IMAGE, Limits(rows=1 << 21))
    with pytest.raises(SignatureError):
        IMAGE.coerce(query.X)


# Answers.


def written(**answers):
    query = Query(None, tuple(answers))
    return json.loads(at_once(plain.write(query, answers, "m", "1.0")).body)


def test_answers_by_name():
    answer = written(
        label=np.array(["a", None], object),
        probabilities=np.array([[0.1, np.nan], [1, 0]], np.float32),
        n=np.array(3),
        many=np.array([2**64 - 1], np.uint64),
        none=np.empty((0, 4), np.float32),
        fortran=np.asfortranarray([[1, 2], [3, 4]]),
        times=np.array([["2026-01-31", "NaT"]], "M8[D]"),
        spans=np.array([1500, "NaT"], "m8[ms]"),
        truths=np.array([True, False]),
        halves=np.array([0.5], np.float16),
    )
    assert answer == {
        "model_name": "m",
        "model_version": "1.0",
        "outputs": {
            "label": ["a", None],
            "probabilities": [[0.1, None], [1.0, 0.0]],
            "n": 3,
            "many": [2**64 - 1],
            "none": [],
            "fortran": [[1, 2], [3, 4]],
            "times": [["2026-01-31", None]],
            "spans": [1.5, None],
            "truths": [True, False],
            "halves": [0.5],
        },
    }
    reply = at_once(plain.write(Query(None, (), id="7"), {}, "m", ""))
    assert json.loads(reply.body)["id"] == "7"
    assert list(reply.headers) == [(b"content-type", b"application/json")]


def test_an_infinity_cannot_be_answered():
    for values in (np.array([[np.inf]]), np.array(-np.inf), np.full(2 * LONG, np.inf, np.float32)):
        with pytest.raises(Refused, match="'y' holds an infinity") as caught:
            written(y=values)
        assert caught.value.status == 406


def test_a_long_answer_is_the_same_in_steps():
    rng = np.random.default_rng(0)
    for shape in ((LONG + 1,), (LONG // 8 + 1, 8), (3, LONG + 1), (2, 3, LONG)):
        values = rng.random(shape, np.float32)
        assert written(y=values)["outputs"]["y"] == json.loads(json.dumps(_shortest(values)))


def _shortest(values):
    flat = [float(str(item)) for item in values.reshape(-1)]
    return np.array(flat).reshape(values.shape).tolist()


def test_an_explanation_is_its_record(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 2))
    mk.save(
        LinearRegression().fit(X, X[:, 0]),
        tmp_path / "m.mk",
        example=X,
        name="m",
        version="1",
        background=X,
    )
    with mk.load(tmp_path / "m.mk") as model:
        explanation = mk.Explainer(model).explain(X[:2])
    reply = plain.write_explanation(Query(None, ()), explanation)
    assert reply.status == 200
    assert mk.Explanation.from_json(reply.body.decode()).method == explanation.method
    named = json.loads(plain.write_explanation(Query(None, (), id='a"b'), explanation).body)
    assert named.pop("id") == 'a"b'
    assert named == json.loads(reply.body)


def test_an_explanation_takes_no_names_of_outputs():
    model = model_of(KINDS)
    with Client(mk.App({"m": model})) as client:
        body = {"rows": [ROW], "outputs": [KINDS.output_names[0]]}
        answer = client.post("/models/m/explain", json=body)
    assert answer.status == 400
    assert "leave out 'outputs'" in answer.json()["error"]


# Any bytes at all.

ANY = st.recursive(
    st.one_of(VALUES, st.sampled_from(["a", "2026-01-31", 1.5])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from([*KINDS.json_schema()["items"]["properties"], "x0", "x1", "x2", "image", "X"]), ANY,
    max_size=5,
)  # fmt: skip
REQUESTS = st.one_of(
    st.fixed_dictionaries({"rows": st.lists(FIELDS | ANY, max_size=3)}),
    st.fixed_dictionaries({"columns": FIELDS | ANY}, optional={"outputs": ANY, "timeout": ANY}),
    st.fixed_dictionaries({"inputs": FIELDS | ANY}, optional={"key": ANY, "id": ANY}),
    ANY,
)
SIGNED = st.sampled_from(sorted(SIGNATURES))


def survives(body, name):
    signature = SIGNATURES[name]
    query = None
    try:
        query = read(body, signature)
    except Refused as error:
        refusal = error
    if query is None:
        assert refusal.status in (400, 413, 415, 422)
        return
    try:
        fed = signature.coerce(query.X)
    except SignatureError:
        return
    answers = model_of(signature)._run(fed, query.outputs, PLAIN)
    assert at_once(plain.write(query, answers, "m", "1")).status == 200


@settings(max_examples=examples(150))
@given(st.binary(max_size=60), SIGNED)
def test_any_bytes_are_refused_or_read(body, name):
    survives(body, name)


@settings(max_examples=examples(300))
@given(REQUESTS, SIGNED)
def test_any_request_is_refused_or_read(made, name):
    survives(json.dumps(made).encode(), name)


def test_small_bodies_of_many_records_and_columns_cost_what_they_hold():
    """Of 10,000 columns in 10,000 records nothing is there but a boolean: no cell is looked for."""
    wide = numbers(10_000)
    body = {"rows": [{}] * 9_999 + [{"x7": 1, "x5": True}], "id": "true"}
    with pytest.raises(Refused, match=r"'x5': true .* in row 9999"):
        read(body, wide)
    uneven = {"columns": {f"x{j}": [1.5] * (1 if j else 9_000) for j in range(10_000)}}
    X = read(uneven, wide).X
    tracemalloc.start()
    with pytest.raises(SignatureError, match=r"different lengths: \[1, 9000\]"):
        wide.coerce(X)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20  # a tensor of them would have 360 MB
    tracemalloc.stop()


ONES = {"x0": 1, "x1": 1, "x2": 1}


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ([{"x0": True}, {"x0": False, "x1": True}], ["'x0': true.*row 0", "'x1': true.*row 1"]),
        ([{"x1": [1, [False]]}], ["'x1': a boolean in row 0"]),
        ([{}, {"x1": [2]}, {"x1": [True]}], ["'x1': a boolean in row 2"]),
    ],
)
def test_every_column_with_a_boolean_is_named_once(changes, refused):
    with pytest.raises(Refused) as error:
        read({"rows": [ONES | change for change in changes]})
    assert len(error.value.problems) == len(refused)
    for problem, pattern in zip(error.value.problems, refused, strict=True):
        assert re.search(pattern, problem)


# A column that is called as its tensor, or as another one.

OUT = mk.TensorSpec("y", "float32", ("batch",))


@pytest.mark.parametrize("form", ["columns", "inputs"])
def test_no_rows_of_a_tensor_that_is_called_as_its_column(form):
    columns = (mk.Column("x"), mk.Column("z"))
    signature = mk.Signature((mk.TensorSpec("x", "float64", ("batch", 2), columns),), (OUT,))
    body = json.dumps({form: {"x": [], "z": []}}).encode()
    assert signature.coerce(read(body, signature).X)["x"].shape == (0, 2)


@pytest.mark.parametrize("dtype", ["timedelta64[s]", "datetime64[s]", "bool"])
def test_a_column_that_is_called_as_another_tensor(dtype):
    signature = mk.Signature(
        (
            mk.TensorSpec("x", dtype, ("batch", 1), (mk.Column("a", dtype),)),
            mk.TensorSpec("other", "uint64", ("batch", 1), (mk.Column("x", "uint64"),)),
        ),
        (OUT,),
    )
    told, value = {
        "t": (60, np.timedelta64(60, "s")),
        "d": ("2026-01-31T12:30:00", np.datetime64("2026-01-31T12:30:00")),
        "b": (True, True),
    }[dtype[0]]
    rows = [{"a": told, "x": 2**64 - 1}]
    for asked in ({"rows": rows}, {"columns": {"a": [told], "x": [2**64 - 1]}}):
        fed = signature.coerce(read(asked, signature).X)
        assert fed["other"].tolist() == [[2**64 - 1]]
        assert fed["x"][0, 0] == value
