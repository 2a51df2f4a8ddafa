"""What a newcomer met who served models: mistakes that are told early, and errors that say what to do."""

import json

import numpy as np
import pytest
from helpers.servers import modelkit_serve
from helpers.web_models import SIGNATURES, model_of
from jsonschema import Draft202012Validator

import modelkit as mk
from modelkit.testing import Client
from modelkit.types import Limits

BOTH = mk.Signature(
    (mk.TensorSpec("X", "float64", ("batch", 2), (mk.Column("a"), mk.Column("b"))),),
    (mk.TensorSpec("sum", "float64", ("batch",)),),
)
PIXELS = mk.Signature(
    (mk.TensorSpec("pixels", "float64", ("batch", 3)),),
    (mk.TensorSpec("sum", "float64", ("batch",)),),
)


def summed(signature=BOTH):
    (spec,) = signature.inputs
    return mk.FunctionModel(lambda feeds: {"sum": feeds[spec.name].sum(axis=1)}, signature)


@pytest.fixture(scope="module")
def client():
    with Client(mk.App({"sum": summed(), "pixels": summed(PIXELS)})) as client:
        yield client


def ask(client, path, **asked):
    answer = client.post(path, **asked)
    return answer.status, answer.json()


# What an App is made of.


@pytest.mark.parametrize("models", [summed(), "model.mk", ["model.mk"]])
def test_models_without_names_are_told_so(models):
    with pytest.raises(TypeError, match=r"App\(\{name: model\}\)"):
        mk.App(models)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auth": "token"}, r"mk.tokens\(...\); got a str"),
        ({"auth": {"billing": "0" * 64}}, r"mk.tokens\(...\); got a dict"),
        ({"metrics": True}, r"mk.Collector\(model\).text; got a bool"),
        ({"metrics": mk.Collector(summed())}, r"mk.Collector\(model\).text; got a Collector"),
        ({"limits": {"body": 1000}}, r"modelkit.types.Limits; got a dict"),
    ],
)
def test_options_of_another_kind_are_found_before_the_first_request(options, message):
    with pytest.raises(TypeError, match=message):
        mk.App({"sum": summed()}, **options)


@pytest.mark.parametrize("limit", [{"body": 0}, {"rows": -1}, {"requests": 0}, {"seconds": 0}])
def test_a_limit_that_refuses_everything_is_none(limit):
    with pytest.raises(ValueError, match=rf"Limits\.{next(iter(limit))} is a"):
        Limits(**limit)


@pytest.mark.parametrize("wrapper", [mk.Batcher, mk.Monitor, mk.Meter])
def test_a_path_is_no_model(wrapper):
    with pytest.raises(TypeError, match=f"a {wrapper.__name__} takes a Model, not a str; mk.load"):
        wrapper("model.mk")


def test_a_meter_inside_a_batcher_is_called_a_meter():
    metered = mk.Meter(mk.FunctionModel(lambda feeds: {}, BOTH, batchable=True))
    with pytest.raises(mk.errors.BatchError, match="a Monitor or Meter inside a Batcher"):
        mk.Batcher(metered)


# Requests as colleagues send them.


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/models/sum/predict", {"a": 1, "b": 2}, 400, '"a" belongs to a row, and rows come as {"rows"'),
        ("/models/pixels/predict", {"pixels": [[1, 2, 3]]}, 400, 'rows come as {"inputs"'),
        ("/models/sum/predict", [{"a": 1, "b": 2}], 400, "openapi.json has examples"),
        ("/models/sum/predict", {"instances": [[1, 2]]}, 400, "POST /models/{model}/instances"),
        ("/models/sum/predict", {"rows": [[1, 2]]}, 400, "POST /models/{model}/instances"),
        ("/models/sum/predict", {"data": []}, 400, 'has no field "data"; there are'),
        ("/models/sum/predict/", {}, 404, "is it '/models/sum/predict'?"),
        ("/metrics", {}, 404, "'/metrics'; GET /openapi.json names"),
        ("/predict", {}, 404, "GET /openapi.json names those there are"),
    ],
)  # fmt: skip
def test_what_is_right_elsewhere_is_said_to_be(client, path, body, status, message):
    told, answer = ask(client, path, json=body)
    assert told == status
    assert message in answer["error"]


