"""Gather concurrent calls into batches: `policy` decides, `scheduler` queues, `workers` run."""
