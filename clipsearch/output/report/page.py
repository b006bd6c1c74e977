"""Reports as one HTML page in the look of the contact sheet: images and figures inside."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from clipsearch.output.html import css, link, page, thumbnail_uris
from clipsearch.output.report.content import Block, Card, Cards, Figure, Heading, Paragraph, Table


def html(blocks: Sequence[Block]) -> str:
    """Write blocks as a whole page: one file, nothing to fetch."""
    title = next((b.text for b in blocks if isinstance(b, Heading)), "")
    return page(title, _section(blocks))


def fragment(blocks: Sequence[Block]) -> str:
    """Write blocks as a part of a page with its own style, for a notebook's cell."""
    return f"<style>{css()}</style>\n{_section(blocks)}"


def _section(blocks: Iterable[Block]) -> str:
    body = "".join(map(_block, blocks))
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return (
        f'<section class="cs-sheet cs-report">\n<style>{style}</style>\n'
        f'<p class="cs-mark">clipsearch</p>\n{body}</section>\n'
    )


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level + 1}>{escape(text)}</h{level + 1}>\n"
        case Paragraph(text):
            return f"<p>{escape(text)}</p>\n"
        case Table(columns, rows):
            return _table(columns, rows)
        case Figure(title, png):
            data = b64encode(png).decode()
            image = f'<img src="data:image/png;base64,{data}" alt="{escape(title)}">'
            return f'<figure class="cs-drawn">{image}</figure>\n'
        case Cards(cards):
            return f'<ol class="cs-grid">{"".join(map(_card, cards))}</ol>\n'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    right = [' class="cs-right"' if column.startswith(">") else "" for column in columns]
    heads = "".join(
        f"<th{flush}>{escape(name.removeprefix('>'))}</th>"
        for name, flush in zip(columns, right, strict=True)
    )
    lines = (
        "".join(f"<td{flush}>{escape(cell)}</td>" for cell, flush in zip(row, right, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return (
        f'<div class="cs-table"><table>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table></div>\n"
    )


def _card(card: Card) -> str:
    name, note, path = escape(card.name), escape(card.note), escape(card.path)
    shown = [path for path in (card.path, card.other) if path]
    well = "".join(map(_image, shown, thumbnail_uris(shown)))
    pair = " cs-pair" if card.other else ""
    return (
        f'<li><figure><a class="cs-well{pair}" href="{link(card.path)}" title="{path}">{well}</a>'
        f'<figcaption><p class="cs-line"><span class="cs-name" title="{name}">{name}</span>'
        f'<span class="cs-num">{escape(card.number)}</span></p>'
        f'<p class="cs-note" title="{note}">{note}</p></figcaption></figure></li>'
    )


def _image(path: str, uri: str | None) -> str:
    name = escape(Path(path).name)
    if uri is None:
        return f'<span class="cs-gone">{name} cannot be read any more.</span>'
    return f'<img src="{uri}" alt="{name}">'
