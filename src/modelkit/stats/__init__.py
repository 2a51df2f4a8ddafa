"""Statistics, each pure and with the source of its formula."""
