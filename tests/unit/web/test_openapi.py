"""The OpenAPI document of an App is valid, and its examples are accepted, for every signature."""

import json

import openapi_spec_validator
import pytest
from helpers.web_models import SIGNATURES, model_of

from modelkit.model.call import PLAIN
from modelkit.web import openapi, plain, v2
from modelkit.web.query import Limits

LIMITS = Limits()
MODELS = {name: model_of(signature) for name, signature in SIGNATURES.items()}


@pytest.fixture(scope="module")
def document():
    made = openapi.document(MODELS | {"{odd}/name ü": MODELS["numbers"]})
    return json.loads(json.dumps(made))


def test_the_document_is_valid(document):
    openapi_spec_validator.validate(document)
    assert "/models/%7Bodd%7D%2Fname%20%C3%BC/predict" in document["paths"]


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
        query = codec.read(body, {}, model.signature, LIMITS)
        answers = model._call(query.X, query.outputs, PLAIN)
        reply = codec.write(query, answers, "m", "1")
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
