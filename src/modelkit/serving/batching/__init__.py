"""Gather concurrent calls into batches: `policy` decides, `lane` queues, `workers` run."""
