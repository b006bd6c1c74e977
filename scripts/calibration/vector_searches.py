"""Searches on vectors of a real model, for `vectors.py`: names, example images, two things at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import way
from hits import COLUMNS, Judge, Query, average_precision, rows_of, weigh_log_mean_exp

from clipsearch._util.arrays import unit
from clipsearch.calibration import SEARCH_PRIOR, prior_log_odds
from clipsearch.calibration.background import Background
from clipsearch.calibration.cohort import CohortCentre
from clipsearch.calibration.image_cohort import ImageCohort, sample_of

EXAMPLES, PAIRS, ASKED = 300, 1500, 40
SHARES = (0.01, 0.1, 0.5, 0.9)
"""How many of the images of a library show what is asked for."""
Table = tuple[str, tuple[str, ...], list[list[str]]]
"""A title, heads and rows."""


@dataclass(frozen=True)
class Library:
    """Images, what they show, and texts."""

    images: np.ndarray
    keys: np.ndarray
    """str (n,): data set and label of each image."""
    labels: dict[str, np.ndarray]
    """Data set and label -> row of the label; some images have a label without one."""
    captions: np.ndarray
    scale: float

    @cached_property
    def background(self) -> Background:
        return Background(self.captions, self.scale)

    @cached_property
    def log_mean_exps(self) -> np.ndarray:
        return self.background.log_mean_exp(self.images)

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean of the images as an image in words is centred with."""
        chosen = sample_of(np.arange(len(self.images)))
        cohort = ImageCohort.of(
            self.images[chosen], self.log_mean_exps[chosen], self.captions, self.scale
        )
        return cohort.shrunk_mean

    def relevance(self, row: np.ndarray) -> np.ndarray:
        """Return the log odds (n,) that images are relevant to a row, as clipsearch judges it."""
        found = way.logits(self.images, row, self.captions, self.scale)
        return found + prior_log_odds(SEARCH_PRIOR)


def tables(library: Library) -> Iterator[Table]:
    """Measure everything."""
    yield names(library)
    yield examples(library)
    yield two_things(library)
    yield skewed(library)


def names(library: Library) -> Table:
    """Compare orders of hits of names."""
    queries = [Query(row, library.keys == key) for key, row in library.labels.items()]
    judges = weigh_log_mean_exp(library.images, library.log_mean_exps, library.scale)
    judges["**relevance, as shipped**"] = (lambda query: library.relevance(query.row), True)
    title = f"Searches for {len(queries)} names in {len(library.images):,} images"
    return title, ("order", *COLUMNS), rows_of(queries, judges)


# --- example images --------------------------------------------------------------------------


def examples(library: Library) -> Table:
    """Compare orders of hits of images: those of the same label are relevant."""
    known = np.flatnonzero([not key.endswith(": ") for key in library.keys])
    chosen = np.random.default_rng(0).choice(known, EXAMPLES, replace=False)
    queries = [Query(library.images[i], library.keys == library.keys[i], int(i)) for i in chosen]
    background, mean = library.background, library.mean

    def in_words(image: np.ndarray) -> np.ndarray:
        return background.in_words(image, mean)

    judges: dict[str, tuple[Judge, bool]] = {
        "cosine of the images": (lambda query: library.images @ query.row, False),
        "relevance, captions weighted by how they fit": (
            lambda query: library.relevance(weigh_captions(library.captions, query.row)),
            True,
        ),
        "cosine with the image in words": (
            lambda query: library.images @ in_words(query.row),
            False,
        ),
        "**relevance of the image in words, as shipped**": (
            lambda query: library.relevance(in_words(query.row)),
            True,
        ),
    }
    title = f"Searches for {EXAMPLES} images in {len(library.images):,}"
    return title, ("order", *COLUMNS), rows_of(queries, judges)


