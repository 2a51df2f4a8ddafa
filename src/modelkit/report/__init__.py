"""How values are shown to people: cards, pages and plots of HTML, and text that is safe on a terminal."""
