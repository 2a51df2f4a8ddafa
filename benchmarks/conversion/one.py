"""Save one pipeline of the catalogue, and print what was found: `python -m benchmarks.conversion.one NAME`."""

import json
import sys
import warnings

from benchmarks.conversion.packages import saved
from benchmarks.conversion.pipelines import PIPELINES

import modelkit as mk

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    (pipeline,) = (each for each in PIPELINES if each.name == sys.argv[1])
    print(mk.__file__)
    print(json.dumps(saved("one", pipeline), indent=1))
