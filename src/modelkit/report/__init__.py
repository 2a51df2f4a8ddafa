"""How values are shown to people: cards and pages of HTML, and text that is safe on a terminal."""
