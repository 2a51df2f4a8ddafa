"""What the rooms share and nobody outside may rely on: it changes without a word in the CHANGELOG."""
