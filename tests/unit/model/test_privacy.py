"""A claim of privacy is kept as claimed, shown as claimed, and refused where it cannot be one."""

import json
import re

import numpy as np
import pytest
from helpers.commands import run
from helpers.forge import forge
from helpers.packages import saved

import modelkit as mk
from modelkit.errors import ManifestError, UsageError
from modelkit.types import PrivacyClaim

CLAIM = {"epsilon": 1.0, "delta": 1e-5, "mechanism": "DP-SGD, neighbours differ in one row"}
WORDS = "epsilon 1, delta 1e-05, as claimed: DP-SGD, neighbours differ in one row"
BAD = [
    ({"epsilon": -1.0}, "epsilon is a number of at least 0 and finite, not -1.0"),
    ({"epsilon": "1"}, "epsilon must be float or int, got '1'"),
    ({"epsilon": True}, "epsilon must be float or int, got True"),
    ({"epsilon": None}, "epsilon must be float or int, got None"),
    ({"delta": 1}, "delta is a number of at least 0 and below 1, not 1"),
    ({"delta": -1e-9}, "delta is a number of at least 0 and below 1, not -1e-09"),
    ({"mechanism": ""}, "mechanism is a printable text of 1 to 200 characters"),
    ({"mechanism": "a" * 201}, "mechanism is a printable text of 1 to 200 characters"),
    ({"mechanism": "DP\nproven by modelkit"}, "mechanism is a printable text"),
    ({"mechanism": "DP \u202e"}, "mechanism is a printable text"),
    ({"mechanism": 3}, "mechanism must be str, got 3"),
    ({"proven": True}, r"unknown fields \['proven'\]"),
]


@pytest.fixture(scope="module")
def claimed(boosting, breast_cancer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("claimed")
    saved(boosting, breast_cancer[0], folder, privacy=CLAIM)[1].close()
    return folder / "m.mk"


def test_every_place_that_shows_it_says_as_claimed(capsys, claimed):
    manifest = mk.inspect(claimed)
    assert str(manifest.privacy) == WORDS
    assert f"privacy: {WORDS}" in str(manifest)
    assert WORDS in manifest._repr_html_()
    assert f"privacy    {WORDS}" in run(capsys, "inspect", claimed)[1]
    assert json.loads(run(capsys, "inspect", claimed, "--json")[1])["privacy"] == CLAIM


def test_the_digest_of_the_package_covers_it_and_that_of_the_model_does_not(
    boosting, breast_cancer, tmp_path, claimed
):
    other, model = saved(
        boosting, breast_cancer[0], tmp_path, privacy=CLAIM | {"epsilon": 8, "delta": 0}
    )
    model.close()
    first = mk.inspect(claimed)
    assert other.privacy == PrivacyClaim(8.0, 0.0, CLAIM["mechanism"])
    assert other.digest != first.digest
    assert other.model_digest == first.model_digest


def test_equal_claims_are_equal_bytes(boosting, breast_cancer, tmp_path, claimed):
    forms = (
        PrivacyClaim(**CLAIM),
        CLAIM | {"epsilon": 1},
        CLAIM | {"epsilon": np.float64(1)},
        PrivacyClaim(np.float32(1), 1e-5, CLAIM["mechanism"]),
    )
    for privacy in forms:
        saved(boosting, breast_cancer[0], tmp_path, privacy=privacy)[1].close()
        assert (tmp_path / "m.mk").read_bytes() == claimed.read_bytes()


def test_attach_keeps_it(claimed, tmp_path):
    attached = mk.attach(claimed, metadata={"a": 1}, out=tmp_path / "other.mk")
    assert attached.privacy == PrivacyClaim(**CLAIM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *BAD,
        ({"epsilon": float("nan")}, "epsilon is a number of at least 0 and finite, not nan"),
        ({"epsilon": float("inf")}, "epsilon is a number of at least 0 and finite, not inf"),
        ({"delta": float("nan")}, "delta is a number of at least 0 and below 1, not nan"),
    ],
)
def test_what_is_no_claim_is_not_saved(boosting, breast_cancer, tmp_path, change, message):
    with pytest.raises(UsageError, match=f"privacy.*{message}.*; pass a dict such as privacy="):
        saved(boosting, breast_cancer[0], tmp_path, privacy=CLAIM | change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("privacy", [1.0, "epsilon 1", [1.0, 1e-5], {}, {"epsilon": 1.0}])
def test_another_value_is_not_saved(boosting, breast_cancer, tmp_path, privacy):
    with pytest.raises(UsageError, match=r"^privacy.*; pass a dict such as privacy=\{'epsilon"):
        saved(boosting, breast_cancer[0], tmp_path, privacy=privacy)


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_is_no_claim_is_not_opened(claimed, change, message):
    def edit(plain):
        plain["privacy"] |= change

    with pytest.raises(ManifestError, match=rf"^modelkit\.json: privacy.*{message}"):
        mk.load(forge(claimed.read_bytes(), edit=edit))


@pytest.mark.parametrize("change", [{"epsilon": True}, {"delta": "0"}, {"mechanism": None}])
def test_a_value_of_another_type_is_refused(change):
    (name,) = change
    with pytest.raises(UsageError, match=rf"{name} is a .*not {re.escape(repr(change[name]))}"):
        PrivacyClaim(**CLAIM | change)
