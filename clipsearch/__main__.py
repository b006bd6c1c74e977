"""The process of the `clipsearch` command, also as `python -m clipsearch`."""

from __future__ import annotations

import os
import sys
import threading

from clipsearch.cli import console, main


def run() -> None:
    """Run the command, and end the process without taking it apart first."""
    code = main()
    try:
        sys.stdout.flush()
    except OSError as error:  # a full disk, or nobody reads on
        console.say(f"error: {error.strerror}")
        code = 1
    sys.stderr.flush()
    if threading.active_count() > 1:
        sys.exit(code)
    # Libraries are closed, and what was written is on the disk. Freeing every object and module
    # one by one takes as long as the search of a query.
    os._exit(code)


if __name__ == "__main__":
    run()
