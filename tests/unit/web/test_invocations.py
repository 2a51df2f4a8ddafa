"""What SageMaker asks: /ping, and /invocations with JSON or CSV in, and JSON or CSV out."""

import csv
import io
import json

import numpy as np
import pytest
from helpers.apps import summed
from helpers.client import Client
from helpers.examples import examples
from helpers.web_models import SIGNATURES, numbers
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit.signature.cast import MISSING
from modelkit.types import Limits
from modelkit.web import invocations, plain
from modelkit.web.examples import plain_example
from modelkit.web.layout import layout_of
from modelkit.web.query import Query
from modelkit.web.request import at_once

ASKED = "/invocations"
CSV = "text/csv"
JSON = "application/json"


def column(name, dtype, **more):
    return mk.TensorSpec(name, dtype, ("batch", 1), (mk.Column(name, dtype, **more),))


TOWNS = mk.Signature(
    (
        column("age", "float64", nullable=True),
        column("town", "string", nullable=True),
        column("member", "bool"),
    ),
    (
        mk.TensorSpec("town", "string", ("batch",)),
        mk.TensorSpec("numbers", "float32", ("batch", 2)),
    ),
)


def towns(feeds):
    numbers = np.hstack([feeds["age"], feeds["member"]]).astype(np.float32)
    town = [None if each == MISSING else each for each in feeds["town"][:, 0]]
    return {"town": np.array(town, object), "numbers": numbers}


@pytest.fixture(scope="module")
def client():
    app = mk.App({"towns": mk.FunctionModel(towns, TOWNS)}, limits=Limits(rows=1000))
    with Client(app) as client:
        yield client


def ask(client, body, kind=CSV, accept=None):
    headers = {name: value for name, value in (("content-type", kind), ("accept", accept)) if value}
    body = body if isinstance(body, bytes) else body.encode()
    answer = client.post(ASKED, body=body, headers=headers)
    return answer.status, answer.headers["content-type"], answer.body.decode()


def test_ping_is_an_empty_200_until_the_app_drains():
    app = mk.App({"sum": summed(), "other": summed()})
    with Client(app) as client:
        answer = client.get("/ping")
        assert (answer.status, answer.body) == (200, b"")
        app.drain()
        assert client.get("/ping").status == 503


def test_ping_is_open_and_invocations_is_not():
    with Client(mk.App({"sum": summed()}, auth=lambda headers: None)) as client:
        assert client.get("/ping").status == 200
        assert ask(client, "1,2")[0] == 401


GOOD = [
    ("36.5,Bern,true\n", "Bern,36.5,1.0\n"),
    ("36.5,Bern,true", "Bern,36.5,1.0\n"),
    ("36.5,Bern,1\r\n0.1,Chur,False\r\n", "Bern,36.5,1.0\nChur,0.1,0.0\n"),
    ('36,"Chur, GR",0', '"Chur, GR",36.0,0.0\n'),
    ('36,"Zü\nrich ""x""",0', '"Zü\nrich ""x""",36.0,0.0\n'),
    ("\ufeff36,Bern,1", "Bern,36.0,1.0\n"),  # as Excel writes it
    (",,1", ",nan,1.0\n"),
    ("36,Züri_Ost,1", "Züri_Ost,36.0,1.0\n"),
    ("nan,NA,1", "NA,nan,1.0\n"),
    ("inf,Bern,1\n-Infinity,Bern,1", "Bern,inf,1.0\nBern,-inf,1.0\n"),
    ("36, Bern ,1", " Bern ,36.0,1.0\n"),
    ("36,town,1\n", "town,36.0,1.0\n"),
    ("36,a\0b,1", "a\0b,36.0,1.0\n"),
]


@pytest.mark.parametrize(("body", "answer"), GOOD)
def test_lines_of_csv_are_rows_in_the_order_of_the_columns(client, body, answer):
    assert ask(client, body) == (200, CSV, answer)


