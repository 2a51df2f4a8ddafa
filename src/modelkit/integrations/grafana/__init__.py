"""What `modelkit export` writes."""
