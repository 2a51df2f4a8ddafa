"""Evidence that may be looked at after every step: pure, with the source of each formula."""
