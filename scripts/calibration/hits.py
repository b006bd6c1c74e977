"""Measure the order of hits, and what is cut off as not relevant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clipsearch.calibration.fit import auroc

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the log-mean-exp of an image."""


class Query(NamedTuple):
    """A query's row and the images that are relevant to it."""

    row: np.ndarray
    """float32 (dim,)."""
    relevant: np.ndarray
    """bool (n,)."""
    left_out: int = -1
    """The number of an image that is not searched: the query itself."""
    text: str = ""


Judge = Callable[[Query], np.ndarray]
"""Returns a number for each image (n,); from 0 on it is relevant, if that is known."""


class Figures(NamedTuple):
    """What an order of hits reaches, over queries."""

    precision: float
    """Mean average precision."""
    auroc: float
    """Of all relevant pairs over all others: whether one threshold serves all queries."""
    recall: float
    worst_recall: float
    exact: float
    """Precision of what is cut off at a half."""
    worst_exact: float

    def cells(self, *, cut: bool) -> list[str]:
        """Return them as cells of a table; cut: whether 0 is a threshold."""
        found = [f"{self.precision:.3f}", f"{self.auroc:.3f}"]
        if not cut:
            return [*found, "", ""]
        return [
            *found,
            f"{self.recall:.2f} ({self.worst_recall:.2f})",
            f"{self.exact:.2f} ({self.worst_exact:.2f})",
        ]


COLUMNS = ("mean average precision", "AUROC", "recall (worst)", "precision (worst)")


def measure(queries: Iterable[Query], judge: Judge) -> Figures:
    """Measure one order of hits."""
    found, right, wrong, cut = [], [], [], []
    for query in queries:
        searched = np.arange(len(query.relevant)) != query.left_out
        values, so = judge(query)[searched], query.relevant[searched]
        found.append(average_precision(values, so))
        right.append(values[so])
        wrong.append(values[~so])
        good = float((so & (values >= 0)).sum())
        cut.append((good / so.sum(), good / max((values >= 0).sum(), 1)))
    recall, exact = np.array(cut).T
    return Figures(
        float(np.mean(found)),
        auroc(np.concatenate(right), np.concatenate(wrong)),
        *(float(recall.mean()), float(recall.min())),
        *(float(exact.mean()), float(exact.min())),
    )


def average_precision(values: np.ndarray, relevant: np.ndarray) -> float:
    """Return the mean of the precisions at each relevant image, the highest values first."""
    ordered = relevant[np.argsort(-values, kind="stable")]
    return float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1))[ordered].mean())


def rows_of(queries: list[Query], judges: Mapping[str, tuple[Judge, bool]]) -> list[list[str]]:
    """Return a row of a table for each judge, and whether 0 is a threshold of it."""
    return [
        [name, *measure(queries, judge).cells(cut=cut)] for name, (judge, cut) in judges.items()
    ]


def weigh_log_mean_exp(
    images: np.ndarray, log_mean_exps: np.ndarray, scale: float
) -> dict[str, tuple[Judge, bool]]:
    """Return an order for each weight of the images' log-mean-exp; 0 is the order of cosines."""

    def judge(weight: float) -> Judge:
        return lambda query: scale * images @ query.row - weight * log_mean_exps

    return {
        "cosine" if not weight else f"cosine, less log-mean-exp x {weight:g}": (
            judge(weight),
            False,
        )
        for weight in WEIGHTS
    }


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
