"""The page of refusals is true: a message names the step and a way out, and the way out works."""

import re

import pytest
from helpers.places import ROOT
from helpers.refusals import REFUSALS, table

import modelkit as mk
from modelkit.errors import ConversionError

DOCS = ROOT / "docs" / "refused.md"
OTHERS = re.compile(
    r"skl2onnx|sklearn-onnx|onnxmltools|spox|shape calculator|Traceback|<class|\.py\b"
)
WAYS = re.compile(
    r"\b(use|set|pass|save|fit|apply|write|leave|let|put|turn|replace|give)\b", re.IGNORECASE
)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.says)
def test_a_refusal_names_the_cause_and_a_way_out_that_works(refusal, tmp_path, one_thread):
    model, example = refusal.refused()
    said = re.escape(refusal.says).replace(re.escape("..."), ".+")
    with pytest.raises(ConversionError) as caught:
        mk.save(model, tmp_path / "m.mk", example=example, name="m", version="1")
    message = str(caught.value)
    assert re.search(said, message), message
    assert not OTHERS.search(message), message
    assert WAYS.search(message), message
    assert not (tmp_path / "m.mk").exists()
    model, example = refusal.instead()
    mk.save(model, tmp_path / "m.mk", example=example, name="m", version="1")


def test_the_docs_list_the_refusals():
    assert table() in DOCS.read_text(encoding="utf-8"), (
        "put the output of `PYTHONPATH=tests python -m helpers.refusals` into docs/refused.md"
    )
