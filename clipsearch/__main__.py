"""`python -m clipsearch`: the same as the `clipsearch` command."""

from __future__ import annotations

import sys

from clipsearch.cli import main

if __name__ == "__main__":
    sys.exit(main())
