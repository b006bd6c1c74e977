"""Where results go: stdout, a file or the web browser, in the form asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from clipsearch.cli.console import UsageError, say
from clipsearch.output.render import Format, render
from clipsearch.output.wording import Items

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".htm": "html",
    ".html": "html",
    ".json": "json",
    ".jsonl": "jsonl",
}


@dataclass(frozen=True)
class Output:
    """The options -f, -0, -o and --open together."""

    format: Format
    null: bool
    file: Path | None
    open: bool

    @classmethod
    def choose(cls, format: Format | None, null: bool, file: Path | None, open_: bool) -> Output:
        """Settle the format, before any work. Raises UsageError if the options disagree."""
        if open_ and format not in (None, "html"):
            raise UsageError(f"--open shows a contact sheet: leave out `-f {format}`.")
        if null and (open_ or format not in (None, "paths")):
            raise UsageError("-0 is for paths: use it alone or with `-f paths`.")
        implied: Format | None = "html" if open_ else "paths" if null else None
        by_name = SUFFIXES.get(file.suffix.lower()) if file else None
        return cls(format or implied or by_name or "table", null, file, open_)

    def write(self, items: Items, *, title: str) -> None:
        """Write the results to the file, else (with --open) to a new file, else to stdout."""
        with self.stream() as stream:
            render(items, self.format, stream, title=title, null=self.null)

    @contextmanager
    def stream(self) -> Iterator[TextIO]:
        """Yield where the results go; with --open, show them in the web browser at the end."""
        file = self.file or (_new_page() if self.open else None)
        with opened(file) as stream:
            yield stream
        if self.open and file:
            show_in_browser(file)


@contextmanager
def opened(file: Path | None) -> Iterator[TextIO]:
    """Yield the file to write to, and say that it is written; without one yield stdout."""
    if file is None:
        yield sys.stdout
        return
    # newline="": csv writes its own line ends, and paths may be ended by NUL.
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        yield stream
    say(f"wrote {file}")


def _new_page() -> Path:
    import tempfile

    # Not deleted on exit: the browser reads it after this process has ended.
    with tempfile.NamedTemporaryFile(prefix="clipsearch-", suffix=".html", delete=False) as page:
        return Path(page.name)


def show_in_browser(file: Path) -> None:
    """Open a page in the web browser, or say where it is if there is none."""
    import webbrowser

    if not webbrowser.open(file.absolute().as_uri()):
        say(f"no web browser could be started; open {file.absolute()} in one.")
