"""What the package logs of faults that it repairs: expected by a test, or a failure of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager


class FaultLog(logging.Handler):
    """Collects the messages of the logger `clipsearch`, from WARNING up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


FAULTS = FaultLog()
logging.getLogger("clipsearch").addHandler(FAULTS)


@contextmanager
def logged_fault(match: str | None) -> Iterator[list[str]]:
    """Expect that a fault is logged whose message matches; None allows for any, and for none."""
    before, FAULTS.messages = FAULTS.messages, []
    logged = FAULTS.messages
    try:
        yield logged
    finally:
        FAULTS.messages = before
    assert match is None or any(re.search(match, message) for message in logged), logged
