"""Audit: what happened, in files that show tampering."""
