"""The catalogue: everyday pipelines over real data sets, as tutorials, competitions and company notebooks have them."""

from benchmarks.conversion.boosters import BOOSTERS
from benchmarks.conversion.columns import COLUMNS
from benchmarks.conversion.everyday import Everyday
from benchmarks.conversion.figures import FIGURES
from benchmarks.conversion.writing import WRITING

PIPELINES: tuple[Everyday, ...] = (*COLUMNS, *FIGURES, *BOOSTERS, *WRITING)
