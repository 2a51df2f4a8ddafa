"""Which version of a model answers, decided with a stated error rate."""
