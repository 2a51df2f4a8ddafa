"""Where a graph is executed: one module per runtime."""
