"""Hits and predictions for tests of what is written, and readers of it."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from typing import Any

from clipsearch.output.formats import Kind, WriteOptions, write_value
from clipsearch.output.text import Items
from clipsearch.types import Facts, Hit, ImageRecord, LabelScore, Mode, Prediction

PHOTO = Facts(
    4000, 3000, "JPEG", datetime(2024, 5, 1, 12, 3, 4), "Google Pixel 8", None, -48.85, 2.35
)
SECRET = "ab" * 32
RECORDS = (
    ImageRecord("/p/a.jpg", 1, SECRET, 1234, PHOTO, ("cat", "dog")),
    ImageRecord("/p/=b.jpg", 2, SECRET, 5, PHOTO),
)


def hit(path: str, score: float, *, labels: tuple[str, ...] = ()) -> Hit:
    return Hit(path, score, ImageRecord(path, 1, SECRET, 1234, PHOTO, labels))


def prediction(path: str, **labels: float) -> Prediction:
    scores = tuple(LabelScore(name, p, p / 2) for name, p in labels.items())
    return Prediction(path, scores)


def judged(path: str, mode: Mode = "open", none: float = 0.0, **labels: float) -> Prediction:
    """Return a prediction of a mode that knows "none of these"."""
    return replace(prediction(path, **labels), mode=mode, none=none)


def written(items: Items, format: str, **options: Any) -> str:
    """Return what is written of hits or predictions in a text format."""
    stream = io.StringIO(newline="")
    kind: Kind = "predictions" if items and isinstance(items[0], Prediction) else "hits"
    write_value(items, kind, format, stream, WriteOptions(**options))
    return stream.getvalue()


def write_as(value: Any, kind: Kind, format: str, **options: Any) -> str:
    """Return what is written of a value of a kind in a text format."""
    stream = io.StringIO(newline="")
    write_value(value, kind, format, stream, WriteOptions(**options))
    return stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]