BAD = [
    ("", 400, "the body is empty"),
    ("\ufeff", 400, "the body is empty"),
    ("age,town,member\n36,Bern,1", 400, "row 0 has the names of the columns"),
    ("town,member,age\n36,Bern,1", 400, "or say text/csv; header=present"),
    ("age\n", 422, "row 0 has 1 cells, and 3 are expected"),
    ("36,Bern", 422, "row 0 has 2 cells, and 3 are expected"),
    ("36,Bern,1\n36,Bern,1,\n", 422, "row 1 has 4 cells, and 3 are expected"),
    ("36,Bern,1\n\n", 422, "row 1 has 0 cells"),  # a row that was lost would move the others
    ("\r", 422, "row 0 has 0 cells"),
    ("," * 100_000, 422, "row 0 has 100001 cells"),
    ("old,Bern,1", 422, "row 0, column 'age': 'old' is not float64"),
    ("1_0,Bern,1", 422, "'1_0' is not float64"),
    ("1e999,Bern,1", 422, "'1e999' is not float64"),  # JSON refuses it, too
    ("x" * 100_000 + ",Bern,1", 422, "column 'age': '" + 79 * "x" + " is not float64"),
    ("36,Bern,yes", 422, "column 'member': 'yes' is not bool"),
    ("36,Bern,", 422, "member"),
    ('36,"Bern,1', 400, "not CSV in UTF-8: unexpected end of data"),
    ('36,"Be"rn,1', 400, "not CSV in UTF-8"),
    ('36,"' + "x" * 200_000 + '",1', 400, "field larger than field limit"),
    (b"36,B\xe9rn,1", 400, "not CSV in UTF-8: 'utf-8' codec"),
    ("36,Bern,1".encode("utf-16"), 400, "not CSV in UTF-8"),
    ("36,Bern,1\n" * 1001, 413, "1001 rows are more than the 1000"),
    ("36,Bern,1\n" * 300_000, 413, "larger than"),
    ('{"instances": []}', 422, "row 0 has 1 cells"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "words"), BAD)
def test_what_is_no_csv_of_the_model_is_refused(client, body, status, words):
    found, kind, text = ask(client, body)
    assert (found, kind) == (status, JSON)
    assert words in json.loads(text)["error"]
    assert len(text) < 1000


NAMED = "text/csv; header=present"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("age,town,member\n36,Bern,1\n", 200, "Bern,36.0,1.0\n"),
        ("\ufeffmember,age,town\r\n1,36,Bern\r\n0,,Chur", 200, "Bern,36.0,1.0\nChur,nan,0.0\n"),
        ("36,Bern,1\n", 400, "the header is to name the columns ['age', 'town', 'member']"),
        ("age,town\n36,Bern\n", 400, "the header is to name"),
        ("age,age,town,member\n36,36,Bern,1\n", 400, "the header is to name"),
        ("", 400, "the header is to name"),
        ("age,town,member\n", 400, "the body is empty"),
    ],
)
def test_a_header_that_is_announced_says_the_order(client, body, status, words):
    found, _, text = ask(client, body, NAMED)
    assert (found, words in text) == (status, True), text


