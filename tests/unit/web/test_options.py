"""What an App and a request may be given: limits, options, types of content, letters."""

import json
from math import inf, nan

import pytest
from helpers.apps import INFER, PREDICT, ROW, summed, tensor
from helpers.client import Client
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import modelkit as mk
from modelkit.integrations.prometheus import Collector
from modelkit.types import Limits

BODY = json.dumps(tensor()).encode()


@pytest.fixture
def client():
    with Client(mk.App({"sum": summed()}, limits=Limits(body=1000))) as client:
        yield client


@pytest.mark.parametrize("path", [PREDICT, "/models/sum/instances", "/models/sum/outcome"])
def test_content_without_a_type_is_refused(path, client):
    """A page of any site could have a browser send it, without being asked for leave."""
    answer = client.post(path, body=json.dumps(ROW).encode())
    assert answer.status == 415
    assert "lacks a Content-Type" in answer.json()["error"]


def test_clients_of_v2_may_leave_the_type_out_and_pages_may_not(client):
    assert client.post(INFER, body=BODY).status == 200
    for name in ("origin", "sec-fetch-site"):
        assert client.post(INFER, body=BODY, headers={name: "null"}).status == 415


@pytest.mark.parametrize("path", [PREDICT, INFER])
@pytest.mark.parametrize(
    ("content", "status"),
    [
        ("text/plain", 415),
        ("text/csv", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=latin-1", 415),
        ("application/json; charset=UTF-8", 200),
        ("application/problem+json", 200),
        ('application/json;charset="utf-8"', 200),
    ],
)
def test_content_is_json_in_utf_8(path, content, status, client):
    body = BODY if path == INFER else json.dumps(ROW).encode()
    answer = client.post(path, body=body, headers={"content-type": content})
    assert answer.status == status
    if status == 415:
        assert "send JSON in UTF-8" in answer.json()["error"]


@pytest.mark.parametrize("form", ["rows", "columns", "instances"])
def test_a_text_has_so_many_letters(form, tmp_path):
    vectorizer = CountVectorizer(analyzer="char")
    texts = ["one", "two"] * 10
    model = make_pipeline(vectorizer, LogisticRegression()).fit(texts, [0, 1] * 10)
    mk.save(model, tmp_path / "t.mk", example=texts, name="t", version="1")
    verb = "instances" if form == "instances" else "predict"
    column = mk.inspect(tmp_path / "t.mk").signature.inputs[0].name
    with Client(mk.App({"t": str(tmp_path / "t.mk")}, limits=Limits(letters=100))) as client:
        for letters, status in ((100, 200), (101, 413)):
            values = ["a" * letters, "b"]
            asked = {form: {column: values} if form == "columns" else values}
            answer = client.post(f"/models/t/{verb}", json=asked)
            assert answer.status == status, answer.body
    assert "a text of 101 letters" in answer.json()["error"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": nan}, {"body": 0}, {"seconds": inf}, {"seconds": 0}, {"seconds": "1"}, {"requests": 0},
        {"requests": True}, {"rows": -1}, {"body": "8"}, {"body": 1e6},
    ],
)  # fmt: skip
def test_limits_that_limit_nothing_are_refused(wrong):
    """With nan no request was ever late, and with 0 requests none was answered."""
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"Limits\.{name} is a"):
        Limits(**wrong)


@pytest.mark.parametrize("models", [summed(), "model.mk", ["model.mk"]])
def test_models_without_names_are_told_so(models):
    with pytest.raises(TypeError, match=r"App\(\{name: model\}\)"):
        mk.App(models)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auth": "token"}, r"mk.bearer_tokens\(...\); got str"),
        ({"auth": {"billing": "0" * 64}}, r"mk.bearer_tokens\(...\); got dict"),
        ({"metrics": True}, r"Collector\(model\).text; got bool"),
        ({"metrics": Collector(summed())}, r"Collector\(model\).text; got Collector"),
        ({"limits": {"body": 1000}}, r"modelkit.types.Limits; got dict"),
    ],
)
def test_options_of_another_kind_are_found_before_the_first_request(options, message):
    with pytest.raises(TypeError, match=message):
        mk.App({"sum": summed()}, **options)
