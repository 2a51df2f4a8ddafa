"""Whether a graph answers as its source: questions to both, and what their answers say."""