ROW = '{"rows": [{"age": 36, "town": "Bern", "member": true}]}'
INSTANCE = '{"instances": [[36, "Bern", true]]}'
PREDICTION = '{"predictions":[{"town":"Bern","numbers":[36.0,1.0]}]}'
OUTPUTS = (
    '{"model_name":"towns","model_version":"","outputs":{"town":["Bern"],"numbers":[[36.0,1.0]]}}'
)
LINE = "Bern,36.0,1.0\n"
# The body, and the answers to it in JSON and as it came.
FORMS = [(ROW, JSON, OUTPUTS, OUTPUTS), (INSTANCE, JSON, PREDICTION, PREDICTION), ("36,Bern,1", CSV, PREDICTION, LINE)]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "in_json", "as_it_came"), FORMS)
def test_the_answer_has_the_form_that_accept_likes_best(client, body, kind, in_json, as_it_came):
    for accept in (None, "*/*", "application/x-image, */*;q=0.1"):
        assert ask(client, body, kind, accept)[1:] == (kind, as_it_came)
    for accept in (JSON, "text/html, Application/JSON; q=0.9, text/csv;q=0.5"):
        assert ask(client, body, kind, accept)[1:] == (JSON, in_json)
    for accept in (CSV, "text/csv;header=absent, */*"):
        assert ask(client, body, kind, accept)[1:] == (CSV, LINE)
    for accept in ("application/json;q=0.2, text/csv;q=0.3", "application/json; q=0, text/*"):
        assert ask(client, body, kind, accept)[1:] == (CSV, LINE)
    for accept in ("application/x-npy", "text/csv;q=0, application/json; q=0.000"):
        status, _, text = ask(client, body, kind, accept)
        assert (status, f"Accept is '{accept}'" in text) == (406, True)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/csv; charset=utf-8", 200), ('TEXT/CSV;charset="UTF-8"', 200), ("text/csv; header=absent", 200),
        ("text/csv; charset=latin-1", 415), ("text/plain", 415), ("application/x-recordio-protobuf", 415),
        ("application/jsonlines", 415), ("text/csv, application/json", 415), (None, 415),
        (JSON, 400), ("application/octet-stream", 400),
    ],
)  # fmt: skip
def test_content_of_another_type_is_refused(client, kind, status):
    found, _, text = ask(client, "36,Bern,1", kind)
    assert found == status, text


def test_other_paths_take_no_csv(client):
    answer = client.post("/models/towns/predict", body=b"36,Bern,1", headers={"content-type": CSV})
    assert answer.status == 415
    assert "text/csv" not in answer.json()["error"].partition("send")[2]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[1]", "the body is a list"),
        ('"36,Bern,1"', "a JSON object is expected"),
        ("", "not JSON"),
        ("{}", "and this has none"),
        ('{"instances": 1}', "instances are 1"),
        ('{"instances": [], "rows": []}', 'no field "rows"'),
        ('{"dataframe_split": {}}', 'no field "dataframe_split"'),
        ('{"instances": [{"age": 1, "age": 2, "town": "", "member": true}]}', "twice"),
    ],
)
def test_json_of_no_form_is_refused(client, body, words):
    status, _, text = ask(client, body, JSON)
    assert (status, words in json.loads(text)["error"]) == (400, True), text


def test_no_instances_have_no_predictions(client):
    body = '{"instances": []}'
    assert ask(client, body, JSON)[2] == '{"predictions":[]}'
    assert ask(client, body, JSON, CSV) == (200, CSV, "")


def test_options_are_those_of_the_form(client):
    body = '{"instances": [[36, "Bern", true]], "parameters": {"outputs": ["numbers"]}}'
    assert ask(client, body, JSON, CSV)[2] == "36.0,1.0\n"
    body = ROW[:-1] + ', "outputs": ["town"], "id": "7"}'
    assert json.loads(ask(client, body, JSON)[2])["id"] == "7"
    assert ask(client, body, JSON, CSV)[2] == "Bern\n"


def test_invocations_are_for_the_only_model():
    with Client(mk.App({"sum": summed(), "other": summed()})) as client:
        status, _, text = ask(client, "1,2")
        assert (status, "this one has 2 models" in text) == (404, True)
        assert ASKED not in client.get("/openapi.json").json()["paths"]
    handled = []
    stop = events.subscribe(handled.append, events.Handled)
    with Client(mk.App({"sum": summed()})) as client:
        assert ask(client, "1,2")[2] == "3.0\n"
        assert ASKED in client.get("/openapi.json").json()["paths"]
    stop()
    assert (handled[0].route, handled[0].model) == (ASKED, "sum")


