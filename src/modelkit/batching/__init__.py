"""Gather concurrent calls into batches: `policy` decides, `lane` queues and runs, `batcher` is the Model."""
