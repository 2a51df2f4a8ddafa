"""How a model answers when its rows change: noise, errors and attacks."""
