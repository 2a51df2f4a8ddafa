"""Compare a stream of rows with a Profile of the past, with a false-alarm rate that holds."""
