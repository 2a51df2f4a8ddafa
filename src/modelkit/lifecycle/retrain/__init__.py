"""When to train again, and one run of it: train, save, gate, register, rollout."""
