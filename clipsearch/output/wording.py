"""What results say in words: in tables, in spreadsheets and on contact sheets alike."""

from __future__ import annotations

from collections.abc import Sequence

from clipsearch.types import Facts, Hit, Prediction, Results

Items = Sequence[Hit | Prediction]


def entries(prediction: Prediction) -> list[tuple[str, float, float | None]]:
    """Return label, probability and score of what a prediction says, then of the other labels."""
    entries = [(one.label, one.probability, one.score) for one in prediction.labels]
    if prediction.holding:
        return [*entries]
    return [(prediction.label, prediction.probability, None), *entries]


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def runners_up(prediction: Prediction, count: int = 2) -> str:
    """Say what else there is: the other labels that hold, else the next best ones."""
    others = entries(prediction)[1:]
    shown = others if prediction.mode == "multi" else others[:count]
    return ", ".join(f"{label} {percent(p)}" for label, p, _ in shown)


def relevant_of(items: Items) -> str:
    """Say how many of the images searched are relevant; nothing if that is not known."""
    if not isinstance(items, Results) or items.relevant is None or items.searched is None:
        return ""
    return f"{items.relevant:,} relevant of {items.searched:,}"


def details_of(item: Hit | Prediction) -> str:
    """Return the facts of an image in one line: format, when and with what it was taken, ..."""
    known = item.record.facts.details() if item.record else []
    return " · ".join(text for _, text in known)


def facts_of(item: Hit | Prediction) -> tuple[str, str]:
    facts: Facts | None = item.record.facts if item.record else None
    if facts is None:
        return "", ""
    taken = facts.taken_at.strftime("%Y-%m-%d %H:%M") if facts.taken_at else ""
    return f"{facts.width} × {facts.height}", taken
