"""Bills of materials of models, as the library of CycloneDX validates them."""

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from helpers.carded import packages
from helpers.forge import forge

from modelkit.integrations import cards

VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)
KINDS = (
    *("bare", "classifier", "classes", "regressor", "labels", "joblib", "encoder", "texts"),
    *("graph", "signed", "sealed"),
)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return packages(tmp_path_factory.mktemp("cards"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bill_of_materials_is_valid(places, kind):
    text = cards.bill_of_materials(*places[kind])
    assert VALIDATOR.validate_str(text) is None
    assert VALIDATOR.validate_str(text.replace('"modelCard"', '"modelCart"')) is not None


@pytest.mark.parametrize("licence", sorted(cards.LICENCES.values()))
def test_a_licence_of_the_table_is_one_of_spdx(places, licence):
    data = places["bare"][0].read_bytes()
    text = cards.bill_of_materials(forge(data, edit=lambda plain: plain.update(licence=licence)))
    assert json.loads(text)["metadata"]["component"]["licenses"] == [{"license": {"id": licence}}]
    assert VALIDATOR.validate_str(text) is None
