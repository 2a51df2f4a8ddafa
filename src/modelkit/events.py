"""What happened, as frozen values, and whoever wants to know of it."""
