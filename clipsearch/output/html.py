"""Contact sheets as HTML: images with what was found about them, in one file.

A writer takes a value of its kind, an open stream of text, and `WriteOptions`, of which it
uses what concerns it; it returns nothing and leaves the stream open.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from clipsearch._util import is_remote, plural
from clipsearch._util.parallel import map_files
from clipsearch.errors import ImageError
from clipsearch.images.thumbnails import make_thumbnail
from clipsearch.output.formats import WriteOptions
from clipsearch.output.text import (
    Items,
    bytes_text,
    exact_percent,
    fact_details,
    percent,
    relevant_count,
    runners_up,
    size_and_time,
)
from clipsearch.types import Hit, Prediction

if TYPE_CHECKING:
    from clipsearch.grouping.duplicates import Duplicates
    from clipsearch.grouping.topics import Topic

_TEMPLATES = Path(__file__).with_name("templates")
_THUMBNAIL_PIXELS = 448
"""Longest side of a thumbnail: twice the width of a cell, for sharp screens."""


@dataclass(frozen=True, slots=True)
class _Card:
    """An image on a sheet."""

    path: str
    name: str
    address: str
    thumbnail: str | None
    alt: str
    number: str
    share: float
    """The length of the bar, 0 to 1."""
    note: str
    details: str
    """All facts, shown when a pointer rests on the note."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The images of one label, or all images of a search, which have no label."""

    label: str | None
    cards: tuple[_Card, ...]


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A heading and its images."""

    title: str
    summary: str
    anchor: str
    groups: tuple[_Group, ...]


# --- writers ---------------------------------------------------------------------------------


def contact_page(items: Items, stream: TextIO, options: WriteOptions) -> None:
    """Write hits or predictions as a page of one contact sheet."""
    stream.write(sheets_page({options.title: items}))


def topics_page(topics: Sequence[Topic], stream: TextIO, options: WriteOptions) -> None:
    """Write topics as a page with a contact sheet for each."""
    sheets = {
        f"{topic.title}: {plural(len(topic.images), 'image')}": topic.images[
            : options.images_per_topic
        ]
        for topic in topics
    }
    stream.write(sheets_page(sheets or {"Topics": ()}))


def duplicates_page(groups: Sequence[Duplicates], stream: TextIO, options: WriteOptions) -> None:
    """Write groups of duplicates as a page with a contact sheet for each, the best copy first."""
    sheets = {}
    for number, group in enumerate(groups, start=1):
        tier, size = group.tier.replace("-", " "), bytes_text(group.bytes_saved)
        sheets[f"{number}. {tier}: the best first, the others are {size}"] = [
            Hit(record.path, score, record)
            for record, score in zip(group.records, group.scores, strict=True)
        ]
    stream.write(sheets_page(sheets or {"Duplicates": ()}))


def contact_sheet(items: Items, options: WriteOptions) -> str:
    """Return one contact sheet as an HTML fragment with its own style, for a notebook's cell."""
    return render_fragment("sheets.html.j2", sheets=[_sheet(options.title, items)])


def sheets_page(sheets: Mapping[str, Items]) -> str:
    """Return a page of contact sheets.

    Parameters
    ----------
    sheets : mapping of str to sequence of Hit or Prediction
        The heading of each sheet and its images.

    Returns
    -------
    str
        A whole HTML page in one file: it loads nothing and runs nothing.
    """
    made = [_sheet(title, items) for title, items in sheets.items()]
    return render_page("sheets.html.j2", next(iter(sheets), ""), sheets=made)


# --- templates -------------------------------------------------------------------------------


def render_page(template: str, title: str, **values: Any) -> str:
    """Return a whole page in the style of contact sheets, around a template."""
    return (
        _environment().get_template("page.html.j2").render(content=template, title=title, **values)
    )


def render_fragment(template: str, **values: Any) -> str:
    """Return a part of a page with its own style, scoped to `.cs-sheet`, around a template."""
    return _environment().get_template("fragment.html.j2").render(content=template, **values)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["css"] = lambda name: (_TEMPLATES / name).read_text("utf-8")
    made.filters["png_address"] = lambda png: f"data:image/png;base64,{b64encode(png).decode()}"
    made.filters["file_address"] = file_address
    made.filters["file_name"] = lambda path: Path(path).name
    made.filters["thumbnail_address"] = _thumbnail
    return made


def file_address(path: str) -> str:
    """Return the `file:` address of a file; one that is at an address has that."""
    if is_remote(path):
        return path
    return Path(path).absolute().as_uri()


# --- sheets ----------------------------------------------------------------------------------


def _sheet(title: str, items: Items) -> _Sheet:
    paths = [item.path for item in items]
    thumbnails = list(map_files(_thumbnail, paths, lambda path: None))
    best = max((item.score or 0.0 for item in items), default=0.0)
    groups: dict[str | None, list[_Card]] = {}
    for item, thumbnail in zip(items, thumbnails, strict=True):
        label = item.label if isinstance(item, Prediction) else None
        groups.setdefault(label, []).append(_card(item, thumbnail, best))
    largest_first = sorted(groups.items(), key=lambda group: -len(group[1])) or [(None, [])]
    return _Sheet(
        title,
        _summary(items),
        f"cs-{zlib.crc32(title.encode(errors='replace')):08x}",
        tuple(_Group(label, tuple(cards)) for label, cards in largest_first),
    )


def _summary(items: Items) -> str:
    if not items:
        return "No images"
    count = plural(len(items), "image")
    if isinstance(items[0], Prediction):
        labels = {item.label for item in items if isinstance(item, Prediction)}
        return f"{count} · {plural(len(labels), 'label')}"
    scores = [item.score or 0.0 for item in items]
    cosines = f"cosine {min(scores):.3f} to {max(scores):.3f}"
    return " · ".join(filter(None, (count, relevant_count(items), cosines)))


def _card(item: Hit | Prediction, thumbnail: str | None, best: float) -> _Card:
    name = Path(item.path).name
    if isinstance(item, Prediction):
        number, share = exact_percent(item.probability), item.probability
        alt, note = f"{name}: {item.label}", runners_up(item)
    else:
        # Cosines have no full scale of their own: the best hit is the scale of the bars.
        number, share = f"cosine {item.score:.3f}", max(0.0, item.score / best) if best > 0 else 0.0
        size, taken = size_and_time(item)
        labels = ", ".join(item.record.labels) if item.record else ""
        relevance = "" if item.relevance is None else f"relevance {percent(item.relevance)}"
        alt, note = name, " · ".join(filter(None, (relevance, size, taken[:10], labels)))
    address = file_address(item.path)
    details = " · ".join(filter(None, (note, fact_details(item))))
    return _Card(item.path, name, address, thumbnail, alt, number, share, note, details)


def _thumbnail(path: str) -> str | None:
    """Return a small image as a data URI, None for a file that cannot be read any more."""
    try:
        return (
            f"data:image/jpeg;base64,{b64encode(make_thumbnail(path, _THUMBNAIL_PIXELS)).decode()}"
        )
    except ImageError:
        return None
