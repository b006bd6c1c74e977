"""The process of the `clipsearch` command, also as `python -m clipsearch`."""

from __future__ import annotations

import gc
import os
import sys
import threading

LIGHT = ("query", "similar")
"""Commands that multiply vectors, not matrices, and are over in a moment."""


def run() -> None:
    """Run the command, and end the process without taking it apart first."""
    start_lightly(sys.argv[1:2])
    from clipsearch.cli import console, main  # which is begun lightly, too

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


def start_lightly(command: list[str]) -> None:
    """Keep Python and BLAS from working while nothing is to be done yet.

    Nearly all that is imported stays: looking through it for garbage again and again takes a tenth
    of a query. And threads of BLAS wait for work at full speed, a tenth of a second from their
    start and after each product, on the processor that another thread needs. What the user has set
    wins.
    """
    gc.set_threshold(50_000, 20, 100)
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")  # 2**16 cycles
    if command and command[0] in LIGHT:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


if __name__ == "__main__":
    run()
