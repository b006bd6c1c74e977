"""Index a library that other machines index, too: each file is read by one of them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from clipsearch.catalog import Catalog, Pending
from clipsearch.catalog.claims import claim_files, release_claims, release_dead_claims
from clipsearch.images import FoundFile

_LEASE_SECONDS, _RENEWED_AFTER = 60.0, 15.0
_CLAIMED = 64
"""Files that are claimed at once: a minute's work of a slow model."""
_PAUSE = 0.5
"""Seconds between two looks at what others have claimed."""

LONGEST_PATH, TOO_LONG = (
    2_600,
    "its path has more than 2,600 bytes, which PostgreSQL cannot find it by",
)
"""Bytes of a path, and why one with more is left out."""


class ClaimedFiles:
    """The files of a run, in rounds: those that no other machine reads, then what others left.

    Parameters
    ----------
    catalog
        Of the shared library.
    model_id
        The model whose vectors are computed.
    todo
        The files that have to be read.
    retry
        Read files again that failed.

    Notes
    -----
    Of a library in a folder, which one process at a time writes, all files are yielded.
    """

    def __init__(
        self,
        catalog: Catalog,
        model_id: int,
        todo: Sequence[Pending[FoundFile]],
        *,
        retry: bool = False,
    ) -> None:
        self._catalog, self._model_id, self._retry = catalog, model_id, retry
        self._left = [pending.file for pending in todo]
        self._owner = f"{_here()}:{os.getpid()}:{os.urandom(6).hex()}"
        self._renewed = time.monotonic()
        self.elsewhere = 0
        """How many files others have read meanwhile."""

    def __iter__(self) -> Iterator[FoundFile]:
        """Yield those that nobody else reads now; afterwards `more` tells whether others are left.

        It never waits: what was yielded last would not be encoded until it ends.
        """
        if not self._catalog.shared:
            yield from self._left
            self._left = []
            return
        left, self._left = self._left, []
        for start in range(0, len(left), _CLAIMED):
            some = left[start : start + _CLAIMED]
            mine = self._claim(some)
            self._left += [file for file in some if file.path not in mine]
            yield from self._unread([file for file in some if file.path in mine])

    def more(self, on_waiting: Callable[[int], None] = lambda left: None) -> bool:
        """Wait until others have read what they claimed, or no longer claim it; tell whether any is left.

        `on_waiting` is told how many files others read meanwhile.
        """
        while self._left:
            before = len(self._left)
            self._left = list(self._unread(self._left))
            on_waiting(len(self._left))
            self._catalog.note(release_dead_claims, _here(), _is_alive)
            if not self._left or self._claim(self._left[:1]):
                break
            if len(self._left) == before:
                time.sleep(_PAUSE)
        return bool(self._left)

    def _claim(self, files: Sequence[FoundFile]) -> set[str]:
        self._renewed = time.monotonic()
        paths = [file.path for file in files]
        return self._catalog.note(
            claim_files, paths, self._model_id, owner=self._owner, seconds=_LEASE_SECONDS
        )

    def _unread(self, files: Sequence[FoundFile]) -> Iterator[FoundFile]:
        """Yield the files that nobody has read since they were found, and count the others."""
        for found in self._catalog.pending(files, self._model_id, retry=self._retry):
            if found.todo:
                yield found.file
            else:
                self.elsewhere += 1

    def renew(self) -> None:
        """Renew the lease, if that is due."""
        if self._catalog.shared and time.monotonic() - self._renewed > _RENEWED_AFTER:
            self._claim([])

    def close(self) -> None:
        """Give up what was claimed."""
        if self._catalog.shared:
            self._catalog.note(release_claims, self._owner)


def _here() -> str:
    """Name this machine and its numbers of processes: containers have numbers of their own."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:
        numbers = ""
    return f"{socket.gethostname()} {numbers}"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