def weigh_captions(captions: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return an image in words another way: captions by how much better than others they fit."""
    centre = CohortCentre.of(captions)
    away = captions - centre.mean
    said = away.T @ (away @ np.asarray(image, np.float64))
    row = centre.mean + centre.distance * said / np.linalg.norm(said)
    return np.asarray((row / np.linalg.norm(row)).astype(np.float32))


# --- two things ------------------------------------------------------------------------------


def two_things(library: Library) -> Table:
    """Ask for two things where images, sums of two, show both or one of them.

    The sum of two names stands for the text, and the sum of two vectors for an image of both: no
    encoder is at hand.
    """
    rows = []
    sets = {key.partition(":")[0] for key in library.labels}
    for name in [*sorted(sets), "all of them"]:
        keys = [k for k in library.labels if name not in sets or k.startswith(f"{name}:")]
        found = np.array(list(_ask_for_two(library, keys))).mean(axis=0)
        for way_, (kept, refused, precision) in zip(
            ("as a whole", "**with each thing by itself, as shipped**"), found, strict=True
        ):
            rows.append([name, way_, f"{precision:.3f}", f"{kept:.2f}", f"{refused:.2f}"])
    heads = (
        "images",
        "relevance of the text",
        "mean average precision",
        "both: kept",
        "one: refused",
    )
    return f"Texts of two things, {PAIRS:,} sums of two images among others", heads, rows


def _ask_for_two(library: Library, keys: list[str]) -> Iterator[list[list[float]]]:
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.choice(keys, 2, replace=False).tolist()) for _ in range(PAIRS)]
    places = {key: np.flatnonzero(library.keys == key) for key in keys}
    sums = [
        library.images[rng.choice(places[a])] + library.images[rng.choice(places[b])]
        for a, b in pairs
    ]
    images = np.concatenate([unit(np.array(sums, np.float32)), library.images[::3]])
    for one, other in sorted({tuple(sorted(pair)) for pair in pairs})[:ASKED]:
        shown = np.array([len({one, other} & set(pair)) for pair in pairs])
        rows = (library.labels[one], library.labels[other])
        text = unit((rows[0] + rows[1])[None])[0]
        whole, *parts = (
            way.logits(images, row, library.captions, library.scale) for row in (text, *rows)
        )
        gap = np.abs(parts[0] - parts[1])
        odds = whole + prior_log_odds(SEARCH_PRIOR)
        yield [
            _figures(found[:PAIRS], shown)
            for found in (odds, odds + np.minimum(whole - gap - way.COMPOSITION, 0))
        ]


def _figures(odds: np.ndarray, shown: np.ndarray) -> list[float]:
    both, one = odds[shown == 2], odds[shown == 1]
    return [float((both >= 0).mean()), float((one < 0).mean()), average_precision(odds, shown == 2)]


# --- libraries of one kind -------------------------------------------------------------------


def skewed(library: Library) -> Table:
    """Ask for names in libraries of which few or most images show them."""
    rows = []
    rng = np.random.default_rng(0)
    for share in SHARES:
        found = []
        for key, row in library.labels.items():
            mine, others = (np.flatnonzero(so) for so in (library.keys == key, library.keys != key))
            size = min(len(mine) / share, len(others) / (1 - share))
            chosen = rng.choice(mine, max(1, round(size * share)), replace=False)
            rest = rng.choice(others, round(size * (1 - share)), replace=False)
            images = library.images[np.sort(np.concatenate([chosen, rest]))]
            relevant = library.keys[np.sort(np.concatenate([chosen, rest]))] == key
            holds = way.relevance(images, row, library.captions, library.scale) >= 0.5
            good = (holds & relevant).sum()
            found.append((good / relevant.sum(), good / max(holds.sum(), 1)))
        recall, precision = np.array(found).T
        rows.append(
            [
                f"{100 * share:.0f} %",
                f"{recall.mean():.2f} ({recall.min():.2f})",
                f"{precision.mean():.2f} ({precision.min():.2f})",
            ]
        )
    return "Searches by how many images are relevant", ("relevant", *COLUMNS[2:]), rows
