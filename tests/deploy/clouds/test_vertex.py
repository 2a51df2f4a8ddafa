"""`modelkit serve` as Vertex AI runs it, asked by the LocalEndpoint of Vertex AI's own SDK."""

import json
import os

import pytest
from helpers.programs import needs_library
from helpers.servers import free_port, modelkit_serve

import modelkit as mk

HEALTH = "/v1/endpoints/7/deployedModels/3"  # as Vertex AI names them, if the model names none
PREDICT = f"{HEALTH}:predict"
JSON = {"Content-Type": "application/json"}
pytestmark = [needs_library("google-cloud-aiplatform"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def endpoint(tumour_mk, tmp_path_factory):
    """A LocalEndpoint over a process, which has the variables of its container."""
    from google.cloud.aiplatform.prediction import LocalEndpoint

    folder = tmp_path_factory.mktemp("artifacts")
    os.link(tumour_mk, folder / "tumour.mk")
    endpoint = LocalEndpoint(
        "none",
        artifact_uri=str(folder),
        serving_container_predict_route=PREDICT,
        serving_container_health_route=HEALTH,
        host_port=str(free_port()),
    )
    environ = {
        "AIP_HTTP_PORT": endpoint.host_port,
        "AIP_HEALTH_ROUTE": endpoint.serving_container_health_route,
        "AIP_PREDICT_ROUTE": endpoint.serving_container_predict_route,
        "AIP_STORAGE_URI": endpoint.artifact_uri,
        "MODELKIT_DIGEST": mk.inspect(tumour_mk).digest,
        "HOST": "127.0.0.1",
        "PORT": "1",
    }
    with modelkit_serve("--drain", "0", environ=environ, port=None) as served:
        endpoint.container_is_running = True
        yield endpoint
        endpoint.container_is_running = False
        assert served.end() == 0


def test_health_and_predictions(endpoint, rows, expected):
    assert endpoint.run_health_check().status_code == 200
    check_predictions(endpoint, rows, expected)


def check_predictions(endpoint, rows, expected):
    predictions = [
        {"label": label, "probabilities": probabilities}
        for label, probabilities in zip(*expected.values(), strict=True)
    ]
    body = json.dumps({"instances": rows.tolist()})
    answer = endpoint.predict(request=body, headers=JSON)
    assert (answer.status_code, answer.json()) == (200, {"predictions": predictions})


def test_requests_of_a_file_and_with_parameters(endpoint, rows, expected, tmp_path):
    asked = {"instances": rows.tolist(), "parameters": {"outputs": ["label"]}}
    (tmp_path / "request.json").write_text(json.dumps(asked))
    answer = endpoint.predict(request_file=str(tmp_path / "request.json"), headers=JSON)
    assert answer.json() == {"predictions": expected["label"]}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ('{"instances": [[1, 2]]}', JSON, 400),
        ('{"instances": [["a", 2, 3]]}', JSON, 422),
        ('{"instances": []}', {}, 415),
    ],
)
def test_what_is_wrong_has_a_status_and_words(endpoint, body, headers, status):
    answer = endpoint.predict(request=body, headers=headers)
    assert (answer.status_code, "error" in answer.json()) == (status, True)
