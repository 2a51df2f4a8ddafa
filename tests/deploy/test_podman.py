"""The image of a package, as Podman runs it: who it runs as, what it answers, and how it ends."""

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.images import needs_root, settled
from helpers.programs import until

import modelkit as mk

# The first run makes the base image.
pytestmark = [needs_root("podman", "buildah", "runc", "mmdebstrap"), pytest.mark.timeout(400)]
# No file of the image can be written, no capability is left, and no shell can be started.
LOCKED = (
    *("--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL"),
    *("--security-opt=no-new-privileges", "--memory=1g", "--volume=/dev/null:/usr/bin/dash:ro"),
)
ABOUT = """
import json, os
from pathlib import Path
status = dict(line.split(":", 1) for line in Path("/proc/1/status").read_text().splitlines())
try:
    Path("/srv/model/new").touch()
    writes = True
except OSError:
    writes = False
print(json.dumps([os.getuid(), os.getgid(), int(status["CapEff"], 16), writes]))
"""


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def settings(port):
    return (f"--env=PORT={port}", "--env=HOST=127.0.0.1")


def asked(port, path, body=None):
    """The status and the value of an answer; None where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=280)
    try:
        told = {"content-type": "application/json"}
        connection.request("POST" if body else "GET", path, json.dumps(body), told)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except ConnectionError:
        return None
    finally:
        connection.close()


@pytest.mark.parametrize("user", ["65532", "0"])
def test_it_answers_as_anybody_on_files_that_nobody_can_write(
    podman, image, port, user, tumour_mk, rows
):
    """SageMaker runs containers as root, and OpenShift as a number of its own; `USER` is for all others."""
    options = () if user == "65532" else (f"--user={user}",)
    with podman.run(*LOCKED, *settings(port), *options, image, "serve") as name:
        assert settled(lambda: asked(port, "/v2/health/ready"))[0] == 200
        about = json.loads(podman("exec", name, "/venv/bin/python", "-c", ABOUT))
        assert about == [int(user), int(user), 0, False]
        records = rows[:5].to_dict("records")
        status, answer = asked(port, "/models/tumour/predict", {"rows": records})
        with mk.load(tumour_mk) as model:
            expected = model.run(rows[:5])
        assert (status, answer["outputs"]["label"]) == (200, expected["label"].tolist())
        given = np.array(answer["outputs"]["probabilities"])
        np.testing.assert_allclose(given, expected["probabilities"], rtol=1e-6)
        podman("healthcheck", "run", name)
        assert podman.state(name)["Health"]["Status"] == "healthy"


def test_what_is_asked_when_it_is_stopped_is_answered(podman, image, port, rows):
    body = {"rows": rows[:1].to_dict("records")}
    with podman.run(*LOCKED, *settings(port), image) as name, ThreadPoolExecutor(4) as threads:
        settled(lambda: asked(port, "/v2/health/ready"))
        stopped = threads.submit(podman, "stop", "--time=45", name)
        answers = []
        while not stopped.done():
            path = "/v2/health/ready" if len(answers) % 2 else "/models/tumour/predict"
            answers.append((path, asked(port, path, None if len(answers) % 2 else body)))
        stopped.result()
        assert podman.state(name)["ExitCode"] == 0
    predicted = [answer for path, answer in answers if path.endswith("predict")]
    ready = [answer[0] for path, answer in answers if path.endswith("ready") and answer]
    first_refused = predicted.index(None) if None in predicted else len(predicted)
    assert {answer[0] for answer in predicted[:first_refused]} == {200}
    assert {*predicted[first_refused:]} <= {None}  # the port is closed, once for all
    assert 503 in ready


def test_a_registry_is_followed(podman, image, port, tumour_mk, tmp_path):
    """With `--registry` an image has no package, and these variables."""
    registry = mk.Registry(tmp_path / "registry")
    registry.register(tumour_mk)
    registry.set_alias("tumour", "champion", "1.0.0", expected=None, reason="first")
    place = (f"--volume={tmp_path}/registry:/registry:ro", "--env=MODELKIT_REGISTRY=/registry")
    variables = ("--env=MODELKIT_PACKAGE=tumour", *settings(port))
    with podman.run(*LOCKED, *place, *variables, image):
        status, answer = settled(lambda: asked(port, "/v2/models/tumour"))
        assert (status, answer["versions"]) == (200, ["1.0.0"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--env=MODELKIT_DIGEST=" + "0" * 64, "has digest"),
        ("--env=MODELKIT_PACKAGE=/srv/other.mk", "No such file"),
        ("--volume=/etc/shadow:/srv/model/tumour.mk:ro", "tumour.mk': Permission denied"),
        ("--env=WEB_CONCURRENCY=2", "No usable temporary directory"),
    ],
)
def test_what_cannot_be_served_ends_it(podman, image, port, options, said):
    with podman.run(*LOCKED, *settings(port), options, image) as name:
        until(lambda: podman.state(name)["Status"] == "exited", "the container ends", 60)
        assert podman.state(name)["ExitCode"] == 1
        assert said in podman.logs(name)


def test_too_little_memory_shows_in_its_state(podman, image, port):
    with podman.run("--memory=24m", "--memory-swap=24m", *settings(port), image) as name:
        until(lambda: podman.state(name)["Status"] == "exited", "the container ends", 60)
        assert (podman.state(name)["OOMKilled"], podman.state(name)["ExitCode"]) == (True, 137)


def test_a_port_that_is_taken_ends_it(podman, image):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with podman.run(*settings(port), image) as name:
            until(lambda: podman.state(name)["Status"] == "exited", "the container ends", 60)
            assert podman.state(name)["ExitCode"] == 1
            assert f"cannot listen on 127.0.0.1, port {port}" in podman.logs(name)


def test_doctor_shows_what_is_in_the_image(podman, image):
    lines = podman("run", "--rm", *LOCKED, image, "doctor", "/srv/model/tumour.mk")
    assert "golden rows agree" in lines
    assert "no problems found" in podman("run", "--rm", *LOCKED, image, "doctor")


def test_labels_say_which_package_it_is(podman, image, tumour_mk):
    labels = json.loads(podman("inspect", image))[0]["Labels"]
    assert labels["dev.modelkit.digest"] == f"sha256:{mk.inspect(tumour_mk).digest}"
    assert labels["org.opencontainers.image.version"] == "1.0.0"
