"""Values that print as a table."""

import pickle
from dataclasses import dataclass

from modelkit.report.listing import Listing


@dataclass(frozen=True)
class Fruit:
    name: str
    grams: int

    def _cells(self):
        return {"name": self.name, "grams": str(self.grams)}


BASKET = Listing([Fruit("fig", 40), Fruit("water melon", 9000)])


def test_it_prints_a_line_for_each():
    assert repr(BASKET).splitlines() == [
        "name         grams",
        "fig          40",
        "water melon  9000",
    ]
    assert repr(Listing()) == "()"


def test_of_many_the_last_fit_on_one_screen():
    lines = repr(Listing(Fruit(f"fig {at}", at) for at in range(400))).splitlines()
    assert len("\n".join(lines)) <= 500
    assert lines[-1] == "fig 399  399"
    assert lines[1] == f"... {400 - len(lines[2:])} before"


def test_it_is_a_tuple_in_everything_else():
    assert (Fruit("fig", 40), Fruit("water melon", 9000)) == BASKET
    assert hash(BASKET) == hash((*BASKET,))
    assert type(BASKET[:1]) is tuple
    assert pickle.loads(pickle.dumps(BASKET)) == BASKET


def test_texts_drive_neither_a_terminal_nor_a_page():
    hostile = Listing([Fruit("\x9b2J<script>", 1)])
    assert "\\x9b2J<script>" in repr(hostile)
    assert "&lt;script&gt;" in hostile._repr_html_()
    assert "<script>" not in hostile._repr_html_()
