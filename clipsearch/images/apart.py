"""Decode in a process of its own, which can be killed when it takes too long.

Threads decode as fast and start at once, but a decoder that hangs in a thread cannot be ended. Two
kinds of images are decoded here instead: JPEG 2000, whose decoder holds the lock of the interpreter,
so that Ctrl-C and every other thread would wait for it; and all images from the moment when a
decoder in a thread had to be given up (`decode_all_apart`).
"""

from __future__ import annotations

import atexit
import pickle
import sys
import time
from contextlib import suppress
from dataclasses import replace
from threading import Timer
from typing import TYPE_CHECKING, Any

from clipsearch._util.parallel import give_sign_of_life
from clipsearch._util.processes import can_start, start, take_stdout
from clipsearch.errors import ImageError, UnreadableImage

if TYPE_CHECKING:
    from clipsearch.images.encoded import DecodedImage

SECONDS = 60.0
"""Longest time that an image may take to be decoded."""

_HOLDS_THE_LOCK = ("JPEG2000",)
_idle: list[_Process] = []
_all_apart: list[bool] = []


def decode_all_apart() -> None:
    """From now on, decode every image apart: one of them hangs in a thread."""
    _all_apart[:] = [True]


def is_for_apart(format_: str | None) -> bool:
    """Tell whether images of this format, by Pillow's name, are decoded apart."""
    if _answering or not can_start():
        return False
    return format_ in _HOLDS_THE_LOCK or bool(_all_apart)


def decode_apart(
    data: bytes, name: str, *, seconds: float = SECONDS, **options: Any
) -> DecodedImage:
    """Decode an image in another process.

    Parameters
    ----------
    data
        The bytes of the file.
    name
        Its path, for messages.
    seconds
        Longest time; then the process is killed.
    options
        Of `EncodedImage`.

    Returns
    -------
    As `EncodedImage.decode` does.

    Raises
    ------
    UnreadableImage, ImageTooLarge
        As `EncodedImage.decode` does; UnreadableImage also if it takes too long, or if the decoder
        crashes.
    """
    give_sign_of_life(until=time.monotonic() + 2 * seconds)
    try:
        process = _idle.pop()
    except IndexError:
        process = _Process()
    answer = process.ask((data, name, options, seconds), seconds)
    give_sign_of_life()
    if answer is None:
        fault = "takes too long" if process.late else "crashes"
        raise UnreadableImage(name, f"decoding it {fault}: the file may be damaged")
    _idle.append(process)
    found: DecodedImage
    found, error = answer
    if error is not None:
        kind, reason = error
        raise kind(name, reason)
    return found


class _Process:
    """A process that answers questions one by one; it ends when its input does."""

    def __init__(self) -> None:
        self.late = False
        self._process = start("images.apart", "answer")

    def ask(self, question: tuple[Any, ...], seconds: float) -> Any:
        """Return the answer; None if the process had to be killed, or died."""
        timer = Timer(seconds, self._kill)
        timer.daemon = True
        timer.start()
        assert self._process.stdin and self._process.stdout
        try:
            pickle.dump(question, self._process.stdin, protocol=5)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            self.end()
            return None
        finally:
            timer.cancel()

    def _kill(self) -> None:
        self.late = True
        self._process.kill()

    def end(self) -> None:
        """End the process and wait for it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


@atexit.register
def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


# --- in the other process ----------------------------------------------------------------------

_answering: list[bool] = []


def answer() -> None:
    """Decode what comes in at stdin until it ends."""
    import signal

    from clipsearch.images.encoded import EncodedImage

    _answering[:] = [True]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; who asked gets it too
    out = take_stdout()
    with suppress(EOFError, BrokenPipeError):
        while True:
            data, name, options, seconds = pickle.load(sys.stdin.buffer)
            _limit_processor(seconds)
            found = error = None
            try:
                found = EncodedImage(data, name, **options).decode()
                # A reader of files does not come through a pipe whole.
                found = replace(found, image=found.image.copy())
            except ImageError as raised:
                error = type(raised), raised.reason
            pickle.dump((found, error), out, protocol=5)
            out.flush()
            del data, found


def _limit_processor(seconds: float) -> None:
    """Let the system end this process if it works on for that long: its parent may be gone."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime + seconds) + 2
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, most))
