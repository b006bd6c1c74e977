"""Search for duplicates: near pairs by their vectors, then compared by their pixels.

Images are known by the numbers of their vectors. Of all images only numbers are held, and records
of those that are in a pair.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np

from clipsearch._util import is_remote, warn
from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch._util.parallel import map_files
from clipsearch._util.paths import size_of
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
    layout_likeness,
    quality,
    same_image,
)
from clipsearch.grouping.neighbours import near_pairs
from clipsearch.images.apart import hanging_error
from clipsearch.images.decode import decode_square
from clipsearch.images.files import open_regular
from clipsearch.types import ImageRecord, OnProgress, Progress, ignore_progress

_RECORDS_AT_ONCE = 2_000
_PAIRS_AT_ONCE = 256
_CLOSE_LOOKS_KEPT = 256


Files: TypeAlias = Mapping[int, Sequence[ImageRecord]]
"""The files of images, by the numbers of their vectors."""


class ImageSource(Protocol):
    """Images with vectors, and the files that have them."""

    def pages(self) -> Iterable[Files]:
        """Return the files of all images, some at a time, in the order of their numbers."""

    def files(self, numbers: IdArray) -> Files:
        """Return the files of some images."""

    def vectors(self, numbers: IdArray) -> FloatArray:
        """Return the unit rows of some images, float32 (m, dim)."""


def group_duplicates(
    images: ImageSource,
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
    images
        Read twice, and once more those that are near to others.
    tiers
        Those that are wanted.
    scene_score
        Least cosine of two images of one scene.
    on_progress
        Called as images are compared.
    """
    there = _FilesThere(images, on_progress, by_bytes="same-bytes" in tiers)
    groups: dict[Tier, list[list[ImageRecord]]] = {"same-bytes": there.copies()}
    if set(tiers) - {"same-bytes"}:
        pairs, scores = near_pairs(
            _Vectors(images, there.numbers), least=CANDIDATE_SCORE, on_progress=on_progress
        )
        near = np.unique(pairs)
        best = zip(near.tolist(), there.best(there.numbers[near]), strict=True)
        kept = sorted((quality(r), row, r) for row, r in best if r is not None)
        rank = np.full(len(there.numbers), -1)
        rank[[row for _, row, _ in kept]] = np.arange(len(kept))
        pairs = np.sort(rank[pairs], axis=1)
        order = np.lexsort(pairs.T[::-1])
        order = order[pairs[order, 0] >= 0]
        records = [record for _, _, record in kept]
        compared = _Images(records, pairs[order], scores[order], on_progress)
        groups["same-image"] = compared.same_images()
        if "same-scene" in tiers:
            groups["same-scene"] = compared.same_scenes(scene_score)
    return [
        group
        for tier in TIERS
        if tier in tiers
        for group in sorted(
            (_duplicates(tier, members, there.vectors(members)) for members in groups[tier]),
            key=lambda group: (-group.bytes_saved, group.best),
        )
    ]


