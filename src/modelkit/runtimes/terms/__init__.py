"""Texts as counts of terms, by data alone: no code of a package has a part in it."""
