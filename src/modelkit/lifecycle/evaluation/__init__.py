"""What a Model is worth on labelled rows: metrics, their intervals, and paired tests."""
