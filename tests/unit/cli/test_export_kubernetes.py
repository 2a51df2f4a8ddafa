"""`modelkit export kubernetes`: objects that agree with one another, and with what modelkit does."""

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

import modelkit as mk
from modelkit.cli.server import GRACE
from modelkit.cli.settings import DRAIN
from modelkit.integrations.deploy import PLATFORMS, exported
from modelkit.integrations.prometheus import Collector
from modelkit.serving.batching.batcher import QUEUE

KUBERNETES_GRACE = 30  # of a pod that does not say how long
BASE = {"deployment.yaml", "service.yaml", "hpa.yaml", "pdb.yaml", "networkpolicy.yaml"}


@pytest.fixture(scope="module")
def documents(penguins_mk):
    return read(exported("kubernetes", penguins_mk, "registry.example/penguins:1"))


def read(files):
    return {name: yaml.safe_load(text) for name, text in files.items()}


def pods(documents):
    """The pods of the Deployment, KServe and Seldon."""
    (predictor,) = documents["seldon.yaml"]["spec"]["predictors"]
    return {
        "deployment": documents["deployment.yaml"]["spec"]["template"]["spec"],
        "kserve": documents["kserve.yaml"]["spec"]["predictor"],
        "seldon": predictor["componentSpecs"][0]["spec"],
    }


def test_the_base_has_each_object_once(documents):
    assert {*documents["kustomization.yaml"]["resources"]} == BASE
    assert {*PLATFORMS["kubernetes"].templates} > BASE
    assert documents["keda/kustomization.yaml"]["resources"] == ["scaledobject.yaml"]


@pytest.mark.parametrize("kind", ["deployment", "kserve", "seldon"])
def test_a_pod_serves_the_package_and_may_do_nothing_else(kind, documents, penguins_mk):
    pod = pods(documents)[kind]
    (container,) = pod["containers"]
    assert container["image"] == "registry.example/penguins:1"
    environ = {each["name"]: each["value"] for each in container["env"]}
    assert environ["MODELKIT_DIGEST"] == mk.inspect(penguins_mk).digest
    assert [port["containerPort"] for port in container["ports"]] == [8080]
    allowed = pod.get("securityContext", {}) | container["securityContext"]
    assert allowed == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for probe, path in (("readinessProbe", "ready"), ("livenessProbe", "live")):
        assert container[probe]["httpGet"]["path"] == f"/v2/health/{path}"
    # modelkit sees a quota, and not what is asked for.
    assert container["resources"]["limits"] == container["resources"]["requests"]


@pytest.mark.parametrize("kind", ["deployment", "kserve", "seldon"])
def test_a_pod_is_not_killed_while_it_drains(kind, documents):
    pod = pods(documents)[kind]
    arguments = pod["containers"][0]["args"]
    drain = float(arguments[arguments.index("--drain") + 1]) if "--drain" in arguments else DRAIN
    grace = pod.get("terminationGracePeriodSeconds", KUBERNETES_GRACE)
    assert grace > (drain if kind == "kserve" else drain + GRACE)


def test_what_selects_pods_selects_those_of_the_deployment(documents):
    labels = documents["deployment.yaml"]["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": "penguins"}
    assert documents["service.yaml"]["spec"]["selector"] == labels
    for file, field in (
        ("deployment.yaml", "selector"),
        ("pdb.yaml", "selector"),
        ("networkpolicy.yaml", "podSelector"),
    ):
        assert documents[file]["spec"][field] == {"matchLabels": labels}
    for file in ("hpa.yaml", "keda/scaledobject.yaml"):
        assert documents[file]["spec"]["scaleTargetRef"]["name"] == "penguins"


def test_seldon_asks_by_the_name_of_its_container(documents):
    """Its executor sends to /v2/models/NAME/infer, where NAME is the node of its graph."""
    (predictor,) = documents["seldon.yaml"]["spec"]["predictors"]
    (container,) = pods(documents)["seldon"]["containers"]
    name = predictor["graph"]["name"]
    assert container["name"] == name
    assert container["args"][:3] == ["serve", "--name", name]


@pytest.mark.parametrize(
    ("registry", "ports"),
    [("", set()), ("/models", set()), ("s3://models/production", {53, 443, 80, 988})],
)
def test_a_pod_reaches_others_for_a_bucket_only(registry, ports, penguins_mk):
    policy = read(exported("kubernetes", penguins_mk, registry=registry))["networkpolicy.yaml"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    egress = policy["spec"]["egress"]
    assert {port["port"] for rule in egress for port in rule["ports"]} == ports


def test_the_queries_of_keda_ask_for_what_a_collector_shows(documents, penguins_mk):
    registry = CollectorRegistry()
    model = mk.layered(mk.load(penguins_mk, threads=1))
    registry.register(Collector(model))
    shown = {
        (sample.name, sample.labels["model"])
        for family in registry.collect()
        for sample in family.samples
        if "model" in sample.labels
    }
    model.close()
    triggers = documents["keda/scaledobject.yaml"]["spec"]["triggers"]
    queries = [trigger["metadata"]["query"] for trigger in triggers if "name" in trigger]
    assert len(queries) == 2
    asked = []
    for query in queries:
        promql_parser.walk(promql_parser.parse(query), asked.append)
    for node in asked:
        if isinstance(node, promql_parser.VectorSelector):
            (matcher,) = node.matchers.matchers
            assert (node.name, matcher.value) in shown


def test_the_queue_has_room_for_what_keda_waits_for(documents):
    queue = documents["keda/scaledobject.yaml"]["spec"]["triggers"][1]["metadata"]
    assert 0 < int(queue["threshold"]) < QUEUE == 8192