def test_the_type_of_a_form_is_named_as_it_was_sent(client):
    form = {"content-type": "application/x-www-form-urlencoded"}
    status, answer = ask(client, "/models/sum/predict", headers=form, body=b"a=1")
    assert status == 415
    assert "the content is 'application/x-www-form-urlencoded'; send JSON" in answer["error"]


def test_uneven_rows_of_a_tensor_are_named(client):
    asked = {"inputs": {"pixels": [[1, 2, 3], [1, 2, 3], [4]]}}
    status, answer = ask(client, "/models/pixels/predict", json=asked)
    assert status == 422
    assert answer["problems"] == [
        "'pixels': row 2 has 1 values, and row 0 has 3; all rows of a tensor are of one size"
    ]


def test_problems_of_uneven_records_are_sentences(client):
    asked = {"rows": [{"a": 1, "b": 2}, {"a": 1}]}
    status, answer = ask(client, "/models/sum/predict", json=asked)
    assert status == 422
    assert answer["problems"] == ["the field 'b' is not in every record"]


def test_a_wide_model_does_not_name_all_of_its_columns():
    columns = tuple(mk.Column(f"x{at}") for at in range(500))
    wide = mk.TensorSpec("X", "float64", ("batch", 500), columns)
    signature = mk.Signature((wide,), BOTH.outputs)
    with pytest.raises(mk.errors.SignatureError, match=r"\(1, 3\) \(columns x0, .*, x19, \.\.\.\)"):
        signature.coerce(np.zeros((1, 3)))


# What an App says of itself.


def test_the_page_shows_a_request_that_is_answered(client):
    page = client.get("/").body.decode()
    assert "openapi.json describes what" in page
    line = next(part for part in page.split("<pre") if "POST models/sum/predict" in part)
    body = line.partition("\n")[2].partition("</pre>")[0].replace("&quot;", '"')
    assert ask(client, "/models/sum/predict", json=json.loads(body))[0] == 200


@pytest.mark.parametrize("name", SIGNATURES)
def test_examples_of_instances_are_answered_as_described(name):
    model = model_of(SIGNATURES[name])
    with Client(mk.App({"m": model})) as client:
        operation = client.get("/openapi.json").json()["paths"]["/models/m/instances"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        Draft202012Validator.check_schema(content["schema"])
        if "example" in content:
            Draft202012Validator(content["schema"]).validate(content["example"])
            status, answer = ask(client, "/models/m/instances", json=content["example"])
            assert status == 200, answer


def test_operations_have_the_names_of_models():
    models = {"sum": summed(), "the-other": summed()}
    with Client(mk.App(models)) as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert paths["/models/the-other/predict"]["post"]["operationId"] == "the_other_predict"
    with Client(mk.App({"a-b": summed(), "a.b": summed()})) as client:
        paths = client.get("/openapi.json").json()["paths"]
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len({*names}) == len(names)


def test_a_document_knows_where_it_is_mounted():
    flask = pytest.importorskip("flask")
    fastapi = pytest.importorskip("fastapi")
    app = mk.App({"sum": summed()})
    site = flask.Flask("site")
    site.register_blueprint(app.blueprint(), url_prefix="/ml")
    assert site.test_client().get("/ml/openapi.json").json["servers"] == [{"url": "/ml"}]
    api = fastapi.FastAPI(lifespan=app.lifespan)
    api.mount("/ml", app)
    with Client(api) as client:
        assert client.get("/ml/openapi.json").json()["servers"] == [{"url": "/ml"}]
    with Client(mk.App({"sum": summed()})) as client:
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/"}]


# What `modelkit serve` says to whoever runs it.


def test_the_command_writes_warnings_to_the_standard_error(boosting_mk):
    with modelkit_serve(boosting_mk, "--drain", "0") as served:
        assert served.post("/models/breast-cancer/predict", {"rows": [{"a": 1}]})[0] == 422
        assert served.end() == 0
        told = served.process.stderr.read()
    assert "WARNING breast-cancer 1.0.0: rows refused" in told
    assert told.count("\n") == 1
