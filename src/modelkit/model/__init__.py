"""The seam: what a Model is, and what wraps one."""
