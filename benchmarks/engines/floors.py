"""What an engine costs without a model: functions that give columns of the right types, each value the same.

They take the forms of a Scorer, so that an engine moves the same rows in and as many bytes out.
"""

import numpy as np
import pandas as pd
import pyarrow as pa


def of_tables(scorer):
    """Arrow tables to Arrow tables, as `Scorer.arrow`."""
    outputs = scorer.outputs
    keep = scorer.keep

    def constant(table):
        columns = {name: table[name] for name in keep}
        for output in outputs:
            columns[output.name] = _arrow(output, table.num_rows)
        return pa.table(columns)

    return constant


def of_batches(scorer):
    """Streams of record batches to such streams, as `Scorer.batches`."""
    outputs = scorer.outputs
    keep = scorer.keep

    def constant(batches):
        for batch in batches:
            columns = {name: batch.column(name) for name in keep}
            for output in outputs:
                columns[output.name] = _arrow(output, batch.num_rows)
            yield pa.record_batch(columns)

    return constant


def of_frames(scorer):
    """Frames of pandas to frames, as `Scorer.frame`."""
    outputs = scorer.outputs
    keep = scorer.keep

    def constant(frame):
        columns = {name: frame[name] for name in keep}
        for output in outputs:
            for name in output.column_names(output.size):
                columns[name] = _pandas(output, frame.index)
        return pd.DataFrame(columns, index=frame.index)

    return constant


def _arrow(output, rows):
    if output.is_text:
        return pa.repeat(pa.scalar("yes", pa.string()), rows)
    plain = pa.array(np.zeros(rows * output.size, output.dtype))
    if output.is_single:
        return plain
    starts = np.arange(rows + 1, dtype=np.int32) * np.int32(output.size)
    return pa.ListArray.from_arrays(pa.array(starts), plain)


def _pandas(output, index):
    dtype = "str" if output.is_text else output.dtype
    return pd.Series("yes" if output.is_text else 0, index=index, dtype=dtype)
