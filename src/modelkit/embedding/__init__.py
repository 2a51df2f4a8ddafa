"""Texts to vectors: a Model over strings around a Model over tokens."""
