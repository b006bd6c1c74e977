"""Decode in a process of its own, which can be killed when it takes too long.

Threads decode as fast and start at once, but a decoder that hangs in a thread cannot be ended. Two
kinds of images are decoded here instead: JPEG 2000, whose decoder holds the lock of the interpreter,
so that Ctrl-C and every other thread would wait for it; and all images from the moment when a
decoder in a thread had to be given up (`decode_all_apart`).
"""

from __future__ import annotations

import atexit
import sys
import time
from contextlib import suppress
from dataclasses import replace
from threading import Timer
from typing import TYPE_CHECKING, Any

from clipsearch._util import LazyModule
from clipsearch._util.parallel import give_sign_of_life
from clipsearch._util.processes import can_start, start, take_stdout
from clipsearch.errors import ImageError, UnreadableImage
from clipsearch.images.encoded import DecodedImage, EncodedImage

if TYPE_CHECKING:  # few images are decoded apart
    import pickle
else:
    pickle = LazyModule("pickle")

SECONDS = 60.0
"""Longest time that an image may take to be decoded."""

_HOLDS_THE_LOCK = ("JPEG2000",)
_idle: list[_Process] = []
_all_apart: list[bool] = []


def decode_all_apart() -> None:
    """From now on, decode every image apart: one of them hangs in a thread."""
    _all_apart[:] = [True]


def is_for_apart(image: EncodedImage) -> bool:
    """Tell whether an image is decoded apart."""
    return (image.format in _HOLDS_THE_LOCK or bool(_all_apart)) and can_start()


def decode_apart(image: EncodedImage, *, seconds: float = SECONDS) -> DecodedImage:
    """Decode an image in another process.

    Parameters
    ----------
    image
        Of which the header was read here.
    seconds
        Longest time; then the process is killed.

    Returns
    -------
    As `EncodedImage.decode` does.

    Raises
    ------
    UnreadableImage, ImageTooLarge
        As `EncodedImage.decode` does; UnreadableImage also if it takes too long, or if the decoder
        crashes.
    """
    name, options = image.name, {"at_least": image.at_least, "max_pixels": image.max_pixels}
    give_sign_of_life(until=time.monotonic() + 2 * seconds)
    try:
        process = _idle.pop()
    except IndexError:
        process = _Process()
    answer = process.ask((image.data, name, options, seconds), seconds)
    give_sign_of_life()
    if answer is None:
        if process.late:
            raise hanging_error(name, read=True)
        raise UnreadableImage(name, "the decoder crashes: the file may be damaged")
    _idle.append(process)
    found: DecodedImage
    found, error = answer
    if error is not None:
        kind, reason = error
        raise kind(name, reason)
    return found


def hanging_error(path: str, *, read: bool) -> UnreadableImage:
    """Return the error of a file that takes too long: to be decoded once it was read, or to be read.

    Parameters
    ----------
    path
        Of the file.
    read
        Whether its bytes have been read; if not, it is worth another attempt (`transient`).
    """
    doing, fault = ("decoding", "it") if read else ("reading", "its disk")
    reason = f"{doing} it takes longer than {SECONDS:.0f} seconds: {fault} may be damaged"
    return UnreadableImage(path, reason, transient=not read)


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


def answer() -> None:
    """Decode what comes in at stdin until it ends."""
    import signal

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
