"""Reports as Markdown: text that reads as it is, the figures inlined at its end."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable

from clipsearch.output.html import link
from clipsearch.output.render import shown_path
from clipsearch.output.report.content import Block, Card, Cards, Figure, Heading, Paragraph, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~])")


def markdown(blocks: Iterable[Block]) -> str:
    """Write blocks as GitHub's Markdown."""
    parts, images = [], []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"{'#' * level} {_escaped(text)}")
            case Paragraph(text):
                parts.append(_escaped(text))
            case Table(columns, rows):
                parts.append(_table(columns, rows))
            case Figure(title, png):
                # The data goes last, so that nobody has to scroll past it.
                images.append(f"[{title}]: data:image/png;base64,{b64encode(png).decode()}")
                parts.append(f"![{title}][{title}]")
            case Cards(cards):
                parts.append("\n".join(map(_item, cards)))
    return "\n\n".join([*parts, *images]) + "\n"


def _item(card: Card) -> str:
    said = f"{_escaped(card.number)} {_escaped(card.name)} ({_escaped(card.note)})"
    return f"- {said}: [{_escaped(shown_path(card.path))}]({link(card.path)})"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    heads = [column.removeprefix(">") for column in columns]
    rules = ["---:" if column.startswith(">") else "---" for column in columns]
    body = [[_escaped(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*map(_escaped, heads)], rules, *body))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
