"""What keeps Models over time: registry, evaluation, gate, rollout and retraining."""