def test_a_model_without_columns_takes_json_alone():
    signature = mk.Signature(
        (mk.TensorSpec("pixels", "float32", ("batch", 2)),),
        (mk.TensorSpec("sum", "float32", ("batch",)),),
    )
    model = mk.FunctionModel(lambda feeds: {"sum": feeds["pixels"].sum(axis=1)}, signature)
    with Client(mk.App({"m": model})) as client:
        status, _, text = ask(client, "1,2")
        assert (status, "not columns" in text) == (415, True)
        assert ask(client, '{"instances": [[1, 2]]}', JSON, CSV)[2] == "3.0\n"


@pytest.mark.parametrize("body", ["1,2", '{"rows": [{"a": 1.0, "b": 2.0}]}'])
def test_an_output_without_a_value_for_each_row_has_no_line(body):
    outputs = (mk.TensorSpec("y", "float64", ("batch",)), mk.TensorSpec("n", "float64", ()))
    model = mk.FunctionModel(
        lambda feeds: {"y": feeds["x"].sum(axis=1), "n": np.zeros(())},
        mk.Signature(summed().signature.inputs, outputs),
        batchable=False,
    )
    with Client(mk.App({"sum": model})) as client:
        status, _, text = ask(client, body, CSV if body == "1,2" else JSON, CSV)
    assert (status, "'n' does not have one value for each" in text) == (400, True)


def test_others_have_a_turn_while_csv_is_read_and_written():
    signature = summed().signature
    headers = {b"content-type": b"text/csv"}
    assert len([*invocations.read(b"1,2\n" * 9000, headers, signature, Limits())]) >= 4
    lines = (b"1," * 999 + b"1\n") * 40
    assert len([*invocations.read(lines, headers, numbers(1000), Limits())]) >= 10
    answers = {"y": np.zeros((1000, 100), np.float32)}
    assert len([*invocations.write(Query(None, ("y",)), answers, "m", "")]) >= 24


IN_COLUMNS = [name for name, signature in SIGNATURES.items() if layout_of(signature).has_columns]


@pytest.mark.parametrize("name", IN_COLUMNS)
def test_a_line_is_read_as_the_same_row_in_json(name):
    """Whatever a column holds: truths, whole numbers, categories, points in time, spans, texts."""
    signature = SIGNATURES[name]
    (record,) = plain_example(signature)["rows"]
    asked = {"rows": [record]}
    text = io.StringIO()
    csv.writer(text).writerow(record[column] for column in signature.column_names)
    headers = {b"content-type": b"text/csv"}
    query = at_once(invocations.read(text.getvalue().encode(), headers, signature, Limits()))
    other = at_once(plain.read(json.dumps(asked).encode(), {}, signature, Limits()))
    feeds, same = signature.coerce(query.X), signature.coerce(other.X)
    for spec in signature.inputs:
        np.testing.assert_array_equal(feeds[spec.name], same[spec.name])


values = st.floats(width=64) | st.none()
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@pytest.mark.property
@settings(max_examples=examples(200))
@given(st.lists(st.tuples(values, texts, st.booleans()), min_size=1, max_size=5))
def test_what_csv_writes_is_read_as_it_was(rows):
    """Every float to its last digit, and every text with its quotes, commas and ends of lines."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    headers = {b"content-type": b"text/csv; charset=utf-8"}
    query = at_once(invocations.read(text.getvalue().encode(), headers, TOWNS, Limits()))
    feeds = TOWNS.coerce(query.X)
    ages = [np.nan if age is None else age for age, _, _ in rows]
    np.testing.assert_array_equal(feeds["age"][:, 0], ages)
    assert [*feeds["town"][:, 0]] == [town for _, town, _ in rows]
    assert [*feeds["member"][:, 0]] == [member for _, _, member in rows]
    answers = {"age": feeds["age"], "town": feeds["town"]}
    written = at_once(invocations.write(Query(None, ("town", "age")), answers, "m", ""))
    lines = [*csv.reader(io.StringIO(written.body.decode(), newline=""), strict=True)]
    assert [line[0] for line in lines] == [town for _, town, _ in rows]
    np.testing.assert_array_equal([float(line[1]) for line in lines], ages)
