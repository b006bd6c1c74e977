"""Composed texts: the things that a text names, and what it would say with their attributes exchanged.

A model trained to match captions with images reads a sentence much like a bag of words (Yuksekgonul et
al. 2023, "When and why vision-language models behave like bags-of-words"): a scene that shows
some of the words, or all of them bound to other things, fits nearly as well. So each thing is asked
for by itself and, of a model that was trained to tell, for the same words bound the other
way.

This reads English: other languages, and texts that name one thing, have no composition.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_DETERMINERS = ("a", "an", "one", "two", "three", "four", "five", "six", "several", "some", "many")
_ARTICLES = frozenset((*_DETERMINERS, "the"))
_START = re.compile(rf"(?:^|(?<=\s))(?=(?:{'|'.join(_DETERMINERS)})\s)", re.IGNORECASE)
_LINK_WORDS = """
above across after against along among and are around as at before behind below beneath beside between beyond
but by down for from front in inside into is it left near next off on onto or out over past right sits stands
that there these they this those through to together toward towards under underneath up upon which while who
with within without
"""
_LINKS = frozenset(_LINK_WORDS.split())
_PLACES = frozenset(("left", "right", "top", "bottom", "side", "front", "back", "middle", "edge"))
_MOST_WORDS = 40
"""Longer texts are descriptions: they are read in pieces."""


class Composition(NamedTuple):
    """What a text of several things says."""

    parts: tuple[str, ...]
    """Each thing with its attributes, as the text names it: two at least."""
    exchanged: str
    """The text with the attributes of its first two things exchanged; empty if they have none, or
    the same."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts that are to be encoded, the exchanged one last."""
        return (*self.parts, self.exchanged) if self.exchanged else self.parts


def compose(text: str) -> Composition | None:
    """Find the things that a text names.

    Parameters
    ----------
    text
        A query.

    Returns
    -------
    None if the text names fewer than two.

    Examples
    --------
    >>> compose("an orange boy riding a blue horse")
    Composition(parts=('an orange boy riding', 'a blue horse'), exchanged='a blue boy riding an orange horse')
    >>> compose("a photo of a dog")
    """
    words = text.split()
    if len(words) > _MOST_WORDS:
        return None
    chunks = _chunks(" ".join(words).rstrip("."))
    phrases = [_name(chunk) for chunk in chunks]
    parts = [phrase for phrase in phrases if phrase]
    if len(parts) < 2:
        return None
    return Composition(tuple(parts), _exchange(chunks))


def _chunks(text: str) -> list[str]:
    """Cut a text before each determiner, but for those after "of" and "like"."""
    starts = [0, *(match.start() for match in _START.finditer(text) if match.start())]
    chunks: list[str] = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if chunks and _leads_on(chunks[-1]):
            chunks[-1] += text[start:end]
        else:
            chunks.append(text[start:end])
    return chunks


def _leads_on(chunk: str) -> bool:
    """Tell whether the words after a chunk say more of the same thing: "like a box", "a cup of"."""
    return chunk.endswith(" like ") or (chunk.endswith(" of ") and not _says_where(chunk))


def _says_where(chunk: str) -> bool:
    """Tell "to the left of", which names a place, from "a cup of"."""
    words = chunk.split()
    return words[-2] in _PLACES or _name(chunk) == ""


def _name(chunk: str) -> str:
    """Return what a chunk names, without what leads to the next one; empty if nothing."""
    words = chunk.split()
    links = (i for i, word in enumerate(words) if word.strip(",").lower() in _LINKS)
    named = words[: next(links, len(words))]
    things = [word for word in named if word.strip(",").lower() not in _ARTICLES]
    return " ".join(named).rstrip(",") if things else ""


def _exchange(chunks: list[str]) -> str:
    """Return the text with the attributes of the first two things exchanged."""
    named = [i for i, chunk in enumerate(chunks) if _attribute(chunk)]
    if len(named) < 2:
        return ""
    first, second = named[:2]
    one, other = _attribute(chunks[first]), _attribute(chunks[second])
    if one.lower() == other.lower():
        return ""
    found = list(chunks)
    found[first] = _put(chunks[first], one, other)
    found[second] = _put(chunks[second], other, one)
    return "".join(found)


def _attribute(chunk: str) -> str:
    """Return the first word after the determiner, if more of the name follows."""
    words = _name(chunk).split()
    while words and words[0].lower() in _ARTICLES:
        words = words[1:]
    return words[0] if len(words) > 1 and not words[0].endswith(",") and words[1] != "of" else ""


def _put(chunk: str, old: str, new: str) -> str:
    """Put another attribute in place of the first, with the article that it takes."""
    before, _, after = chunk.partition(old)
    if before.lower() in ("a ", "an "):
        article = "an " if new[0].lower() in "aeiou" else "a "
        before = article.capitalize() if before[0].isupper() else article
    return before + new + after
