"""Packages by name and version, and aliases that say which is current."""
