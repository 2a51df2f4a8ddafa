"""Docker itself: BuildKit, compose with a Prometheus that scrapes, and a Swarm that rolls back by itself."""

import json
import shutil

import pytest
import yaml
from helpers.images import OFFLINE, Docker, needs_root, settled

# The first run makes the base image.
pytestmark = [
    needs_root("dockerd", "docker", "docker-compose", "runc", "mmdebstrap", "prometheus"),
    pytest.mark.timeout(400),
]
PROMETHEUS = "prom/prometheus:v3.5.0"
# What a container asks another one, since this machine is not in their network.
ASK = (
    "import sys, urllib.request as ask; print(ask.urlopen(sys.argv[1], timeout=60).read().decode())"
)
# A client that asks every replica in turn; each answer that it does not get is a line.
CLIENT = """
import http.client, itertools, json, socket
body = json.dumps({"rows": [{"mean radius": 17.9, "mean texture": 10.4}]})
for turn in itertools.count():
    places = socket.getaddrinfo("tasks.model", 8080, type=socket.SOCK_STREAM)
    to = http.client.HTTPConnection(places[turn % len(places)][4][0], 8080, timeout=60)
    try:
        to.request("POST", "/models/tumour/predict", body, {"content-type": "application/json"})
        assert to.getresponse().status == 200
    except Exception as error:
        print("lost", repr(error), flush=True)
    if turn % 100 == 0:
        print("answered", turn, flush=True)
"""


@pytest.fixture(scope="module")
def docker(tmp_path_factory, base):
    """A daemon with the base image, and one of Debian's Prometheus."""
    # The path of its socket has to be short.
    with Docker(tmp_path_factory.mktemp("docker") / "d").running() as found:
        command = ["/bin/prometheus"]
        found.image(base, PROMETHEUS, shutil.which("prometheus"), entrypoint=command)
        yield found


@pytest.fixture(scope="module")
def project(docker, context, tmp_path_factory):
    """The exported folder, whose image compose has built; its Prometheus looks every second."""
    folder = tmp_path_factory.mktemp("compose") / "tumour"
    shutil.copytree(context, folder)
    scrapes = (folder / "prometheus.yml").read_text().replace("15s", "1s")
    (folder / "prometheus.yml").write_text(scrapes)
    docker("compose", "build", *OFFLINE, "model", cwd=folder)
    return folder


def test_compose_starts_a_model_and_a_prometheus_that_scrapes_it(docker, project):
    docker("compose", "up", "--wait", "model", "prometheus", cwd=project)

    def query(path):
        python = ("model", "/venv/bin/python", "-c", ASK)
        url = f"http://prometheus:9090/api/v1/{path}"
        return json.loads(docker("compose", "exec", *python, url, cwd=project))["data"]

    found = settled(lambda: query('query?query=modelkit_model_info{job="tumour"}')["result"])
    assert found[0]["metric"]["version"] == "1.0.0"
    rules = [rule for group in query("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 20
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    (container,) = docker("compose", "ps", "--quiet", "model", cwd=project).split()
    about = docker.inspected(container)
    assert about["State"]["Health"]["Status"] == "healthy"
    assert (about["Config"]["User"], about["HostConfig"]["ReadonlyRootfs"]) == ("65532:65532", True)
    docker("compose", "stop", "model", cwd=project)
    assert docker.inspected(container)["State"]["ExitCode"] == 0
    docker("compose", "down", cwd=project)


def test_a_swarm_updates_without_a_loss_and_rolls_a_wrong_digest_back(docker, project):
    docker("swarm", "init", "--advertise-addr=127.0.0.1")
    stack = yaml.safe_load((project / "stack.yaml").read_text())
    model = stack["services"]["model"]
    model["deploy"]["update_config"]["monitor"] = "1s"
    model["healthcheck"] = {"interval": "1s"}
    # The kernel here may have no ip_vs, which one port for all replicas needs.
    del model["ports"]
    client = {"image": model["image"], "entrypoint": ["/venv/bin/python", "-c", CLIENT]}
    client |= {"healthcheck": {"disable": True}, "deploy": {"update_config": {"monitor": "1s"}}}
    stack["services"]["client"] = client

    def deploy(**environment):
        model["environment"] |= environment
        (project / "edited.yaml").write_text(yaml.safe_dump(stack))
        docker(
            *("stack", "deploy", "--detach=false", "--compose-file=edited.yaml", "tumour"),
            cwd=project,
        )

    def logs():
        return docker("service", "logs", "--raw", "tumour_client")

    def replicas():
        return {*docker("ps", "--quiet", "--filter=health=healthy").split()}

    def state():
        return (docker.inspected("tumour_model").get("UpdateStatus") or {}).get("State")

    deploy()
    first = settled(lambda: len(replicas()) == 2 and replicas())
    settled(lambda: "answered 100" in logs())
    deploy(OTHER="1")
    settled(lambda: state() == "completed")
    second = settled(lambda: len(replicas()) == 2 and replicas())
    assert not first & second
    before = logs().count("answered")
    settled(lambda: logs().count("answered") > before)
    deploy(MODELKIT_DIGEST="0" * 64)
    settled(lambda: state() == "rollback_completed")
    assert replicas() == second
    assert "lost" not in logs()
    docker("swarm", "leave", "--force")


def test_the_parsers_of_docker_take_every_file(docker, project):
    docker("compose", "config", "--quiet", cwd=project)
    docker("stack", "config", "--compose-file=stack.yaml", cwd=project)
