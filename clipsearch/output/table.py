"""Aligned columns of text: fitted to the width of a terminal, complete and plain in a pipe."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TextIO

from clipsearch.output.wording import printable

_GAP = "  "
_NARROWEST = 6
"""Characters below which a shortened column tells nothing more, and is left out."""
# Where a cell may fold: after spaces and after the separators of paths, never inside a name.
_PIECES = re.compile(r"[^\s/\\]*[/\\]+|[^\s/\\]+\s*|\s+")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    stream: TextIO,
    *,
    shorten: Sequence[str] = (),
) -> None:
    """Write aligned columns.

    In a pipe nothing is cut. On a terminal that is too narrow the columns named by `shorten` are
    cut or left out, and the cells of the others fold between words and after the `/` of paths.

    Parameters
    ----------
    columns : sequence of str
        The headings; one that starts with `>` aligns its column right.
    rows : iterable of sequences of str
        The cells, as many per row as there are columns.
    stream : text file
        Where to write; its `isatty` says whether it is a terminal.
    shorten : sequence of str
        Headings of the columns that matter least, the first to go first.
    """
    heads = [name.removeprefix(">") for name in columns]
    right = [name.startswith(">") for name in columns]
    body = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, cells)) for cells in zip(heads, *body, strict=True)]
    if not stream.isatty():
        stream.writelines(_line(row, widths, right) + "\n" for row in [heads, *body])
        return
    room = shutil.get_terminal_size().columns
    widths = _fit(heads, body, widths, room, [heads.index(name) for name in shorten])
    bold, plain = ("\033[1m", "\033[0m") if _has_styles() else ("", "")
    stream.writelines(
        f"{bold}{line}{plain}\n" for line in _folded(heads, widths, right, shorten=())
    )
    shown = [width for width in widths if width]
    rule = "─" if (getattr(stream, "encoding", "") or "").lower().startswith("utf") else "-"
    stream.write(rule * min(room, sum(shown) + len(_GAP) * (len(shown) - 1)) + "\n")
    cut = [heads.index(name) for name in shorten]
    for row in body:
        stream.writelines(f"{line}\n" for line in _folded(row, widths, right, shorten=cut))


def _has_styles() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal: two for wide East Asian letters."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _fit(
    heads: Sequence[str],
    body: Sequence[Sequence[str]],
    widths: list[int],
    room: int,
    shorten: Sequence[int],
) -> list[int]:
    """Return widths that fit into the room, if they can; 0 leaves a column out."""
    widths = list(widths)

    def excess() -> int:
        shown = [width for width in widths if width]
        return sum(shown) + len(_GAP) * (len(shown) - 1) - room

    for column in shorten:
        if excess() > 0:
            smaller = widths[column] - excess()
            widths[column] = smaller if smaller >= _NARROWEST else 0
    least = [
        max(_longest_piece(row[column]) for row in [heads, *body]) for column in range(len(heads))
    ]
    while excess() > 0:
        spare = [width - low if width else 0 for width, low in zip(widths, least, strict=True)]
        widest = max(range(len(widths)), key=spare.__getitem__)
        if spare[widest] <= 0:
            break  # The line is longer than the terminal, but names stay whole.
        widths[widest] -= min(spare[widest], excess())
    return widths


def _longest_piece(text: str) -> int:
    return max((_width(piece.rstrip()) for piece in _PIECES.findall(text)), default=0)


def _folded(
    row: Sequence[str], widths: Sequence[int], right: Sequence[bool], shorten: Sequence[int]
) -> list[str]:
    """Return the lines of one row."""
    cells = [
        [_cut(cell, width)] if column in shorten else _fold(cell, width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    kept = [column for column, width in enumerate(widths) if width]
    lines = zip_longest(*(cells[column] for column in kept), fillvalue="")
    return [
        _line(line, [widths[column] for column in kept], [right[column] for column in kept])
        for line in lines
    ]


def _cut(cell: str, width: int) -> str:
    return cell if _width(cell) <= width else f"{cell[: max(0, width - 1)].rstrip()}…"


def _fold(cell: str, width: int) -> list[str]:
    if _width(cell) <= width:
        return [cell]
    lines = [""]
    for piece in _PIECES.findall(cell):
        if lines[-1] and _width(lines[-1] + piece.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += piece
    return [*lines[:-1], lines[-1].rstrip()]


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, flush in zip(cells, widths, right, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if flush else cell + space)
    return _GAP.join(padded).rstrip()
