"""Counting and timing what a Model serves."""
