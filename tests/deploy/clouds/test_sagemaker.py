"""`modelkit serve` as SageMaker runs it, asked by the local mode of SageMaker's own SDK."""

import json
import tarfile

import numpy as np
import pytest
from helpers.programs import needs, needs_library
from helpers.servers import free_port, modelkit_serve

import modelkit as mk

pytestmark = [
    needs("docker"),  # whose host the SDK looks up
    needs_library("sagemaker-core"),
    pytest.mark.filterwarnings("ignore"),  # of the SDK, and of what it imports
]


@pytest.fixture(scope="module")
def served(tumour_mk, tmp_path_factory):
    """A server with what SageMaker sets, and with model.tar.gz unpacked where it unpacks it."""
    folder = tmp_path_factory.mktemp("sagemaker")
    with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
        archive.add(tumour_mk, "tumour.mk")
    with tarfile.open(folder / "model.tar.gz") as archive:
        archive.extractall(folder / "model", filter="data")
    environ = {
        "SAGEMAKER_BIND_TO_PORT": str(free_port()),
        "HOST": "127.0.0.1",
        "PORT": "1",
        "MODELKIT_PACKAGE": str(folder / "model"),
        "MODELKIT_DIGEST": mk.inspect(tumour_mk).digest,
    }
    with modelkit_serve("--drain", "0", environ=environ, port=None) as served:
        assert served.port == int(environ["SAGEMAKER_BIND_TO_PORT"])
        yield served
        assert served.end() == 0


@pytest.fixture(scope="module")
def ask(served):
    """What the runtime client of the SDK gets from its local endpoint."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
        from sagemaker.core.local.local_session import LocalSagemakerRuntimeClient

    client = LocalSagemakerRuntimeClient({"local": {"serving_port": served.port}})

    def ask(body, content_type, accept=None):
        answer = client.invoke_endpoint(body, "tumour", content_type, accept)
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"], answer["ContentType"]

    return ask


def test_ping_says_that_the_container_is_up(served):
    from sagemaker.core.local.entities import _wait_for_serving_container

    _wait_for_serving_container(served.port, timeout=280)
    status, _, body = served.ask("GET", "/ping")
    assert (status, body) == (200, b"")


@pytest.mark.parametrize("form", ["array", "lists", "text"])
def test_what_serializers_of_csv_send_is_answered(ask, rows, expected, form):
    from sagemaker.core.deserializers import CSVDeserializer
    from sagemaker.core.serializers import CSVSerializer

    sent = {"array": rows, "lists": rows.tolist(), "text": "\n".join(",".join(map(str, row)) for row in rows.tolist())}  # fmt: skip
    body = CSVSerializer().serialize(sent[form])
    (accept,) = CSVDeserializer().ACCEPT
    status, stream, kind = ask(body, CSVSerializer().CONTENT_TYPE, accept)
    assert (status, kind) == (200, "text/csv")
    lines = CSVDeserializer().deserialize(stream, kind)
    assert [line[0] for line in lines] == expected["label"]
    np.testing.assert_array_equal(
        [[float(each) for each in line[1:]] for line in lines], expected["probabilities"]
    )


def test_what_serializers_of_json_send_is_answered(ask, rows, expected):
    from sagemaker.core.deserializers import JSONDeserializer
    from sagemaker.core.serializers import JSONSerializer

    body = JSONSerializer().serialize({"instances": rows})
    (accept,) = JSONDeserializer().ACCEPT
    status, stream, kind = ask(body, JSONSerializer().CONTENT_TYPE, accept)
    assert (status, kind) == (200, "application/json")
    predictions = JSONDeserializer().deserialize(stream, kind)["predictions"]
    assert [each["label"] for each in predictions] == expected["label"]
    names = [f"x{column}" for column in range(rows.shape[1])]
    records = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    status, stream, kind = ask(JSONSerializer().serialize({"rows": records}), "application/json")
    assert JSONDeserializer().deserialize(stream, kind)["outputs"] == expected


def test_what_is_wrong_has_a_status_and_words(ask):
    for body, kind, accept, status in (
        ("1,2\n", "text/csv", None, 422),
        ("1,2,3\n", "text/csv", "application/x-npy", 406),
        (b"\x93NUMPY", "application/x-npy", None, 415),
        ("{}", "application/json", None, 400),
    ):
        found, stream, _ = ask(body, kind, accept)
        assert (found, "error" in json.loads(stream.read())) == (status, True)
