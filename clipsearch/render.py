"""Writes hits and predictions in every form people and programs want: FORMATS, and contact sheets."""

from __future__ import annotations

import csv
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any, Literal, TextIO

from clipsearch.errors import ImageError
from clipsearch.types import Facts, Hit, Prediction, Results

Format = Literal["table", "json", "jsonl", "csv", "paths", "html"]
Items = Sequence[Hit | Prediction]

FACT_COLUMNS = (
    *("width", "height", "format", "bytes", "taken_at", "camera", "lens", "lat", "lon"),
    *("labels", "sha256"),
)
THUMBNAIL_PIXELS = 448
"""Longest side of a thumbnail: twice the width of a cell, for sharp screens."""
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
    """Write one row a picture: what was found, then its facts; runners-up as label_2, score_2, ..."""
    predictions = [_entries(i) for i in items if isinstance(i, Prediction)]
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
            values = [value for entry in _entries(item) for value in entry]
            values.insert(3, item.none)
        else:
            values = [item.score, item.relevance]
        values += [None] * (len(found) - len(values))
        facts = item.record.to_dict() if item.record else {}
        facts["labels"] = "; ".join(facts.get("labels", ()))
        row = [item.path, *values, *(facts.get(name) for name in FACT_COLUMNS)]
        writer.writerow(map(spreadsheet_safe, row))


def _entries(prediction: Prediction) -> list[tuple[str, float, float | None]]:
    """Return label, probability and score of what a prediction says, then of the other labels."""
    entries = [(one.label, one.probability, one.score) for one in prediction.labels]
    if prediction.holding:
        return [*entries]
    return [(prediction.label, prediction.probability, None), *entries]


def spreadsheet_safe(value: Any) -> Any:
    """Quote a text that a spreadsheet would run as a formula (OWASP, CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


# --- for people ----------------------------------------------------------------------------


def _table(items: Items, stream: TextIO) -> None:
    if items and isinstance(items[0], Prediction):
        rows = [
            (f"{100 * i.probability:.1f} %", i.label, shown_path(i.path), _runners_up(i))
            for i in items
            if isinstance(i, Prediction)
        ]
        table((">probability", "label", "picture", "then"), rows, stream)
    elif items:
        found = [i for i in items if isinstance(i, Hit)]
        judged = any(i.relevance is not None for i in found)
        hits = [
            (f"{i.score:.3f}", *[_percent(i.relevance)] * judged, shown_path(i.path), *_facts(i))
            for i in found
        ]
        table((">score", *[">relevance"] * judged, "picture", "size", "taken"), hits, stream)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _runners_up(prediction: Prediction, count: int = 2) -> str:
    """Say what else there is: the other labels that hold, else the next best ones."""
    others = _entries(prediction)[1:]
    shown = others if prediction.mode == "multi" else others[:count]
    return ", ".join(f"{label} {_percent(p)}" for label, p, _ in shown)


def relevant_of(items: Items) -> str:
    """Say how many of the pictures searched are relevant; nothing if that is not known."""
    if not isinstance(items, Results) or items.relevant is None or items.searched is None:
        return ""
    return f"{items.relevant:,} relevant of {items.searched:,}"


def _facts(item: Hit | Prediction) -> tuple[str, str]:
    facts: Facts | None = item.record.facts if item.record else None
    if facts is None:
        return "", ""
    taken = facts.taken_at.strftime("%Y-%m-%d %H:%M") if facts.taken_at else ""
    return f"{facts.width} × {facts.height}", taken


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
    """Count pictures by their best label, most frequent first."""
    return dict(Counter(p.label for p in predictions).most_common())


# --- contact sheets ------------------------------------------------------------------------


def contact_page(sheets: Mapping[str, Items]) -> str:
    """Return a whole HTML page of contact sheets, title -> pictures: one file, nothing to fetch."""
    body = "".join(
        _section(items, title, mark=i == 0) for i, (title, items) in enumerate(sheets.items())
    )
    return page(next(iter(sheets), ""), body)


def page(title: str, body: str) -> str:
    """Return a whole HTML page in the style of contact sheets: one file, nothing to fetch."""
    # The policy states what "self-contained" means: nothing is loaded, nothing runs.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title) or 'clipsearch'}</title>\n<style>\nbody {{ margin: 0 }}\n"
        "body, .cs-sheet:last-child { min-height: 100vh }\n"
        f"{css()}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def contact_sheet(items: Items, *, title: str = "") -> str:
    """Return one contact sheet as an HTML fragment with its own style, for a notebook's cell."""
    return f"<style>{css()}</style>\n{_section(items, title, mark=True)}"


def css() -> str:
    """Return the style of contact sheets, all of it scoped to `.cs-sheet`."""
    return Path(__file__).with_name("contact_sheet.css").read_text(encoding="utf-8")


