"""Search for duplicates: near pairs by their vectors, then compared by their pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache

import numpy as np

from clipsearch._util import size_of, warn
from clipsearch._util.parallel import map_files
from clipsearch.errors import ImageError
from clipsearch.grouping.duplicates import (
    CANDIDATE_SCORE,
    COARSE,
    SCENE_LOOK,
    SCENE_SCORE,
    TIERS,
    Duplicates,
    Tier,
    cells,
    coarsen,
    group_around_best,
    group_by_bytes,
    layout_likeness,
    quality,
    same_image,
)
from clipsearch.images.apart import hanging_error
from clipsearch.images.decode import decode_square
from clipsearch.images.files import open_regular
from clipsearch.types import ImageRecord, OnProgress, Progress, ignore_progress
from clipsearch.vectors.exact import FaissFlatIndex

NEIGHBOURS = 32
"""Of an image, the nearest that are looked at; more copies of one image fall into two groups."""
_QUERIES_AT_ONCE = 1024
_PAIRS_AT_ONCE = 256
_CLOSE_LOOKS_KEPT = 256


def group_duplicates(
    records: Sequence[ImageRecord],
    vectors: np.ndarray,
    *,
    tiers: Sequence[Tier] = TIERS,
    scene_score: float = SCENE_SCORE,
    on_progress: OnProgress = ignore_progress,
) -> list[Duplicates]:
    """Group files that show the same, by tier, the groups that would save most bytes first.

    Tiers build on each other: of files with the same bytes, the best stands for all when images are
    compared, and of the same image the best when scenes are; so no file is named twice as one
    that could go. A file that is not there, or no longer holds what the library knows of it, is
    left out, with a warning: of the files of a group all are there now, and those with the same
    bytes have been read again.

    Parameters
    ----------
    records
        Of n files.
    vectors
        float32 (n, dim), the unit row of each record.
    tiers
        Those that are wanted.
    scene_score
        Least cosine of two images of one scene.
    on_progress
        Called as images are compared.
    """
    row = {record.path: i for i, record in enumerate(records)}
    found = group_by_bytes(_unchanged(records, on_progress, by_bytes="same-bytes" in tiers))
    groups = {"same-bytes": [group for group in found if len(group) > 1]}
    if set(tiers) - {"same-bytes"}:
        kept = sorted((group[0] for group in found), key=quality)
        images = _Images(kept, vectors[[row[r.path] for r in kept]], on_progress)
        groups["same-image"] = images.same_images()
        if "same-scene" in tiers:
            groups["same-scene"] = images.same_scenes(scene_score)
    return [
        group
        for tier in TIERS
        if tier in tiers
        for group in sorted(
            (
                _duplicates(tier, members, vectors[[row[r.path] for r in members]])
                for members in groups[tier]
            ),
            key=lambda group: (-group.bytes_saved, group.best),
        )
    ]


def _unchanged(
    records: Sequence[ImageRecord], on_progress: OnProgress, *, by_bytes: bool
) -> list[ImageRecord]:
    """Leave out files that are not what the library knows; read those that have the same bytes."""
    there = [record for record in records if size_of(record.path) == record.bytes]
    copies = Counter(record.sha256 for record in there)
    checked = [record for record in there if by_bytes and copies[record.sha256] > 1]
    changed = set()
    with closing(
        map_files(_hash, [record.path for record in checked], lambda path: None)
    ) as hashes:
        for done, (record, sha256) in enumerate(zip(checked, hashes, strict=True)):
            on_progress(Progress("hash", done, len(checked), record.path))
            if sha256 != record.sha256:
                changed.add(record.path)
    kept = [record for record in there if record.path not in changed]
    if len(kept) < len(records):
        paths = {record.path for record in kept}
        first = next(record.path for record in records if record.path not in paths)
        warn(
            f"left out, as they are not there or have changed: {len(records) - len(kept):,}, "
            f"{first} among them. `clipsearch index` of their folders brings the library up to date."
        )
    return kept


def _hash(path: str) -> str | None:
    try:
        with open_regular(path) as file:
            return file.hash()
    except ImageError:
        return None


def _duplicates(tier: Tier, members: Sequence[ImageRecord], vectors: np.ndarray) -> Duplicates:
    scores = np.minimum(1.0, vectors @ vectors[0])
    return Duplicates(tier, tuple(members), tuple(scores.tolist()))


class _Images:
    """Different contents, best first, and which pairs of them are near by their vectors."""

    def __init__(
        self, records: Sequence[ImageRecord], vectors: np.ndarray, on_progress: OnProgress
    ) -> None:
        self._records = records
        pairs, scores = near_pairs(vectors, least=CANDIDATE_SCORE, on_progress=on_progress)
        self._looks, read = _coarse_looks([r.path for r in records], pairs, on_progress)
        readable = read[pairs].all(axis=1)
        self._pairs, self._scores = pairs[readable], scores[readable]
        self._kept = np.ones(len(records), dtype=bool)
        self._close = lru_cache(_CLOSE_LOOKS_KEPT)(self._decode_closer)

    def same_images(self) -> list[tuple[ImageRecord, ...]]:
        """Group what differs by compression only; the best of each group stays for `same_scenes`."""
        near = self._pairs[_mask(self._pairs, self._compare_closely)]
        groups = group_around_best(range(len(self._records)), near, self._is_same)
        for group in groups:
            self._kept[group[1:]] = False
        return [tuple(self._records[i] for i in group) for group in groups]

    def same_scenes(self, least: float) -> list[tuple[ImageRecord, ...]]:
        """Group images near by vector (cosine `least` and up) and alike in layout and colour."""
        pairs = self._pairs[(self._scores >= least) & self._kept[self._pairs].all(axis=1)]
        near = pairs[_mask(pairs, self._compare_layout)]
        groups = group_around_best(range(len(self._records)), near, lambda one, other: True)
        return [tuple(self._records[i] for i in group) for group in groups]

    def _compare_layout(self, pairs: np.ndarray) -> np.ndarray:
        found: np.ndarray = layout_likeness(*self._looks_of(pairs)) >= SCENE_LOOK
        return found

    def _compare_closely(self, pairs: np.ndarray) -> np.ndarray:
        sizes = np.array([min(COARSE, self._cells(one, other)) for one, other in pairs.tolist()])
        found = np.zeros(len(pairs), dtype=bool)
        for size in set(sizes[sizes > 0].tolist()):
            some = sizes == size
            looks = (coarsen(look, size) for look in self._looks_of(pairs[some]))
            found[some] = same_image(*looks)
        return found

    def _is_same(self, best: int, other: int) -> bool:
        size = self._cells(best, other)
        if size <= COARSE:  # as close as these two can be looked at, and has been
            return True
        try:
            return bool(same_image(self._close(best, size), self._close(other, size)))
        except ImageError:  # vanished since the first look
            return False

    def _looks_of(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        one, other = (np.stack([self._looks[i] for i in column]) for column in pairs.T.tolist())
        return one, other

    def _decode_closer(self, i: int, size: int) -> np.ndarray:
        return decode_square(self._records[i].path, size)

    def _cells(self, one: int, other: int) -> int:
        return cells(self._records[one].facts, self._records[other].facts)


def near_pairs(
    vectors: np.ndarray,
    *,
    least: float,
    neighbours: int = NEIGHBOURS,
    on_progress: OnProgress = ignore_progress,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the rows that are near each other: exact, one search of a vector index per block of rows.

    Parameters
    ----------
    vectors
        float32 (m, dim), unit rows.
    least
        Least cosine of a pair.
    neighbours
        How many of the nearest of each row are paired with it.
    on_progress
        Called per block.

    Returns
    -------
    int64 (n, 2), each pair once, and cosines float32 (n,).
    """
    index = FaissFlatIndex(vectors)
    pairs, scores = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)]
    for start in range(0, len(vectors), _QUERIES_AT_ONCE):
        on_progress(Progress("compare", start, len(vectors)))
        block = np.arange(start, min(start + _QUERIES_AT_ONCE, len(vectors)))
        found, cosines = index.search(vectors[block], neighbours + 1)
        own = np.repeat(block[:, None], found.shape[1], axis=1)
        near = (cosines >= least) & (found != own)
        pairs.append(np.sort(np.stack([own[near], found[near]], axis=1), axis=1))
        scores.append(cosines[near])
    on_progress(Progress("compare", len(vectors), len(vectors)))
    unique, first = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return unique, np.concatenate(scores)[first]


