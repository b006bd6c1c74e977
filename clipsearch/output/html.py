"""Contact sheets: images with what was found about them, as HTML in one file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from clipsearch.errors import ImageError
from clipsearch.output.wording import Items, details_of, facts_of, percent, relevant_of, runners_up
from clipsearch.types import Hit, Prediction

THUMBNAIL_PIXELS = 448
"""Longest side of a thumbnail: twice the width of a cell, for sharp screens."""


def contact_page(sheets: Mapping[str, Items]) -> str:
    """Return a whole HTML page of contact sheets, title -> images: one file, nothing to fetch."""
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
        f"<h2>{escape(title) or 'Images'}</h2>"
        f'<p class="cs-sum">{escape(_summary(items))}</p>{nav}</header>\n{grid}</section>\n'
    )


def _summary(items: Items) -> str:
    if not items:
        return "No images"
    count = f"{len(items):,} image{'s' if len(items) > 1 else ''}"
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
    """Return small images as data URIs, None for those that cannot be read any more."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(_thumbnail, paths))


def _thumbnail(path: str) -> str | None:
    from base64 import b64encode

    from clipsearch.images.thumbnails import make_thumbnail

    try:
        return (
            f"data:image/jpeg;base64,{b64encode(make_thumbnail(path, THUMBNAIL_PIXELS)).decode()}"
        )
    except ImageError:
        return None


def _card(item: Hit | Prediction, thumbnail: str | None, best: float) -> str:
    name, path = escape(Path(item.path).name), escape(item.path)
    if isinstance(item, Prediction):
        number, share, alt = f"{100 * item.probability:.1f} %", item.probability, item.label
        note = escape(runners_up(item))
    else:
        number, share, alt = f"{item.score:.3f}", _share(item.score, best), ""
        size, taken = facts_of(item)
        saved = ", ".join(item.record.labels) if item.record else ""
        relevant = "" if item.relevance is None else f"{percent(item.relevance)} relevant"
        note = escape(" · ".join(filter(None, (relevant, size, taken[:10], saved))))
    full = " · ".join(filter(None, (note, escape(details_of(item)))))
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
        f'<p class="cs-note" title="{full}">{note or "&nbsp;"}</p></figcaption></figure></li>'
    )


def _share(score: float, best: float) -> float:
    """Scale a cosine to its bar: cosines have no full scale of their own, the best hit is the scale."""
    return max(0.0, score / best) if best > 0 else 0.0


def link(path: str) -> str:
    """Return the address of a file, ready to stand in HTML."""
    return escape(Path(path).absolute().as_uri(), quote=True)
