"""The process of the `clipsearch` command, also as `python -m clipsearch`."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading

_GRACE_SECONDS = 1.5
_INTERRUPTED = b"interrupted in the midst of a step: all that was stored before is kept.\n"

LIGHT = ("query", "similar", "compile")
"""Commands that multiply vectors by BLAS, or small matrices: more threads would wait, not compute."""


def run() -> None:
    """Run the command, and end the process without taking it apart first."""
    interruptible = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # as of `nohup`
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once: there is nothing to tell yet
    start_lightly(sys.argv[1:2])
    from clipsearch.cli import console, main  # which is begun lightly, too

    if interruptible:
        signal.signal(signal.SIGINT, console.raise_interrupt)
        end_when_interrupted()
    try:
        code = main()
    except KeyboardInterrupt:
        code = console.INTERRUPTED
    try:
        sys.stdout.flush()
    except OSError as error:  # a full disk, or nobody reads on
        console.say(f"error: {error.strerror}")
        code = 1
    sys.stderr.flush()
    main_thread = threading.main_thread()
    if any(thread is not main_thread and not thread.daemon for thread in threading.enumerate()):
        sys.exit(code)
    # Libraries are closed, and what was written is on the disk. Freeing every object and module
    # one by one takes as long as the search of a query.
    os._exit(code)


def end_when_interrupted() -> None:
    """End the process soon after Ctrl-C whatever it does, and at once after a second one.

    Python acts on a signal between two of its instructions, not in the midst of a call: building a
    graph, or reading from a disk that does not answer, may take minutes. What was stored is safe
    from the end of the process at any point.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    threading.Thread(target=_watch_signals, args=(woken,), name="interrupt", daemon=True).start()


def _watch_signals(woken: int) -> None:
    while number := os.read(woken, 1):
        if number[0] == signal.SIGINT:
            break
    timer = threading.Timer(_GRACE_SECONDS, _interrupt)
    timer.daemon = True
    timer.start()
    while number := os.read(woken, 1):
        if number[0] == signal.SIGINT:
            _interrupt()


def _interrupt() -> None:
    os.write(2, _INTERRUPTED)
    os._exit(128 + signal.SIGINT)


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
