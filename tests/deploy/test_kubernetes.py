"""What `modelkit export kubernetes` writes, as the programs and the schemas of its platforms read it."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import jsonschema
import pytest
import yaml
from helpers.apps import ask
from helpers.images import write
from helpers.places import ROOT
from helpers.programs import listening, needs, until
from helpers.servers import modelkit_serve
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.integrations.deploy import exported

VERSIONS = ("1.30", "1.34", "1.37")  # of Kubernetes
# Published definitions of objects: data that is not ours, so tests read it where it is there.
DATA = Path(os.environ.get("MODELKIT_CRDS", ROOT.parent / "shared" / "data"))
DEFINITIONS = {
    "kserve.yaml": "kserve-inferenceservice-crd.yaml.gz",
    "keda/scaledobject.yaml": "keda-scaledobject-crd.yaml.gz",
    "seldon.yaml": "seldon-seldondeployment-crd.yaml.gz",
}
V2 = {"inputs": [{"name": "X", "datatype": "FP64", "shape": [1, 2], "data": [17.9, 10.4]}]}
OVERLAY = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "namePrefix": "eu-",
    "resources": ["../base"],
    "components": ["../base/tokens", "../base/keda"],
}


@pytest.fixture
def folder(tumour_mk, tmp_path):
    write(tmp_path / "base", exported("kubernetes", tumour_mk))
    return tmp_path / "base"


def kustomized(folder):
    """The objects that Kustomize makes of a folder, as text."""
    command = ["kubectl", "kustomize", folder]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=280).stdout


@needs("kubectl")
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_objects(version, folder, tumour_mk):
    objects = folder / "all.yaml"
    bucket = exported("kubernetes", tumour_mk, registry="s3://models/production")
    objects.write_bytes(bucket["networkpolicy.yaml"])
    assert " passed " in said_of(objects, version)
    objects.write_text(kustomized(folder))
    assert said_of(objects, version).count(" passed ") == 5
    objects.write_text(objects.read_text().replace("maxSurge", "maxsurge"))
    assert "maxsurge" in said_of(objects, version)


def said_of(path, version):
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, path]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    return done.stdout + done.stderr


@needs("kubectl")
def test_components_add_who_may_ask_and_put_keda_in_place_of_the_autoscaler(folder):
    overlay = folder.parent / "overlay"
    write(overlay, {"kustomization.yaml": yaml.safe_dump(OVERLAY).encode()})
    objects = {each["kind"]: each for each in yaml.safe_load_all(kustomized(overlay))}
    assert "HorizontalPodAutoscaler" not in objects
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    names = {each["name"] for each in container["env"]}
    assert names == {"MODELKIT_DIGEST", "MODELKIT_TOKENS"}
    assert pod["volumes"][0]["secret"]["secretName"] == "tumour-tokens"
    assert objects["ScaledObject"]["spec"]["minReplicaCount"] == 2


@pytest.mark.parametrize("name", DEFINITIONS)
def test_definitions_take_the_objects_of_other_platforms(name, folder):
    path = DATA / DEFINITIONS[name]
    if not path.exists():
        pytest.skip(f"no {path}: a definition that others publish, for the folder MODELKIT_CRDS")
    found = yaml.safe_load((folder / name).read_text())
    definition = yaml.load(gzip.decompress(path.read_bytes()), yaml.CSafeLoader)
    (schema,) = [
        each["schema"]["openAPIV3Schema"]
        for each in definition["spec"]["versions"]
        if found["apiVersion"].endswith(f"/{each['name']}")
    ]
    checker = jsonschema.Draft7Validator(strict(schema))
    assert [*checker.iter_errors(found)] == []
    found["spec"]["unknown"] = 1
    assert not checker.is_valid(found)


def strict(schema):
    """A schema that refuses what it does not name, as an API server does where it is asked strictly."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("type", None)
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    metadata = made.get("properties", {}).get("metadata")
    if metadata == {"type": "object"}:
        metadata["properties"] = {}
    return made


def test_a_server_answers_by_the_name_that_seldon_asks_for(tmp_path):
    """Its executor asks for the node of its graph, and names of packages may have what no node has."""
    X, y = load_breast_cancer(return_X_y=True)
    package = tmp_path / "package.mk"
    estimator = LogisticRegression().fit(X[:, :2], y)
    mk.save(estimator, package, example=X[:, :2], name="tumour.of_two", version="1.0.0")
    (predictor,) = yaml.safe_load(exported("kubernetes", package)["seldon.yaml"])["spec"][
        "predictors"
    ]
    (container,) = predictor["componentSpecs"][0]["spec"]["containers"]
    with modelkit_serve(package, *container["args"][1:]) as served:
        name = predictor["graph"]["name"]
        assert name == container["name"] == "tumour-of-two"
        assert served.ask("GET", f"/v2/models/{name}/ready")[0] == 200
        assert served.post(f"/v2/models/{name}/infer", V2)[1]["model_name"] == name


@needs("prometheus")
def test_a_prometheus_that_scrapes_a_pod_answers_keda(folder, tumour_mk, tmp_path):
    """KEDA takes one number, and refuses a query that gives several."""
    triggers = yaml.safe_load((folder / "keda" / "scaledobject.yaml").read_text())["spec"][
        "triggers"
    ]
    queue, latency = [
        each["metadata"]["query"] for each in triggers if each["type"] == "prometheus"
    ]
    with modelkit_serve(tumour_mk) as served, prometheus(tmp_path, served.port) as url:
        until(lambda: numbers(url, queue) == [0], "a queue")

        def measured():
            assert served.post("/v2/models/tumour/infer", V2)[0] == 200
            return all(0 < number < 60 for number in numbers(url, latency) or [0])

        until(measured, "a latency")
    assert promtool_parses(queue)
    assert promtool_parses(latency)
    assert not promtool_parses(latency[:-1])


@contextmanager
def prometheus(folder, port):
    """The URL of a Prometheus that scrapes a port each second."""
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": "pods", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = (
        shutil.which("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    )
    with listening(folder / "prometheus.log", *command) as url:
        yield url


def numbers(url, query):
    """What a query gives, as KEDA asks for it."""
    path = f"/api/v1/query?{urlencode({'query': query})}"
    status, _, body = ask(urlsplit(url).port, "GET", path)
    assert status == 200, body
    return [float(each["value"][1]) for each in json.loads(body)["data"]["result"]]


def promtool_parses(query):
    command = ["promtool", "--experimental", "promql", "format", query]
    return subprocess.run(command, check=False, capture_output=True, timeout=280).returncode == 0
