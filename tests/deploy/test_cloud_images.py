"""The image of a package in the hands of a cloud: its variables and mounts, and what it asks."""

import json

import pytest
from helpers.apps import ask
from helpers.images import needs_root
from helpers.programs import until
from helpers.servers import free_port

import modelkit as mk

pytestmark = needs_root("podman", "buildah", "runc", "mmdebstrap")
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def other_mk(tumour_mk, tmp_path_factory):
    """A folder with another package than the image has, as SageMaker unpacks model.tar.gz."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "tumour.mk").write_bytes(tumour_mk.read_bytes())
    mk.attach(folder / "tumour.mk", metadata={"from": "model.tar.gz"})
    folder.chmod(0o755)
    return folder


def is_up(port, path):
    try:
        return ask(port, "GET", path)[0] == 200
    except OSError:
        return False


def test_sagemaker_runs_it_as_root_over_a_model_of_its_own(podman, image, other_mk, rows):
    port = free_port()
    digest = mk.inspect(other_mk / "tumour.mk").digest
    settings = {
        "SAGEMAKER_BIND_TO_PORT": port,
        "MODELKIT_PACKAGE": "/opt/ml/model",
        "MODELKIT_DIGEST": digest,
        "HOST": "127.0.0.1",
    }
    options = [f"--env={name}={value}" for name, value in settings.items()]
    options += ["--user=0", f"--volume={other_mk}:/opt/ml/model:ro"]
    with podman.run(*options, image, "serve") as name:
        until(lambda: is_up(port, "/ping"), "the container answers")
        body = rows[:2].to_csv(header=False, index=False)
        status, headers, text = ask(
            port, "POST", "/invocations", body, {"content-type": "text/csv"}
        )
        assert (status, headers["content-type"]) == (200, "text/csv")
        assert len(text.splitlines()) == 2
        assert "tumour 1.0.0" in podman.logs(name)


def test_sagemaker_gets_no_answer_of_another_model(podman, image, other_mk):
    options = ("--env=MODELKIT_PACKAGE=/opt/ml/model", f"--volume={other_mk}:/opt/ml/model:ro")
    with podman.run(*options, image, "serve") as name:
        until(lambda: podman.state(name)["Status"] == "exited", "the container ends", 60)
        assert podman.state(name)["ExitCode"] == 1
        assert "was asked for" in podman.logs(name)


def test_vertex_runs_it_with_routes_of_its_own(podman, image, tumour_mk, rows):
    port = free_port()
    settings = {
        "AIP_HTTP_PORT": port,
        "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/3",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/3:predict",
        "AIP_STORAGE_URI": "gs://bucket/of/vertex",
        "HOST": "127.0.0.1",
    }
    options = [f"--env={name}={value}" for name, value in settings.items()]
    with podman.run(*options, image):
        until(lambda: is_up(port, settings["AIP_HEALTH_ROUTE"]), "the container answers")
        body = {"instances": rows[:2].values.tolist(), "parameters": {"outputs": ["label"]}}
        path = settings["AIP_PREDICT_ROUTE"]
        status, _, text = ask(port, "POST", path, json.dumps(body).encode(), JSON)
        with mk.load(tumour_mk) as model:
            expected = model.predict(rows[:2]).tolist()
        assert (status, json.loads(text)) == (200, {"predictions": expected})
