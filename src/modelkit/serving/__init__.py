"""What runs a Model for many callers: Batcher, Replicas, Meter."""
