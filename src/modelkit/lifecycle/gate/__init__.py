"""Whether a candidate may take the place of a champion: promote, block or inconclusive."""
