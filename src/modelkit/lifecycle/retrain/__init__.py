"""When to train again, and one retraining of it: train, save, gate, register, rollout."""
