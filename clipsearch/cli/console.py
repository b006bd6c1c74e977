"""Messages, warnings and progress bars on stderr, and the device that --device names."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

import typer

from clipsearch._util import (
    ClipsearchWarning,
    escape_unprintable,
    is_remote,
    log_with,
    printable,
    quote,
)
from clipsearch.catalog.address import is_address
from clipsearch.types import OnProgress, Progress, as_path

_PHASES = {
    "scan": ("looking for images", "files"),
    "hash": ("reading", "files"),
    "embed": ("indexing", "images"),
    "classify": ("classifying", "images"),
    "ingest": ("ingesting", "images"),
    "publish": ("writing the vector index", "vectors"),
    "check": ("checking", "vectors"),
    "copy": ("copying", "rows"),
    "wait": ("waiting for what other machines have claimed", "files"),
    "compile": ("compiling the model", "steps"),
    "gate": ("comparing int8 with fp32", "images"),
    "topics": ("trying numbers of topics", "numbers"),
    "compare": ("comparing", "images"),
    "look": ("looking closely", "images"),
    "place": ("putting into folders", "images"),
    "captions": ("reading the captions that labels compete against", "captions"),
    "vocabulary": ("reading the phrases that topics are named with", "phrases"),
}
"""Progress.phase -> what a person calls it, and what it counts."""

_BAR_WIDTH = 40
_NAME_WIDTH = 40
"""Labels may be whole stories; a chart shows how they begin."""


_MOST_INPUT = 1 << 20
"""Bytes; a text of this many is too long for any model."""

NOTED = "{images} indexed though damaged or complained of: `clipsearch errors --notes`"
SOME_FILES_FAILED = 3
INTERRUPTED = 130
"""Exit codes."""


_interrupts: list[int] = []


def raise_interrupt(number: int, frame: object) -> None:
    """Raise KeyboardInterrupt, as Python's own handler of SIGINT does, and remember it."""
    _interrupts.append(number)
    raise KeyboardInterrupt


def here_only(given: Path | None) -> Path | None:
    """Refuse an address as the target of results: a callback of options. Raises UsageError."""
    if given is not None and is_remote(as_path(given)):
        raise UsageError(f"{as_path(given)} is an address: results are written on this machine.")
    return given


def was_interrupted() -> bool:
    """Tell whether Ctrl-C was pressed: modules in C make errors of another type of it."""
    return bool(_interrupts)


@contextmanager
def telling_interrupts(*lines: str) -> Iterator[None]:
    """End the command with 130 and these lines where Ctrl-C ends the block, wherever it arrives."""
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        from clipsearch._util.processes import is_interrupt  # most commands do without

        if not (was_interrupted() or is_interrupt(error)):
            raise
        say(*lines)
        raise typer.Exit(INTERRUPTED) from error


class UsageError(typer.BadParameter):
    """The command line makes no sense as a whole; exit code 2."""

    def format_message(self) -> str:
        """Return the message alone: no single parameter is to blame."""
        return self.message


def say(*lines: str) -> None:
    """Tell the user something that is not a result, in printable lines of bounded length."""
    for line in lines:
        print(printable(line), file=sys.stderr)


def say_error(error: Exception) -> None:
    """Tell the message of an error of ours; those of a few kinds have several lines."""
    say(*f"error: {error}".split("\n"))


def warn_all(messages: Iterable[str]) -> None:
    """Show the warnings that results carry."""
    for message in messages:
        say(f"warning: {message}")


def show_own_warnings() -> None:
    """Show warnings of clipsearch as one line each, and hide those of the libraries below it.

    Logged faults are shown likewise. `python -W` and PYTHONWARNINGS win: who asks for
    warnings gets all of them, as Python shows them.
    """
    log_with(_show_log)
    if sys.warnoptions:
        return

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, ClipsearchWarning):
            say(f"warning: {message}")

    warnings.showwarning = show


@cache
def _show_log() -> None:
    import logging  # `log_fault` has imported it

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"warning: {record.getMessage()}")

    logging.getLogger("clipsearch").addHandler(Lines(logging.WARNING))


def split_labels(labels: list[str]) -> list[str]:
    """Return the labels that one argument with commas names: a person is asked, a script told."""
    parts = [part for part in map(str.strip, labels[0].split(",")) if part] if labels else []
    if len(labels) != 1 or len(parts) < 2:
        return labels
    listed = ", ".join(map(quote, parts))
    if sys.stdin.isatty() and sys.stderr.isatty():
        print(
            printable(f"are these {len(parts)} labels: {listed}? [Y/n] "), end="", file=sys.stderr
        )
        sys.stderr.flush()
        return labels if sys.stdin.readline().strip().lower().startswith("n") else parts
    say(f"read as {len(parts)} labels: {listed}. One label with commas goes into a --labels FILE.")
    return parts


def split_thresholds(given: Sequence[str]) -> dict[str, float]:
    """Read `0.7`, for all labels, under the name "", and `cat=0.7`. Raises UsageError."""
    found = {}
    for text in given:
        label, _, number = text.rpartition("=")
        try:
            found[label] = float(number)
        except ValueError:
            found[label] = -1
        if not 0 <= found[label] <= 1:
            raise UsageError(f"--threshold {text}: give a probability from 0 to 1, or LABEL=P.")
    return found


