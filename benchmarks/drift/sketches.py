"""What a test assumes of counts, and what a sketch of whylogs gives: `python -m benchmarks.drift.sketches`.

Two tables of one distribution are compared in ten cells by a chi-squared test at .01: by their counts, and by what
whylogs' sketch of each (KLL) says that the counts are.
"""

import os

os.environ["WHYLOGS_NO_ANALYTICS"] = "True"  # before it is imported: it would report its use

import numpy as np
from benchmarks.common.measure import log, table
from benchmarks.drift.ours import share
from scipy.stats import chi2_contingency, norm

EDGES = norm.ppf(np.arange(1, 10) / 10)
ROWS = (10_000, 50_000, 200_000, 1_000_000)
RUNS = 200
ALPHA = 0.01


def counted(values):
    return np.bincount(np.searchsorted(EDGES, values), minlength=len(EDGES) + 1)


def sketched(values):
    """The counts by the sketch that whylogs makes of a column, at its defaults."""
    from whylogs.core import MetricConfig
    from whylogs.core.metrics.metrics import DistributionMetric
    from whylogs.core.preprocessing import PreprocessedColumn

    metric = DistributionMetric.zero(MetricConfig())
    metric.columnar_update(PreprocessedColumn.apply(values))
    below = metric.kll.value.get_cdf(list(EDGES))
    return np.diff(below, prepend=0.0) * len(values)


def main():
    rng = np.random.default_rng(0)
    lines = []
    for rows in ROWS:
        alarms = {counted: 0, sketched: 0}
        off = []
        for _ in range(RUNS):
            pair = rng.standard_normal((2, rows))
            found = {how: [how(values) for values in pair] for how in alarms}
            off.append(np.abs(np.cumsum(found[sketched][0] - found[counted][0])).max() / rows)
            for how, counts in found.items():
                alarms[how] += chi2_contingency(counts).pvalue < ALPHA
        cells = []
        for count in alarms.values():
            measured, low, high = share(count, RUNS)
            cells.append(f"{measured:.1%} ({low:.1%} to {high:.1%})")
        chance = np.sqrt(0.1 * 0.9 / rows)
        lines.append([f"{rows:,}", *cells, f"{np.median(off):.2%}", f"{chance:.2%}"])
        log(f"  {' | '.join(lines[-1])}")
    print(table("rows | counts | sketches | error of a sketch | chance", lines))


if __name__ == "__main__":
    main()
