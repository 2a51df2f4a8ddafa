"""What a release has written, every later one reads: each format has a golden file."""

import re
import shutil

import numpy as np
import pytest
from helpers.goldens import READER, SIGNER
from helpers.places import GOLDEN, SOURCE
from helpers.signers import private_pem, public_pem

import modelkit as mk
from modelkit.lifecycle.audit.log import AuditLog
from modelkit.lifecycle.retrain.records import retrainings_of
from modelkit.model.manifest import FORMAT
from modelkit.package.signing import read_signatures, write_signatures
from modelkit.serving.metering.cells import counted_in
from modelkit.types import RetrainRun, Tally

# The golden file of each schema, and how its text or its bytes are read and written again.
RECORDS = {
    "modelkit.drift/1": ("report1.json", mk.DriftReport),
    "modelkit.evaluation/1": ("evaluation1.json", mk.Evaluation),
    "modelkit.explanation/1": ("explanation1.json", mk.Explanation),
    "modelkit.retraining/1": ("retraining1.json", RetrainRun),
    "modelkit.robustness/1": ("robustness1.json", mk.RobustnessReport),
    "modelkit.verdict/1": ("verdict1.json", mk.Verdict),
}
STATES = {
    "modelkit.detector/1": "detector1.npz",
    "modelkit.profile/1": "profile1.npz",
    "modelkit.signatures/1": "sealed1.mk.sig",
    "modelkit.tally/1": "tally1.npz",
}


def test_every_schema_of_the_source_has_a_golden_file():
    """A new schema, or a new number of one, is a format that a release would write without one."""
    texts = [path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")]
    schemas = {name for text in texts for name in re.findall(r'"(modelkit\.\w+/\d+)"', text)}
    assert schemas == {*RECORDS, *STATES}
    for schema, name in STATES.items():
        assert schema.encode() in (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("schema", RECORDS)
def test_a_record_is_read_and_written_unchanged(schema):
    name, kind = RECORDS[schema]
    text = (GOLDEN / name).read_text(encoding="utf-8").strip()
    assert f'"schema": "{schema}"' in text
    assert kind.from_json(text).to_json() == text


def test_the_policy_of_a_rollout_is_read_and_written_unchanged():
    text = (GOLDEN / "policy1.json").read_text(encoding="utf-8").strip()
    assert mk.RolloutPolicy.from_json(text).to_json() == text


def test_a_tally_is_read():
    tally = Tally.from_bytes((GOLDEN / "tally1.npz").read_bytes())
    assert tally.rows == 2
    assert Tally.from_bytes(tally.to_bytes()) == tally


def test_signatures_are_read_and_written_unchanged():
    data = (GOLDEN / "sealed1.mk.sig").read_bytes()
    assert write_signatures(read_signatures(data, "golden")) == data


def test_a_sealed_and_signed_package_opens_and_answers_as_the_open_one():
    assert mk.inspect(GOLDEN / "sealed1.mk").format == FORMAT == 1
    trust = mk.Trust([public_pem(SIGNER)])
    options = {"device": "cpu", "threads": 1, "trust": trust, "unseal": private_pem(READER)}
    with mk.load(GOLDEN / "sealed1.mk", **options) as model:
        assert model.verify() <= model.manifest.parity.rtol


def test_a_registry_is_opened_and_goes_on(tmp_path):
    shutil.copytree(GOLDEN / "registry1", tmp_path / "registry")
    registry = mk.Registry(tmp_path / "registry")
    kinds = [entry.kind for entry in registry.history("churn")]
    assert kinds == ["alias", "alias", "alias", "rollout", "decided"]
    (first, second) = registry.versions("churn")
    assert registry.aliases("churn")["champion"].version == first.version == "1.0.0"
    with registry.load("churn", second.version, device="cpu", threads=1) as model:
        assert model.predict(np.eye(3)).shape == (3,)
    assert [run.state for run in retrainings_of(registry, "churn")] == ["promoted"]
    registry.set_alias(
        "churn", "champion", second.version, expected="1.0.0", reason="it goes on", force=True
    )


def test_an_audit_log_is_read_and_proven():
    found = AuditLog.verify(GOLDEN / "audit1", keys=[public_pem(SIGNER)])
    assert found.problems == ()
    kinds = [record.event for record in AuditLog.read(GOLDEN / "audit1")]
    assert {"aliasset", "audit.answer"} <= {*kinds}


def test_the_counts_of_a_process_are_read():
    counts = counted_in(GOLDEN / "meter1" / "0.slabs")
    (found,) = [
        held for label, held in counts.items() if label[:3] == ("model", "penguins", "1.0.0")
    ]
    assert found.sums[0] == 3


MACHINES = re.compile(rb"/(tmp|root|home|work|Users)/")


def test_no_golden_file_names_a_folder_of_a_machine():
    files = [path for path in GOLDEN.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path.name for path in files if MACHINES.search(path.read_bytes())] == []
