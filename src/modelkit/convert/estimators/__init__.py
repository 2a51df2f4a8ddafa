"""Converters of estimators: each takes a fitted one and tensors, and gives tensors."""