def _section(items: Items, title: str, *, mark: bool) -> str:
    wordmark = '<p class="cs-mark">clipsearch</p>' if mark else ""
    thumbnails = thumbnail_uris([item.path for item in items])
    best = max((item.score or 0.0 for item in items), default=0.0)
    cards = [_card(item, uri, best) for item, uri in zip(items, thumbnails, strict=True)]
    nav, grid = _layout(items, cards, anchor=f"cs-{zlib.crc32(title.encode(errors='replace')):08x}")
    return (
        f'<section class="cs-sheet">\n<header class="cs-head">{wordmark}'
        f"<h2>{escape(title) or 'Pictures'}</h2>"
        f'<p class="cs-sum">{escape(_summary(items))}</p>{nav}</header>\n{grid}</section>\n'
    )


def _summary(items: Items) -> str:
    if not items:
        return "No pictures"
    count = f"{len(items):,} picture{'s' if len(items) > 1 else ''}"
    if isinstance(items[0], Prediction):
        labels = len({item.label for item in items if isinstance(item, Prediction)})
        return f"{count} · {labels} label{'s' if labels > 1 else ''}"
    scores = [item.score or 0.0 for item in items]
    cosines = f"cosine {min(scores):.3f} to {max(scores):.3f}"
    return " · ".join(filter(None, (count, relevant_of(items), cosines)))


def _layout(items: Items, cards: Sequence[str], *, anchor: str) -> tuple[str, str]:
    """Lay hits out in one grid; predictions in one a label, largest first, with links to them."""
    groups: dict[str, list[str]] = {}
    for item, card in zip(items, cards, strict=True):
        groups.setdefault(item.label if isinstance(item, Prediction) else "", []).append(card)
    links, grids = [], []
    for number, (label, members) in enumerate(sorted(groups.items(), key=lambda g: -len(g[1]))):
        if label:
            heading = f"{escape(label)} <small>{len(members):,}</small>"
            links.append(f'<li><a href="#{anchor}-{number}">{heading}</a></li>')
            grids.append(f'<h3 id="{anchor}-{number}">{heading}</h3>\n')
        grids.append(f'<ol class="cs-grid">{"".join(members)}</ol>\n')
    nav = (
        f'<nav aria-label="Labels"><ul class="cs-nav">{"".join(links)}</ul></nav>' if links else ""
    )
    return nav, "".join(grids)


def thumbnail_uris(paths: Sequence[str]) -> list[str | None]:
    """Return small pictures as data URIs, None for those that cannot be read any more."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(_thumbnail, paths))


def _thumbnail(path: str) -> str | None:
    from base64 import b64encode

    from clipsearch.decode import thumbnail

    try:
        return f"data:image/jpeg;base64,{b64encode(thumbnail(path, THUMBNAIL_PIXELS)).decode()}"
    except ImageError:
        return None


def _card(item: Hit | Prediction, thumbnail: str | None, best: float) -> str:
    name, path = escape(Path(item.path).name), escape(item.path)
    if isinstance(item, Prediction):
        number, share, alt = f"{100 * item.probability:.1f} %", item.probability, item.label
        note = escape(_runners_up(item))
    else:
        number, share, alt = f"{item.score:.3f}", _share(item.score, best), ""
        size, taken = _facts(item)
        saved = ", ".join(item.record.labels) if item.record else ""
        relevant = "" if item.relevance is None else f"{_percent(item.relevance)} relevant"
        note = escape(" · ".join(filter(None, (relevant, size, taken[:10], saved))))
    alt = f"{name}: {escape(alt)}" if alt else name
    well = (
        f'<img src="{thumbnail}" alt="{alt}" loading="lazy" decoding="async">'
        if thumbnail
        else f'<span class="cs-gone">{name} cannot be read any more.</span>'
    )
    return (
        f'<li><figure><a class="cs-well" href="{link(item.path)}" title="{path}">{well}</a>'
        f'<figcaption><p class="cs-line"><span class="cs-name" title="{path}">{name}</span>'
        f'<span class="cs-num">{number}</span></p>'
        f'<div class="cs-bar" aria-hidden="true"><i style="width:{100 * share:.1f}%"></i></div>'
        f'<p class="cs-note" title="{note}">{note or "&nbsp;"}</p></figcaption></figure></li>'
    )


def _share(score: float, best: float) -> float:
    """Scale a cosine to its bar: cosines have no full scale of their own, the best hit is the scale."""
    return max(0.0, score / best) if best > 0 else 0.0


def link(path: str) -> str:
    """Return the address of a file, ready to stand in HTML."""
    return escape(Path(path).absolute().as_uri(), quote=True)


FORMATS: dict[Format, Callable[[Items, TextIO], None]] = {
    "table": _table,
    "json": _json,
    "jsonl": _jsonl,
    "csv": _csv,
    "paths": _paths,
    "html": lambda items, stream: render(items, "html", stream),
}
"""Every form results can be written in; `render` is the way in."""
