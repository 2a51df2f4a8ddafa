"""`python -m modelkit`."""

import sys

from modelkit.cli import main

if __name__ == "__main__":  # tools that walk through all modules import this one too
    sys.exit(main())
