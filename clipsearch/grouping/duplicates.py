"""Rules of duplicates: equal bytes, the same image in other files, the same scene; the best copy.

Pixels are compared as `decode_square` gives them: both images squeezed into the same square of
cells. Thresholds were set by `scripts/dupes/measure.py`, whose table is in
docs/guides/duplicates.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from clipsearch.types import Facts, ImageRecord

Tier = Literal["same-bytes", "same-image", "same-scene"]
TIERS: tuple[Tier, ...] = ("same-bytes", "same-image", "same-scene")

COARSE = 32
"""Cells a side of the first look: colours and layout, 3 KB an image."""
FINEST = 256
"""Cells a side of the closest look: in a page of text, a digit that differs is seen."""
PIXELS_A_CELL = 5
"""With fewer, the shape of the pixels shows more than the image does."""

MEAN_COLOUR = 4.0
"""Of 255, over all cells and channels: more is another image, or another colouring of it."""
WORST_LUMA = 12.0
"""Of 255, in any one cell: more is a change of content. JPEG stays below from quality 20 up."""
WORST_CHROMA = 16.0
"""Of 255, in any two by two cells, beside luma: colour is what compression is roughest with."""
PROPORTIONS = 0.03
"""How far the quotients of width and height may differ: resizing rounds to whole pixels."""
SCENE_CELLS = 16
SCENE_SHIFT = 2
"""Cells: the camera may have moved by an eighth of the image."""
SCENE_LOOK = 0.85
"""Correlation of colours, at the best shift, from which two images look alike."""
SCENE_SCORE = 0.85
"""Cosine from which two images may be of the same scene."""
CANDIDATE_SCORE = 0.8
"""Cosine from which pixels are compared at all: a small copy of low quality falls to about 0.85."""

LOSSLESS = {"PNG", "BMP", "TIFF", "PPM"}
WORTH = {"WEBP": 1.4, "JPEG2000": 1.2, "HEIF": 2.0, "AVIF": 2.0, "GIF": 0.1}
"""What a byte of a format is worth in bytes of JPEG, roughly; GIF has few colours for its many."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Files of which one would do. Nothing is ever deleted: that is for people to decide."""

    tier: Tier
    records: tuple[ImageRecord, ...]
    """The best one first, then the others, best first."""
    scores: tuple[float, ...]
    """The cosine of each with the best one."""

    @property
    def best(self) -> str:
        """The path of the copy to keep."""
        return self.records[0].path

    @property
    def others(self) -> tuple[str, ...]:
        """The paths of the copies that could go."""
        return tuple(record.path for record in self.records[1:])

    @property
    def similarity(self) -> float:
        """The cosine with the best copy of the one least like it."""
        return min(self.scores)

    @property
    def bytes_saved(self) -> int:
        """What the others take up."""
        return sum(record.bytes for record in self.records[1:])

    @property
    def safe(self) -> bool:
        """Whether the best one has all that the others show; each shot of a scene has its own."""
        return self.tier != "same-scene"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch dupes`."""
        return {
            "tier": self.tier,
            "best": self.best,
            "paths": [record.path for record in self.records],
            "similarity": self.similarity,
            "bytes_saved": self.bytes_saved,
        }


# --- which copy is best --------------------------------------------------------------------


def quality(record: ImageRecord) -> tuple[Any, ...]:
    """Return a key that sorts the best copy first.

    More pixels; then one that still knows when or by which camera it was taken; then a format
    without loss; then more bytes, by their WORTH; then the shortest path, and the first by
    alphabet.
    """
    facts = record.facts
    return (
        -facts.width * facts.height,
        facts.taken_at is None and facts.camera is None,
        facts.format not in LOSSLESS,
        -record.bytes * WORTH.get(facts.format, 1.0),
        len(record.path),
        record.path,
    )


# --- groups --------------------------------------------------------------------------------


def group_around_best(
    order: Sequence[int], pairs: np.ndarray, alike: Callable[[int, int], bool]
) -> list[list[int]]:
    """Group items, each with the best that it is alike; the best of a group first.

    Every member has been compared with the best of its group, so that likeness never passes on from
    copy to copy, as it would with connected components.

    Parameters
    ----------
    order
        All items, best first.
    pairs
        int (n, 2), those that may be alike.
    alike
        Tells whether two of them are.

    Returns
    -------
    Groups of two and more.
    """
    near: dict[int, list[int]] = {}
    for one, other in pairs.tolist():
        near.setdefault(one, []).append(other)
        near.setdefault(other, []).append(one)
    place = {item: number for number, item in enumerate(order)}
    taken: set[int] = set()
    groups = []
    for best in order:
        if best in taken:
            continue
        free = [item for item in near.get(best, ()) if item not in taken]
        later = sorted((item for item in free if place[item] > place[best]), key=place.__getitem__)
        group = [best, *(item for item in later if alike(best, item))]
        if len(group) > 1:
            taken.update(group)
            groups.append(group)
    return groups


# --- pixels --------------------------------------------------------------------------------


def cells(one: Facts, other: Facts) -> int:
    """Return in how many cells a side two images can be compared; 0 if they cannot be the same.

    As many as the smaller one has pixels for, from 8 to FINEST: up to COARSE a power of two, to be
    averaged from the first look, and above that an even number.
    """
    shapes = [facts.width / max(facts.height, 1) for facts in (one, other)]
    most = min(one.width, one.height, other.width, other.height) // PIXELS_A_CELL
    if max(shapes) > (1 + PROPORTIONS) * min(shapes) or most < 8:
        return 0
    return min(FINEST, most // 2 * 2) if most > COARSE else int(2 ** int(np.log2(most)))


def coarsen(looks: np.ndarray, size: int) -> np.ndarray:
    """Average uint8 looks (..., m, m, 3) to float32 (..., size, size, 3); `size` divides m."""
    *many, side, _, channels = looks.shape
    step = side // size
    blocks = looks.reshape(*many, size, step, size, step, channels)
    averaged: np.ndarray = blocks.mean(axis=(-4, -2), dtype=np.float32)
    return averaged


def same_image(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Say of looks (..., m, m, 3) in 0..255 whether nothing but compression tells them apart."""
    difference = one.astype(np.float32) - other.astype(np.float32)
    luma = difference @ _LUMA
    chroma = coarsen(difference - luma[..., None], one.shape[-2] // 2)
    alike: np.ndarray = (
        (np.abs(difference).mean(axis=(-3, -2, -1)) <= MEAN_COLOUR)
        & (np.abs(luma).max(axis=(-2, -1)) <= WORST_LUMA)
        & (np.abs(chroma).max(axis=(-3, -2, -1)) <= WORST_CHROMA)
    )
    return alike


def layout_likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how alike colours lie in looks (..., m, m, 3): the correlation at the best shift.

    Over shifts of up to SCENE_SHIFT cells of SCENE_CELLS a side, of what both show (normalised
    cross-correlation, Lewis 1995). float32 (...), -1 to 1; a plain surface is like none.
    """
    # Channels before cells: windows are then flat rows, which is three times as fast.
    a, b = (np.moveaxis(coarsen(look, SCENE_CELLS), -1, -3) for look in (one, other))
    shifts = range(-SCENE_SHIFT, SCENE_SHIFT + 1)
    found = [
        _correlate(
            a[..., _slice_overlap(y), _slice_overlap(x)],
            b[..., _slice_overlap(-y), _slice_overlap(-x)],
        )
        for y in shifts
        for x in shifts
    ]
    best: np.ndarray = np.max(found, axis=0)
    return best


def _slice_overlap(shift: int) -> slice:
    return slice(max(0, shift), SCENE_CELLS + min(0, shift))


def _correlate(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlate looks (..., 3, y, x) over all cells, each channel about its own mean: (...)."""
    a, b = _centre(one), _centre(other)
    size = np.sqrt(_dot(a, a) * _dot(b, b))
    found: np.ndarray = _dot(a, b) / np.maximum(size, 1.0)
    return found


def _centre(looks: np.ndarray) -> np.ndarray:
    *many, channels, _, _ = looks.shape
    rows = looks.reshape(*many, channels, -1)
    rows = rows - rows.mean(axis=-1, keepdims=True)
    return np.asarray(rows.reshape(*many, -1))


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray(np.einsum("...p,...p->...", one, other))
