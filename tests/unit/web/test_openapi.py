"""The OpenAPI document of an App is valid, and its examples are accepted, for every signature."""

import json

import openapi_spec_validator
import pytest
from helpers.apps import summed
from helpers.client import Client
from helpers.encoders import tiny, tiny_reranker
from helpers.web_models import SIGNATURES, model_of
from jsonschema import Draft202012Validator

import modelkit as mk
from modelkit.model.call import PLAIN
from modelkit.web import openapi, plain, v2
from modelkit.web.query import Limits
from modelkit.web.request import at_once

LIMITS = Limits()
MODELS = {name: model_of(signature) for name, signature in SIGNATURES.items()}


@pytest.fixture(scope="module")
def document():
    made = openapi.document(MODELS | {"{odd}/<name> ü": MODELS["numbers"]})
    return json.loads(json.dumps(made))


def test_the_document_is_valid(document):
    openapi_spec_validator.validate(document)
    odd = document["paths"]["/models/%7Bodd%7D%2F%3Cname%3E%20%C3%BC/predict"]
    assert odd["post"]["summary"] == "Answers of {odd}/<name> ü"


@pytest.mark.parametrize("name", SIGNATURES)
def test_examples_are_accepted(name):
    model = MODELS[name]
    paths = openapi.document({"m": model})["paths"]
    for path, codec in (("/v2/models/m/infer", v2), ("/models/m/predict", plain)):
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        if name == "a large image":
            assert "example" not in content
            continue
        body = json.dumps(content["example"]).encode()
        query = at_once(codec.read(body, {}, model.signature, LIMITS))
        answers = model._call(query.X, query.outputs, PLAIN)
        reply = at_once(codec.write(query, answers, "m", "1"))
        assert json.loads(reply.body)["model_name"] == "m"
        _check(json.loads(body), content["schema"])
        answered = paths[path]["post"]["responses"]["200"]["content"]["application/json"]
        _check(json.loads(reply.body), answered["schema"])


def _check(value, schema):
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(value)


def test_every_refusal_is_documented(document):
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status[0] != "2" and "$ref" in response:
                    assert response["$ref"].endswith(f"/{status}")
    asked = document["paths"]["/models/numbers/predict"]["post"]["responses"]
    assert {"400", "401", "413", "415", "422", "429", "500", "503", "504"} < set(asked)
    shared = document["components"]["responses"]
    assert "Retry-After" in shared["429"]["headers"]
    assert shared["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Error")


def test_an_app_without_models_has_a_document():
    openapi_spec_validator.validate(openapi.document({}))


def ask(client, path, **asked):
    answer = client.post(path, **asked)
    return answer.status, answer.json()


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


def test_examples_of_texts_are_answered_as_described():
    with Client(mk.App({"tiny": tiny(), "ranks": tiny_reranker()})) as client:
        document = client.get("/openapi.json").json()
        openapi_spec_validator.validate(document)
        for path in ("/v1/embeddings", "/embed", "/rerank", "/v1/rerank", "/v2/rerank"):
            operation = document["paths"][path]["post"]
            content = operation["requestBody"]["content"]["application/json"]
            _check(content["example"], content["schema"])
            status, answer = ask(client, path, json=content["example"])
            assert status == 200, answer
            described = operation["responses"]["200"]["content"]["application/json"]
            _check(answer, described["schema"])
    with Client(mk.App({"sum": summed()})) as client:
        assert "/v1/models" not in client.get("/openapi.json").json()["paths"]


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
