"""Compare a stream of rows with a Profile of the past, with a false-alarm rate that holds.

The way of a served row, file by file:

    monitor        a Model that copies the rows it serves
    intake         buffers the calls of a Monitor, and works on 256 rows at a time
    layout         rows to cells, strata and units; `cells` has the cells of one column, `columns`,
                   `outputs`, `vectors` and `row_times` read what rows are made of
    tracker        all that a Detector knows: counts, evidence, alarms, notes, behind one lock
    counts         cells (n, d) to counts (groups, d, 67); `buckets` keeps them by hour and day, and
                   `segments` by segment
    order          shuffles the rows of a call, and thins dependent ones
    sequence       rows in blocks of 32, ranked by `ranks` (rows) or `unit_ranks` (days, tables)
    limits         Bettors turn blocks into wealth; a wealth above its threshold is a Crossing
    alpha          shares of alpha, and the sequences that have them
    alarms         turns a Crossing into an Alarm, sends it to listeners, and keeps people's notes

`detector` is the same without a Monitor. Whole units pass `units` and `open_unit`, labels `labels`
and `losses`, and probabilities `labelfree`.

The way of a fit: `profile` (the value, and `Profile.fit`), `sides` (arguments, and the rows of both
sides), `repeats` (shared rows), `fit` (features, strata, counts, units), `advice`.

The way of a report: `findings` (a stream, several workers), `batch` (one test) or `history` (a span),
with `checks` and `effects`, make a `report` of `values`; `words`, `page` and `charts` show it.

The way of a state: `state` and `codec`.
"""