def read_texts(texts: Sequence[str]) -> list[str]:
    """Return texts, with all of standard input in the place of `-`. Raises UsageError."""
    if "-" not in texts:
        return list(texts)
    given = sys.stdin.buffer.read(_MOST_INPUT + 1)
    if len(given) > _MOST_INPUT:
        raise UsageError(f"- stands for a text on standard input: at most {_MOST_INPUT:,} bytes.")
    text = given.decode("utf-8", "replace").strip()
    if not text:
        raise UsageError("- stands for a text on standard input: there is none.")
    return [text if one == "-" else one for one in texts]


def without_password(place: Any) -> Any:
    """Return where a library is. Raises UsageError for an address with a password, which others could read."""
    if not (place and is_address(place)):
        return place
    from clipsearch.catalog.address import Address

    if Address.parse(place).has_password:
        raise UsageError(
            "a password on the command line can be read by others: put it into ~/.pgpass or "
            "$PGPASSWORD, or for -L the whole address into $CLIPSEARCH_LIBRARY."
        )
    return place


@contextmanager
def progress() -> Iterator[OnProgress | None]:
    """Yield a callback that draws one bar a phase, with speed and time left; None off a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import console  # slow to import, and for terminals alone
    from rich import progress as shown

    columns = (
        shown.TextColumn("{task.description}"),
        shown.BarColumn(),
        shown.MofNCompleteColumn(),
        shown.TextColumn("{task.fields[speed]}"),
        shown.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    with shown.Progress(*columns, console=console.Console(stderr=True), transient=True) as bars:
        yield _drawer(bars.add_task, bars.update)


def _drawer(add: Callable[..., object], update: Callable[..., object]) -> OnProgress:
    tasks: dict[str, tuple[object, float, int]] = {}

    def draw(step: Progress) -> None:
        verb, unit = _PHASES.get(step.phase, (step.phase, "done"))
        if step.phase not in tasks:
            task = add(verb, total=step.total, completed=step.done, speed="")
            tasks[step.phase] = (task, monotonic(), step.done)
        task, start, first = tasks[step.phase]
        seconds = monotonic() - start
        speed = f"{(step.done - first) / seconds:,.1f} {unit}/s" if seconds > 0.5 else ""
        update(task, completed=step.done, total=step.total, speed=speed)

    return draw


# --- first steps of a model ------------------------------------------------------------------

_SAY_EVERY = 10.0
"""Seconds between two lines about the same step, off a terminal."""
_steps: dict[str, tuple[float, float]] = {}
"""Phase of a step that runs -> when it began, and when its last line was written."""


def announce(step: Progress) -> None:
    """Say that a step has begun that is done once for each model, and how far it is.

    In lines, so that it shows in a pipe and in a log too; on a terminal a line is overwritten.
    """
    now, total = monotonic(), step.total or 0
    verb, unit = _PHASES.get(step.phase, (step.phase, "done"))
    if not step.done or step.phase not in _steps:
        _steps[step.phase] = (now, now)
        say(f"{verb}, once for each model: {total:,} {unit}")
        return
    start, last = _steps[step.phase]
    terminal = sys.stderr.isatty()
    if step.done >= total:
        del _steps[step.phase]
        if last > start:
            _overwrite("") if terminal else say(f"  done in {now - start:,.0f} s")
    elif terminal or now - last >= _SAY_EVERY:
        _steps[step.phase] = (start, now)
        pace = step.done / max(now - start, 1e-3)
        left = f"{pace:,.1f} per second, {(total - step.done) / pace:,.0f} s left"
        line = f"  {step.done:,} of {total:,} {unit}, {left}"
        _overwrite(line) if terminal else say(line)


def _overwrite(line: str) -> None:
    print(f"\r{line}\x1b[K", end="\r", file=sys.stderr, flush=True)


def bar_chart(counts: Mapping[str, int], total: int) -> None:
    """Show one bar a label, scaled to the largest: `cat  ████████  12  60 %`.

    The percentages are shares of `total` images, which may have several labels each.
    """
    names = {label: _shorten(escape_unprintable(label)) for label in counts}
    name_width = max(map(len, names.values()), default=0)
    top = max(counts.values(), default=0)
    digits = len(f"{top:,}")
    width = min(_BAR_WIDTH, shutil.get_terminal_size().columns - name_width - digits - 12)
    block = "█" if (sys.stderr.encoding or "").lower().startswith("utf") else "#"
    for label, count in counts.items():
        bar = block * max(1, round(max(8, width) * count / top))
        share = f"{100 * count / total:3.0f} %"
        say(f"{names[label]:{name_width}}  {bar:{max(8, width)}}  {count:>{digits},}  {share}")


def _shorten(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1].rstrip()}…"


# --- the device ------------------------------------------------------------------------------

_DEVICE: list[str | None] = [None]


def set_device(name: str | None) -> None:
    """Store what --device names, for the command that follows it; None where it is not given."""
    _DEVICE[:] = [name]


def get_device() -> str | None:
    """Return the device that the command is to load models on; None for the default."""
    return _DEVICE[0]