def _mask(pairs: np.ndarray, test: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a test to pairs (n, 2), some at a time: bool (n,)."""
    blocks = [pairs[i : i + _PAIRS_AT_ONCE] for i in range(0, len(pairs), _PAIRS_AT_ONCE)]
    return np.concatenate([np.zeros(0, dtype=bool), *map(test, blocks)])


def _coarse_looks(
    paths: Sequence[str], pairs: np.ndarray, on_progress: OnProgress
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Read the images that are in a pair: row -> look, and which rows could be read, bool (n,)."""
    rows = np.unique(pairs).tolist()
    looks: dict[int, np.ndarray] = {}
    failed: list[ImageError] = []
    with closing(map_files(_look, [paths[row] for row in rows], _look_no_more)) as found:
        for done, (row, look) in enumerate(zip(rows, found, strict=True)):
            on_progress(Progress("look", done, len(rows), paths[row]))
            if isinstance(look, ImageError):
                failed.append(look)
            else:
                looks[row] = look
    on_progress(Progress("look", len(rows), len(rows)))
    if failed:
        more = f" and {len(failed) - 1:,} more" if len(failed) > 1 else ""
        warn(
            f"not compared, as it cannot be read: {failed[0]}{more}. `clipsearch index` of their "
            "folders brings the library up to date."
        )
    read = np.zeros(len(paths), dtype=bool)
    read[list(looks)] = True
    return looks, read


def _look_no_more(path: str) -> np.ndarray | ImageError:
    return hanging_error(path, read=False)


def _look(path: str) -> np.ndarray | ImageError:
    try:
        return decode_square(path, COARSE)
    except ImageError as error:
        return error
