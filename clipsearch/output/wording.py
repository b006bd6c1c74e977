"""How values read as text, the same in tables, spreadsheets, pages and messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from clipsearch.types import Hit, Prediction, Results

Items = Sequence[Hit | Prediction]


class Estimate(Protocol):
    """A figure with its interval; both ends are NaN where none was computed."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


# --- numbers ---------------------------------------------------------------------------------


def plural(count: int, noun: str) -> str:
    """Return a count with its noun in the right number.

    >>> plural(1, "file"), plural(2000, "file"), plural(0, "query")
    ('1 file', '2,000 files', '0 queries')
    """
    if count == 1:
        return f"1 {noun}"
    ending = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{count:,} {ending}"


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


def label_entries(prediction: Prediction) -> list[tuple[str, float, float | None]]:
    """Return label, probability and score of what a prediction says, then of the other labels."""
    entries = [(one.label, one.probability, one.score) for one in prediction.labels]
    if prediction.holding:
        return [*entries]
    return [(prediction.label, prediction.probability, None), *entries]


def runners_up(prediction: Prediction, count: int = 2) -> str:
    """Name the other labels: all that hold in the mode `multi`, else the next best `count`."""
    others = label_entries(prediction)[1:]
    shown = others if prediction.mode == "multi" else others[:count]
    return ", ".join(f"{label} {percent(p)}" for label, p, _ in shown)


def relevant_count(items: Items) -> str:
    """Say how many of the images searched are relevant; empty if that was not counted."""
    if not isinstance(items, Results) or items.relevant is None or items.searched is None:
        return ""
    return f"{items.relevant:,} relevant of {plural(items.searched, 'image')}"


def size_and_time(item: Hit | Prediction) -> tuple[str, str]:
    """Return the pixel size and the time of capture; empty where they are not known."""
    facts = item.record.facts if item.record else None
    if facts is None:
        return "", ""
    taken = facts.taken_at.strftime("%Y-%m-%d %H:%M") if facts.taken_at else ""
    return f"{facts.width} × {facts.height}", taken


def fact_details(item: Hit | Prediction) -> str:
    """Return the facts of an image in one line: format, when and with what it was taken, ..."""
    known = item.record.facts.details() if item.record else []
    return " · ".join(text for _, text in known)


def shown_path(path: str) -> str:
    """Shorten a path below the current folder to what a shell there would take."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def printable(text: str) -> str:
    """Escape what could break a line or steer a terminal; file names may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
