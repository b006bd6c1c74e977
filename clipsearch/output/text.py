"""How values read as text, the same in tables, spreadsheets, pages and messages, and their columns.

Tables are fitted to the width of a terminal; in a pipe they are complete and plain.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, TypeAlias

from clipsearch import types
from clipsearch._util import escape_unprintable, plural
from clipsearch.types import NONE, Hit, Results
from clipsearch.types.facts import show_date

if TYPE_CHECKING:
    from clipsearch.heads.explain import Explanation, PromptScore

    Described = tuple[str, float, float | None, tuple[PromptScore, ...]]

_GAP = "  "
_NARROWEST = 6
"""Characters below which a shortened column tells nothing more, and is left out."""
# Where a cell may fold: after spaces and after the separators of paths, never inside a name.
_PIECES = re.compile(r"[^\s/\\]*[/\\]+|[^\s/\\]+\s*|\s+")
Items: TypeAlias = "Sequence[Hit | types.Prediction]"


class Estimate(Protocol):
    """A figure with its interval; both ends are NaN where none was computed."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


# --- numbers ---------------------------------------------------------------------------------


def percent(share: float | None) -> str:
    """Return a probability as whole percent, without calling anything certain that is not.

    >>> percent(0.12), percent(0.9961), percent(0.99999), percent(1.0), percent(0.001)
    ('12 %', '99.6 %', '> 99.9 %', '100 %', '< 1 %')
    """
    if share is None:
        return ""
    if 0 < share < 0.01:
        return "< 1 %"
    if 0.99 <= share < 1:
        return "> 99.9 %" if share > 0.999 else f"{math.floor(1000 * share) / 10:.1f} %"
    return f"{min(100 * share, 100):.0f} %"


def exact_percent(share: float) -> str:
    """Return a share with one decimal, a dash for NaN: `93.3 %`."""
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def three_digits(value: float) -> str:
    """Return a figure between 0 and 1 with three decimals, a dash for NaN: `0.933`."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def percent_with_interval(figure: Estimate) -> str:
    """Return a share and its interval: `93.3 % (90.2–96.0)`."""
    return exact_percent(figure.value) + _interval(figure, lambda x: f"{100 * x:.1f}")


def number_with_interval(figure: Estimate) -> str:
    """Return a figure between 0 and 1 and its interval: `0.933 (0.902–0.960)`."""
    return three_digits(figure.value) + _interval(figure, three_digits)


def rank_with_interval(figure: Estimate) -> str:
    """Return a rank and its interval: `1.5 (1–2)`."""
    return f"{figure.value:g}" + _interval(figure, lambda x: f"{x:g}")


def _interval(figure: Estimate, write: Callable[[float], str]) -> str:
    if math.isnan(figure.low) or math.isnan(figure.high):
        return ""
    return f" ({write(figure.low)}–{write(figure.high)})"


def bytes_text(count: int) -> str:
    """Return a number of bytes in decimal units: `512 bytes`, `1.4 kB`, `2,048.0 MB`."""
    if count < 1000:
        return plural(count, "byte")
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


# --- results ---------------------------------------------------------------------------------


def label_entries(prediction: types.Prediction) -> list[tuple[str, float, float | None]]:
    """Return label, probability and score of what a prediction says, then of the other labels."""
    entries = [(one.label, one.probability, one.score) for one in prediction.labels]
    if prediction.holding:
        return [*entries]
    return [(prediction.label, prediction.probability, None), *entries]


def runners_up(prediction: types.Prediction, count: int = 2, *, of: str | None = None) -> str:
    """Name the other labels: all that hold in the mode `multi`, else the next best `count`.

    "None of these" comes first where it is likelier than the label, but not likely enough to win.

    Parameters
    ----------
    prediction : Prediction
        Of one image.
    count : int
        How many labels are named, except in the mode `multi`.
    of : str or None
        The label beside which the others stand: by default the best one.
    """
    of = prediction.label if of is None else of
    others = [entry for entry in label_entries(prediction) if entry[0] != of]
    shown = others if prediction.mode == "multi" else others[:count]
    none = prediction.none
    if prediction.mode == "open" and none is not None and none > prediction.probability:
        shown = [(NONE, none, None), *shown]
    return ", ".join(f"{label} {percent(p)}" for label, p, _ in shown)


def relevant_count(items: Items) -> str:
    """Say how many of the images searched are relevant; empty if that was not counted."""
    if not isinstance(items, Results) or items.relevant is None or items.searched is None:
        return ""
    about = "about " if items.estimated else ""
    return f"{about}{items.relevant:,} relevant of {plural(items.searched, 'image')}"


def size_and_time(item: Hit | types.Prediction) -> tuple[str, str]:
    """Return the pixel size and the time of capture; empty where they are not known."""
    facts = item.record.facts if item.record else None
    if facts is None:
        return "", ""
    taken = show_date(facts.taken_at) if facts.taken_at else ""
    return f"{facts.width} × {facts.height}", taken


def fact_details(item: Hit | types.Prediction) -> str:
    """Return the facts of an image in one line: format, when and with what it was taken, ..."""
    known = item.record.facts.details() if item.record else []
    return " · ".join(text for _, text in known)


def shorten_path(path: str) -> str:
    """Shorten a path below the current folder to what a shell there would take."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


# --- aligned columns ---------------------------------------------------------------------------


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
    body = [[escape_unprintable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, cells)) for cells in zip(heads, *body, strict=True)]
    if not stream.isatty():
        stream.writelines(_line(row, widths, right) + "\n" for row in [heads, *body])
        return
    room = shutil.get_terminal_size().columns
    widths = _fit(heads, body, widths, room, [heads.index(name) for name in shorten])
    bold, plain = ("\033[1m", "\033[0m") if _has_styles() else ("", "")
    stream.writelines(
        f"{bold}{line}{plain}\n" for line in _fold_row(heads, widths, right, shorten=())
    )
    shown = [width for width in widths if width]
    rule = "─" if (getattr(stream, "encoding", "") or "").lower().startswith("utf") else "-"
    stream.write(rule * min(room, sum(shown) + len(_GAP) * (len(shown) - 1)) + "\n")
    cut = [heads.index(name) for name in shorten]
    for row in body:
        stream.writelines(f"{line}\n" for line in _fold_row(row, widths, right, shorten=cut))


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


def _fold_row(
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


def describe_labels(one: Explanation) -> list[Described]:
    """Return each label with its probability, score and prompts; first what the image got.

    "None of these" is among them where it was an answer.
    """
    rows: list[Described] = [(x.label, x.probability, x.score, x.prompts) for x in one.labels]
    if one.none is not None:
        place = 0 if one.label == NONE else len(rows)
        rows.insert(place, (NONE, one.none, None, ()))
    return rows