class _FilesThere:
    """The images with a file that is what the library knows of it; warns of the files that are not."""

    def __init__(self, images: ImageSource, on_progress: OnProgress, *, by_bytes: bool) -> None:
        self._images = images
        self._number: dict[str, int] = {}
        """Of the files whose records were read."""
        self._changed: set[str] = set()
        left_out, first = 0, ""
        numbers, several = array("q"), array("q")
        for page in images.pages():
            for number, records in page.items():
                gone = [record.path for record in records if not _is_there(record)]
                if gone:
                    left_out += len(gone)
                    first = min(filter(None, (first, *gone)))
                if len(records) > len(gone):
                    numbers.append(number)
                if len(records) > len(gone) + 1:
                    several.append(number)
        self.numbers = np.array(numbers, np.int64)
        self._several = np.array(several, np.int64)
        if by_bytes:
            self._read_again(on_progress)
        if left_out := left_out + len(self._changed):
            first = min(filter(None, (first, *self._changed)))
            warn(
                f"left out, as they are not there or have changed: {left_out:,}, {first} among them. "
                "`clipsearch index` of their folders brings the library up to date."
            )

    def _read_again(self, on_progress: OnProgress) -> None:
        """Find the files of several that have the same bytes no longer."""
        checked = [record for files in self._files(self._several) for record in files]
        paths = [record.path for record in checked]
        with closing(map_files(_hash, paths, lambda path: None)) as hashes:
            for done, (record, sha256) in enumerate(zip(checked, hashes, strict=True)):
                on_progress(Progress("hash", done, len(checked), record.path))
                if sha256 != record.sha256:
                    self._changed.add(record.path)
        if self._changed:
            left = zip(self._several, self._files(self._several), strict=True)
            gone = [number for number, files in left if not files]
            self.numbers = np.setdiff1d(self.numbers, gone)

    def copies(self) -> list[list[ImageRecord]]:
        """Return the files with the same bytes, the best of each group first."""
        return [files for files in self._files(self._several) if len(files) > 1]

    def best(self, numbers: IdArray) -> list[ImageRecord | None]:
        """Return the best file of each image; None if there is none any more."""
        return [next(iter(files), None) for files in self._files(numbers)]

    def vectors(self, records: Sequence[ImageRecord]) -> FloatArray:
        """Return the unit row of each of some files that were returned."""
        return self._images.vectors(np.array([self._number[record.path] for record in records]))

    def _files(self, numbers: IdArray) -> Iterator[list[ImageRecord]]:
        """Yield the files of each image that are as the library knows them, the best first."""
        for start in range(0, len(numbers), _RECORDS_AT_ONCE):
            some = numbers[start : start + _RECORDS_AT_ONCE]
            found = self._images.files(some)
            for number in some.tolist():
                files = [
                    record
                    for record in found.get(number, ())
                    if record.path not in self._changed and _is_there(record)
                ]
                self._number |= {record.path: number for record in files}
                yield sorted(files, key=quality)


class _Vectors:
    """The rows of images by their places; see `neighbours.RowSource`."""

    def __init__(self, images: ImageSource, numbers: IdArray) -> None:
        self._images, self._numbers = images, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, some: IdArray) -> FloatArray:
        return self._images.vectors(self._numbers[some])


def _is_there(record: ImageRecord) -> bool:
    return is_remote(record.path) or size_of(record.path) == record.bytes


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
    """Different contents, best first, and pairs of them that are near by their vectors."""

    def __init__(
        self,
        records: Sequence[ImageRecord],
        pairs: IdArray,
        scores: FloatArray,
        on_progress: OnProgress,
    ) -> None:
        self._records = records
        self._looks, read = _coarse_looks([r.path for r in records], pairs, on_progress)
        readable = read[pairs].all(axis=1)
        self._pairs, self._scores = pairs[readable], scores[readable]
        self._kept = np.ones(len(records), dtype=bool)
        self._close = lru_cache(_CLOSE_LOOKS_KEPT)(self._decode_closer)

    def same_images(self) -> list[list[ImageRecord]]:
        """Group what differs by compression only; the best of each group stays for `same_scenes`."""
        near = self._pairs[_mask(self._pairs, self._compare_closely)]
        groups = group_around_best(range(len(self._records)), near, self._is_same)
        for group in groups:
            self._kept[group[1:]] = False
        return [[self._records[i] for i in group] for group in groups]

    def same_scenes(self, least: float) -> list[list[ImageRecord]]:
        """Group images near by vector (cosine `least` and up) and alike in layout and colour."""
        pairs = self._pairs[(self._scores >= least) & self._kept[self._pairs].all(axis=1)]
        near = pairs[_mask(pairs, self._compare_layout)]
        groups = group_around_best(range(len(self._records)), near, lambda one, other: True)
        return [[self._records[i] for i in group] for group in groups]

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
