"""The pod of `modelkit export kubernetes`, played by podman with the image of `modelkit export docker`."""

import base64
import hashlib
import json
import re
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from helpers.apps import ask
from helpers.images import needs_root, write
from helpers.programs import until
from helpers.servers import free_port

import modelkit as mk
from modelkit.integrations.deploy import exported

pytestmark = [
    needs_root("podman", "buildah", "runc", "mmdebstrap", "catatonit", "kubectl"),
    pytest.mark.timeout(400),
]
V2 = {"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [17.9, 10.4]}]}
# podman asks by curl, which no slim image has: the tests ask in its place.
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
OTHER = "0" * 64
ABOUT = """
import os
status = dict(line.split(":\t", 1) for line in open("/proc/1/status"))
print(os.getuid(), os.getgid(), int(status["CapEff"], 16), int(status["NoNewPrivs"]))
print(bool(os.statvfs("/").f_flag & os.ST_RDONLY), os.access("/tmp", os.W_OK))
"""


@dataclass
class Pod:
    """A pod under way: the name of its container, its port, and what the Deployment says of it."""

    name: str
    port: int
    container: dict[str, Any]

    def get(self, path):
        return ask(self.port, "GET", path)

    def infer(self, **headers):
        headers["content-type"] = "application/json"
        body = json.dumps(V2).encode()
        return ask(self.port, "POST", "/v2/models/tumour/infer", body, headers)[0]

    def is_ready(self):
        try:
            return self.get("/v2/health/ready")[0] == 200
        except OSError:
            return False

    def metric(self, name):
        """The labels and the value of a metric with one sample."""
        ((labels, value),) = re.findall(
            rf"^{name}{{(.*)}} (\S+)$", self.get("/metrics")[2].decode(), re.MULTILINE
        )
        return labels, float(value)


@pytest.fixture
def play(podman, image, tumour_mk, tmp_path):
    """Plays a pod on loopback, whose names are those of no other run."""

    @contextmanager
    def playing(*, secret=None, **environ):
        write(tmp_path / "base", exported("kubernetes", tumour_mk, image))
        deployment = yaml.safe_load((tmp_path / "base" / "deployment.yaml").read_text())
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        port = free_port()
        prefix = f"test-{uuid.uuid4().hex[:8]}-"
        changes = patch({"HOST": "127.0.0.1", "PORT": str(port), **environ})
        overlay = {
            "resources": ["base", *(["secret.yaml"] if secret else [])],
            "components": ["base/tokens"] if secret else [],
            "namePrefix": prefix,
            "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps(changes)}],
        }
        (tmp_path / "secret.yaml").write_text(yaml.safe_dump(secret))
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        file = tmp_path / "all.yaml"
        command = ["kubectl", "kustomize", tmp_path, "--output", file]
        subprocess.run(command, check=True, timeout=280)
        try:
            podman("kube", "play", "--network", "host", file)
            yield Pod(f"{prefix}tumour-pod-model", port, container)
        finally:
            podman("kube", "down", "--force", file)
            podman("volume", "rm", "--force", f"{prefix}tumour-tokens")  # which that leaves behind

    return playing


def patch(environ):
    """The changes of a container that let it run here: other variables, a short drain, and no probes."""
    container = "/spec/template/spec/containers/0"
    added = [{"name": name, "value": value} for name, value in environ.items()]
    return [
        *({"op": "remove", "path": f"{container}/{probe}"} for probe in PROBES),
        *({"op": "add", "path": f"{container}/env/-", "value": value} for value in added),
        {"op": "replace", "path": f"{container}/args/2", "value": "3"},
    ]


def test_a_pod_answers_its_probes_and_may_do_nothing_else(play, podman, tumour_mk):
    with play() as pod:
        until(pod.is_ready, "a pod")
        for probe in PROBES:
            assert pod.get(pod.container[probe]["httpGet"]["path"])[0] == 200
        assert pod.infer() == 200
        info, _ = pod.metric("modelkit_model_info")
        assert f'digest="{mk.inspect(tumour_mk).digest}"' in info
        assert 'threads="1"' in info  # as many as the limit has CPUs
        about = podman("exec", pod.name, "/venv/bin/python", "-c", ABOUT)
        assert about.split() == ["65532", "65532", "0", "1", "True", "True"]


def test_a_pod_that_ends_answers_on_and_is_not_ready(play, podman):
    with play() as pod:
        until(pod.is_ready, "a pod")
        command = ["podman", "stop", pod.name]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=podman.environ) as stopping:
            until(lambda: pod.get("/v2/health/ready")[0] == 503, "a drain")
            assert pod.infer() == 200
        assert stopping.returncode == 0
        assert podman.state(pod.name)["ExitCode"] == 0


def test_a_pod_refuses_another_package(play, podman):
    def log():
        command = ["podman", "logs", pod.name]
        return subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=280, env=podman.environ,
        ).stdout  # fmt: skip

    with play(MODELKIT_DIGEST=OTHER) as pod:
        until(lambda: f"not the {OTHER} that was asked for" in log(), "a refusal")
        assert not pod.is_ready()


def test_several_processes_share_their_counts_in_memory(play):
    with play(WEB_CONCURRENCY="2") as pod:
        until(pod.is_ready, "a pod")
        for _ in range(5):
            assert pod.infer() == 200
        assert pod.metric("modelkit_rows_total")[1] == 5


def test_those_may_ask_whose_token_is_in_the_secret(play):
    line = f"billing {hashlib.sha256(b'a long random secret').hexdigest()}\n"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "tumour-tokens"},
        "data": {"tokens": base64.b64encode(line.encode()).decode()},
    }
    with play(secret=secret) as pod:
        until(pod.is_ready, "a pod")
        assert pod.infer() == 401
        assert pod.infer(authorization="Bearer a long random secret") == 200
