"""Lists of labels on vectors of a real model: each image by itself, and among those of the library.

`vectors.py` prints these tables. Libraries are skewed: they hold all images of one label, and a
share of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import way

from clipsearch.calibration.image_cohort import ImageCohort
from clipsearch.fewshot.methods import Task, linear_probe

if TYPE_CHECKING:
    from vectors import DataSet

SCALE = 100.0
SHARES = (1.0, 0.3, 0.05)
SHOTS = (1, 2, 4, 8, 16)
DRAWS = 6
STRENGTH = 1.0
Tables = Iterator[tuple[str, list[str], list[list[str]]]]


def tables(sets: Sequence[DataSet], captions: np.ndarray) -> Tables:
    """Yield title, columns and rows of each table."""
    rows = [[one.name, *_lists(one, captions, share)] for one in sets for share in SHARES]
    columns = ["labels", "share of the others", "by itself", "among the library"]
    yield "Right answers where one of the labels holds, in skewed libraries", columns, rows
    rows = [[one.name, *_few_shot(one, captions, shots)] for one in sets for shots in SHOTS]
    columns = ["labels", "images per label", "from the text", "from moved rows"]
    yield (
        "A linear probe that starts from the text, and from rows that the library moved",
        columns,
        rows,
    )


def _lists(data: DataSet, captions: np.ndarray, share: float) -> list[str]:
    """Return the mean accuracy over libraries in which one label has all its images."""
    rng, alone, among = np.random.default_rng(0), [], []
    for label in range(len(data.labels)) if share < 1 else [0]:
        kept = (data.truth == label) | (rng.random(len(data.truth)) < share)
        images, truth = data.images[kept], data.truth[kept]
        shares, _ = way.several(images, data.labels, captions, SCALE)
        alone.append(((images @ data.labels.T).argmax(axis=1) == truth).mean())
        among.append((shares.argmax(axis=1) == truth).mean())
    return [f"{share:.0%}", f"{np.mean(alone):.3f}", f"{np.mean(among):.3f}"]


def _few_shot(data: DataSet, captions: np.ndarray, shots: int) -> list[str]:
    """Return the mean accuracy of a probe from both beginnings, on the other images."""
    shown, _ = way.several(data.images, data.labels, captions, SCALE)
    log_mean_exps = np.zeros(len(data.images), np.float32)
    cohort = ImageCohort.of(data.images, log_mean_exps, captions, SCALE)
    found = []
    for rows in (data.labels, cohort.move_rows(data.labels, shown)):
        task, right = Task(data.images, data.truth, rows, SCALE), []
        for draw in range(DRAWS):
            chosen = task.draw(shots, seed=draw)
            probe = linear_probe(task.part(chosen), STRENGTH)
            best = probe.scores(data.images[~chosen]).argmax(axis=1)
            right.append((best == data.truth[~chosen]).mean())
        found.append(f"{np.mean(right):.4f}")
    return [str(shots), *found]
