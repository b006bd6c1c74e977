"""Writes hits and predictions in every form people and programs want: FORMATS."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from clipsearch.output.wording import Items, entries, facts_of, percent, runners_up
from clipsearch.types import Hit, Prediction
from clipsearch.types.facts import FACTS

Format = Literal["table", "json", "jsonl", "csv", "paths", "html"]

FACT_COLUMNS = ("bytes", *(fact.name for fact in FACTS), "labels", "sha256")
FORMULA_STARTS = tuple("=+-@\t\r")


def render(
    items: Items, format: Format, stream: TextIO, *, title: str = "", null: bool = False
) -> None:
    """Write `items` to `stream` in one of FORMATS.

    title: the heading of a contact sheet. null: end paths with NUL instead of a newline.
    """
    if format == "paths":
        _paths(items, stream, end="\0" if null else "\n")
    elif format == "html":
        from clipsearch.output.html import contact_page

        stream.write(contact_page({title: items}))
    else:
        FORMATS[format](items, stream)


# --- for programs --------------------------------------------------------------------------


def _json(items: Items, stream: TextIO) -> None:
    write_json([item.to_dict() for item in items], stream)


def write_json(value: Any, stream: TextIO) -> None:
    """Write JSON for people and programs: indented, one line at the end, no NaN."""
    stream.write(
        json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=str) + "\n"
    )


def _jsonl(items: Items, stream: TextIO) -> None:
    lines = (json.dumps(item.to_dict(), ensure_ascii=False, allow_nan=False) for item in items)
    stream.writelines(f"{line}\n" for line in lines)


def _paths(items: Items, stream: TextIO, *, end: str = "\n") -> None:
    stream.writelines(item.path + end for item in items)


def _csv(items: Items, stream: TextIO) -> None:
    """Write one row an image: what was found, then its facts; runners-up as label_2, score_2, ..."""
    predictions = [entries(i) for i in items if isinstance(i, Prediction)]
    ranks = max(map(len, predictions), default=0)
    if ranks:
        tails = ["", *(f"_{n}" for n in range(2, ranks + 1))]
        found = [f"{name}{tail}" for tail in tails for name in ("label", "probability", "score")]
        found.insert(3, "none")
    else:
        found = ["score", "relevance"]
    writer = csv.writer(stream)
    writer.writerow(["path", *found, *FACT_COLUMNS])
    for item in items:
        values: list[Any]
        if isinstance(item, Prediction):
            values = [value for entry in entries(item) for value in entry]
            values.insert(3, item.none)
        else:
            values = [item.score, item.relevance]
        values += [None] * (len(found) - len(values))
        facts = item.record.to_dict() if item.record else {}
        facts |= {
            name: "; ".join(value) for name, value in facts.items() if isinstance(value, list)
        }
        row = [item.path, *values, *(facts.get(name) for name in FACT_COLUMNS)]
        writer.writerow(map(spreadsheet_safe, row))


def spreadsheet_safe(value: Any) -> Any:
    """Quote a text that a spreadsheet would run as a formula (OWASP, CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


# --- for people ----------------------------------------------------------------------------


def _table(items: Items, stream: TextIO) -> None:
    if items and isinstance(items[0], Prediction):
        rows = [
            (f"{100 * i.probability:.1f} %", i.label, shown_path(i.path), runners_up(i))
            for i in items
            if isinstance(i, Prediction)
        ]
        table((">probability", "label", "image", "then"), rows, stream)
    elif items:
        found = [i for i in items if isinstance(i, Hit)]
        judged = any(i.relevance is not None for i in found)
        hits = [
            (f"{i.score:.3f}", *[percent(i.relevance)] * judged, shown_path(i.path), *facts_of(i))
            for i in found
        ]
        table((">score", *[">relevance"] * judged, "image", "size", "taken"), hits, stream)


def shown_path(path: str) -> str:
    """Shorten a path below the current folder to what a shell there would take."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], stream: TextIO) -> None:
    """Write aligned columns; a heading that starts with `>` aligns its column right.

    On a terminal long cells fold; in a pipe nothing is cut and nothing is coloured.
    """
    body = [[printable(cell) for cell in row] for row in rows]
    heads = [name.removeprefix(">") for name in columns]
    right = [name.startswith(">") for name in columns]
    if stream.isatty():
        _rich_table(heads, right, body, stream)
        return
    widths = [max(map(len, column)) for column in zip(heads, *body, strict=True)]
    for row in [heads, *body]:
        cells = [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ]
        stream.write("  ".join(cells).rstrip() + "\n")


def _rich_table(
    heads: Sequence[str], right: Sequence[bool], rows: Sequence[Sequence[str]], stream: TextIO
) -> None:
    # Imported here: rich takes longer to import than everything else a piped query needs.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for name, flush in zip(heads, right, strict=True):
        grid.add_column(name, justify="right" if flush else "left", overflow="fold")
    for row in rows:
        # Text, not str: square brackets in a file name are no markup.
        grid.add_row(*(Text(cell) for cell in row))
    Console(file=stream, highlight=False).print(grid)


def printable(text: str) -> str:
    """Escape what could break a line or steer a terminal; file names may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def label_counts(predictions: Iterable[Prediction]) -> dict[str, int]:
    """Count images by their best label, most frequent first."""
    return dict(Counter(p.label for p in predictions).most_common())


FORMATS: dict[Format, Callable[[Items, TextIO], None]] = {
    "table": _table,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "paths": _paths,
    "html": lambda items, stream: render(items, "html", stream),
}
"""Every form results can be written in; `render` is the way in."""
