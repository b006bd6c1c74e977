"""Reading runs of bytes that lie scattered over a file, without mapping it.

Pages of a map that are touched count as memory of the process, some systems add hundreds around
each: after a few searches all of a large file would be resident. What is read is not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

READS = hasattr(os, "preadv")
"""Whether files can be read from a place here."""
_NOW = getattr(os, "RWF_NOWAIT", 0)
_Run = tuple[memoryview, int]
"""Where a run is wanted, and where it lies in the file."""


def read_runs(
    descriptor: int, into: np.ndarray, sizes: Sequence[int], offsets: Sequence[int]
) -> bool:
    """Fill an array with runs of `sizes` bytes at `offsets`, in turn; False if the file ends before.

    What is in memory already is read at once. The rest is asked for together first, so that a disk
    is not waited for again and again. Raises OSError.
    """
    runs, start, room = [], 0, into.view(np.uint8).reshape(-1).data
    for size, offset in zip(sizes, offsets, strict=True):
        runs.append((room[start : start + size], offset))
        start += size
    late = _not_at_hand(descriptor, runs) if _NOW else runs
    if len(late) > 1 and hasattr(os, "posix_fadvise"):
        for part, offset in late:
            os.posix_fadvise(descriptor, offset, len(part), os.POSIX_FADV_WILLNEED)
    return all(os.preadv(descriptor, [part], offset) == len(part) for part, offset in late)


def _not_at_hand(descriptor: int, runs: Sequence[_Run]) -> list[_Run]:
    """Read what is in memory; return the rest."""
    late, read = [], os.preadv  # a thousand times a search
    for run in runs:
        try:
            if read(descriptor, (run[0],), run[1], _NOW) != len(run[0]):
                late.append(run)
        except OSError:  # it would have to wait, or this file system cannot tell
            late.append(run)
    return late
