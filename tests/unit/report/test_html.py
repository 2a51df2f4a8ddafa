"""Cards and numbers as people see them."""

import re

import modelkit as mk
from modelkit.signature.signature import Signature
from modelkit.signature.spec import Column, TensorSpec


def test_the_notebook_card_shows_the_model_escaped(penguins_mk):
    with mk.load(penguins_mk, threads=2) as model:
        card = model._repr_html_()
        for text in (
            "penguins 1.0.0",
            "2 threads",
            "as asked",
            model.manifest.digest,
            "labels flipped",
            "bill_length_mm",
            "Adelie",
        ):
            assert text in card
    hostile = Column("<script>alert(1)</script>", "float64")
    signature = Signature(
        (TensorSpec("<b>", "float64", ("batch", 1), (hostile,)),),
        (TensorSpec("y", "float64", ("batch",)),),
    )
    card = mk.FunctionModel(lambda feeds: feeds, signature)._repr_html_()
    assert "<script" not in card
    assert "<b>" not in card
    assert "&lt;script&gt;" in card
    assert not re.search(r"https?://", card)
