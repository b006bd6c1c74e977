"""Start another Python: its memory goes with it, and it can be killed; and tell what Ctrl-C did here."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from clipsearch._util import LazyModule
from clipsearch.errors import ClipsearchError

if TYPE_CHECKING:  # few commands start a process
    import pickle
    import subprocess
else:
    pickle, subprocess = LazyModule("pickle"), LazyModule("subprocess")

_START = "import sys; sys.path[:] = {path!r}; from clipsearch.{module} import {name}; {name}()"


def can_start() -> bool:
    """Tell whether there is an interpreter: in a frozen program there is none."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def start(module: str, name: str) -> subprocess.Popen[bytes]:
    """Start a function in another Python, connected by its stdin and stdout.

    Parameters
    ----------
    module, name
        Of the function, which takes no arguments; the module without `clipsearch.` before it.

    Returns
    -------
    The process. Its stderr is that of this one.
    """
    code = _START.format(path=sys.path, module=module, name=name)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def take_stdout() -> Any:
    """Return the file to answer with; what libraries print goes to stderr from now on."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return out


def call_apart(
    module: str, name: str, *args: Any, on_progress: Callable[[Any], object], **options: Any
) -> Any:
    """Call a function in another Python, and wait for its result.

    Parameters
    ----------
    module, name
        Of the function, the module without `clipsearch.` before it.
    args, options
        For the function. All that goes to and fro is pickled.
    on_progress
        Is called here when the function calls its option `progress`.

    Returns
    -------
    What the function returns; None if the process died, or had a fault that is no error of ours.

    Raises
    ------
    ClipsearchError
        The message of the one that the function raised.
    """
    process = start("_util.processes", "answer_call")
    assert process.stdin and process.stdout
    with process:
        try:
            pickle.dump((module, name, args, options), process.stdin, protocol=5)
            process.stdin.flush()
            while True:
                kind, value = pickle.load(process.stdout)
                if kind == "done":
                    return value
                if kind == "failed":
                    raise ClipsearchError(value)
                on_progress(value)
        except (OSError, EOFError, pickle.UnpicklingError):
            return None
        finally:
            process.kill()


def answer_call() -> None:
    """Do what `call_apart` asks for, in the other process."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who asks gets it, too, and tells of it
    # Compiling multiplies small matrices by BLAS: more threads would wait, not compute.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    out = take_stdout()

    def send(kind: str, value: Any) -> None:
        pickle.dump((kind, value), out, protocol=5)
        out.flush()

    module, name, args, options = pickle.load(sys.stdin.buffer)
    try:
        function = getattr(import_module(f"clipsearch.{module}"), name)
        send("done", function(*args, progress=lambda value: send("progress", value), **options))
    except ClipsearchError as error:
        send("failed", str(error))
    except Exception:  # noqa: BLE001 - who asked goes on without the result, and meets it again
        send("done", None)


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an error is Ctrl-C, or came of it.

    Python raises KeyboardInterrupt between any two instructions, also where a lock is taken again
    (`threading.Condition.wait` then fails to release it) or where a module in C is imported, and
    what fails there raises an error of its own.

    Parameters
    ----------
    error
        What was caught.

    Returns
    -------
    True for KeyboardInterrupt and for an error raised while one was handled.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__context__
    return cause is not None
