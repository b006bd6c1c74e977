"""Unit vectors in a file: ids, lengths and float16 rows, mapped into memory or read as needed.

The float16 numbers are those of the catalog. Divided by their length in float32, they are the
catalog's vectors to the last bit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from clipsearch._util.arrays import AnyArray, FloatArray, HalfArray, IdArray, places_in
from clipsearch._util.parallel import parallel_for
from clipsearch.errors import SnapshotUnreadable, VectorIndexError
from clipsearch.vectors.ranking import check_rows, is_in
from clipsearch.vectors.storage.container import Sections, SectionWriter
from clipsearch.vectors.storage.float16 import choose_multiplier, float16_to_float32, to_float16

_STORED = "<f2"
_ROWS_PER_THREAD = 8_192
# Pages of a map that were touched count as memory of the process, on some systems with hundreds
# around each: after a few searches all of a large file would be resident. So the vectors of files
# beyond this size are read, where the system can read from an offset.
_MAP_UP_TO = 128 << 20
_LENGTH_TOLERANCE = 0.01
_CACHED_SECONDS = 2e-5  # the most that a row in the page cache takes on average
_SAMPLE_LEAST, _SAMPLE_MOST, _SAMPLE_SHARE = 8_192, 65_536, 64
_MANY = 16  # below one of 16, ids are looked up one by one

# --- reading -------------------------------------------------------------------------------


class StoredRows:
    """Ids int64 (n,) and unit vectors float32 (n, dim) in a file. Safe from several threads."""

    def __init__(self, sections: Sections, *, map_up_to: int | None = None) -> None:
        """Map the rows of a file.

        Parameters
        ----------
        sections
            The open file.
        map_up_to
            Vectors of more bytes are read where they are needed, not mapped; by default 128 MiB.

        Raises
        ------
        SnapshotUnreadable
            If sections are missing or damaged.
        """
        count, self.dim = int(sections.info["rows"]), int(sections.info["dim"])
        self.ids: IdArray = sections.array("ids", "<i8", (count,)).astype(np.int64, copy=False)
        self._sections = sections
        self._lengths = sections.array("lengths", "<f4", (count,))
        self._vectors: HalfArray = sections.array("vectors", _STORED, (count, self.dim))
        most = _MAP_UP_TO if map_up_to is None else map_up_to
        self._from_disk = True
        self._last: tuple[IdArray, IdArray] | None = None
        self._sample: tuple[IdArray, HalfArray] | None = None
        self._reads = hasattr(os, "pread") and self._vectors.nbytes > most

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def resident(self) -> int:
        """Bytes that are read on opening: ids and lengths."""
        return int(self.ids.nbytes + self._lengths.nbytes)

    def places_of(self, ids: IdArray) -> IdArray:
        """Return the places of these ids, int64 (w,) ascending; unknown ids are ignored.

        Those of the last array that cannot be written are kept: filters are mostly used again.
        """
        last = self._last
        if last is not None and last[0] is ids:
            return last[1]
        few = _MANY * len(ids) < len(self.ids) and self._ascending
        if few and (np.diff(ids) > 0).all():
            places = places_in(self.ids, ids)
            places = places[self.ids[places] == ids]
        else:
            places = np.flatnonzero(is_in(self.ids, ids))
        if not ids.flags.writeable:
            self._last = ids, places
        return places

    @cached_property
    def _ascending(self) -> bool:
        return bool((np.diff(self.ids) > 0).all())

    def take(self, places: IdArray) -> FloatArray:
        """Return the unit rows at some places.

        Parameters
        ----------
        places
            int64 (w,).

        Returns
        -------
        float32 (w, dim).

        Raises
        ------
        SnapshotUnreadable
            If a stored row does not have the stored length, as in a damaged file.
        """
        rows = float16_to_float32(self._read(places))
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        close = np.abs(lengths - self._lengths[places]) <= _LENGTH_TOLERANCE
        if not close.all():  # NaN is not close either
            raise self._explain_damage()
        rows /= self._lengths[places, None]
        return rows

    def cosines(self, queries: FloatArray, places: IdArray | None = None) -> FloatArray:
        """Compare queries with all rows or some.

        Parameters
        ----------
        queries
            float32 (m, dim).
        places
            Places of the rows to compare with, int64 (n,); None for all.

        Returns
        -------
        Cosines float32 (m, n), accurate to about 1e-6.

        Raises
        ------
        SnapshotUnreadable
            If a cosine is not finite.
        """
        if places is None:
            return self._multiply(queries, len(self), self._read, lambda some: some)
        return self._multiply(
            queries, len(places), lambda some: self._read(places[some]), places.__getitem__
        )

    def _multiply(
        self,
        queries: FloatArray,
        count: int,
        read: Callable[[slice], HalfArray],
        places: Callable[[slice], IdArray | slice],
    ) -> FloatArray:
        """Return the cosines float32 (m, count) with rows that `read` reads, at some places of all."""
        cosines = np.empty((len(queries), count), np.float32)
        make_multiplier, numbers_at_once = choose_multiplier(cosines.size * self.dim)
        step = max(1, numbers_at_once // self.dim)

        def compare(first: int, last: int) -> None:
            multiply = make_multiplier()
            for start in range(first, last, step):
                some = slice(start, min(start + step, last))
                part = multiply(queries, read(some))
                np.divide(part, self._lengths[places(some)], out=cosines[:, some])

        parallel_for(compare, count, least=_ROWS_PER_THREAD)
        if not np.isfinite(cosines).all():
            raise self._explain_damage()
        return cosines

    # --- a sample ---

    def sample_places(self) -> IdArray:
        """Return places that are spread evenly, int64 (s,): one in 64, from 8,192 to 65,536."""
        share = min(len(self) // _SAMPLE_SHARE, _SAMPLE_MOST)
        count = min(len(self), max(_SAMPLE_LEAST, share))
        return np.linspace(0, len(self) - 1, count).astype(np.int64)

    def read_sample(self) -> HalfArray:
        """Return the stored numbers of the sample, float16 (s, dim)."""
        return self._read(self.sample_places())

    def sample_cosines(self, queries: FloatArray) -> tuple[IdArray, FloatArray]:
        """Return the places (s,) of the sample and its cosines, float32 (m, s), as `cosines`."""
        if self._sample is None:
            places = self.sample_places()
            shape = (len(places), self.dim)
            if self._sections.has("sample"):
                self._sample = places, self._sections.array("sample", _STORED, shape)
            else:  # of an earlier version
                self._sample = places, self._read(places)
        places, numbers = self._sample
        cosines = self._multiply(queries, len(places), numbers.__getitem__, places.__getitem__)
        return places, cosines

    def blocks(self, step: int) -> Iterator[tuple[IdArray, FloatArray]]:
        """Yield all ids int64 (n,) and unit rows float32 (n, dim), `step` at a time."""
        for start in range(0, len(self), step):
            places = np.arange(start, min(start + step, len(self)))
            yield self.ids[places], self.take(places)

    def _read(self, places: IdArray | slice) -> HalfArray:
        """Return the stored numbers at these places, float16 (w, dim)."""
        if isinstance(places, slice):
            if not self._reads:
                return self._vectors[places]
            places = np.arange(places.start, places.stop)
        ends = np.flatnonzero(np.diff(places) != 1) + 1
        if not self._reads:
            adjacent = len(places) and not len(ends)
            return self._vectors[places[0] : places[-1] + 1] if adjacent else self._vectors[places]
        firsts = np.concatenate([[0], ends])[: len(places)]
        row = self._vectors.strides[0]
        sizes = np.diff(firsts, append=len(places)) * row
        offsets = self._sections.start_of("vectors") + places[firsts] * row
        content = self._read_runs(sizes.tolist(), offsets.tolist())
        if len(content) != len(places) * row:
            raise self._explain_damage()
        return np.frombuffer(content, _STORED).reshape(len(places), self.dim)

    def _read_runs(self, sizes: list[int], offsets: list[int]) -> bytes:
        """Read runs of bytes and join them; the result is short if the file ends before."""
        descriptor = self._sections.descriptor
        # All are announced first, so that the disk is not waited for once per run; not while the last
        # ones came from the page cache, where an announcement takes as long as reading.
        if self._from_disk and len(sizes) > 1 and hasattr(os, "posix_fadvise"):
            for size, offset in zip(sizes, offsets, strict=True):
                os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)
        started = time.perf_counter()
        content = b"".join([os.pread(descriptor, *run) for run in zip(sizes, offsets, strict=True)])
        self._from_disk = time.perf_counter() - started > _CACHED_SECONDS * len(sizes)
        return content

    def _explain_damage(self) -> SnapshotUnreadable:
        return SnapshotUnreadable(
            f"{self._sections.name} is damaged: it holds a row that is not a unit vector. Nothing "
            "is lost: `clipsearch rebuild` writes it again from the catalog."
        )


# --- writing -------------------------------------------------------------------------------


class StoredRowsWriter:
    """Writes vectors batch by batch: in memory are one batch, and the id and length of each row."""

    def __init__(self, writer: SectionWriter, dim: int) -> None:
        """Write vectors of `dim` numbers into sections of a file."""
        self._writer = writer
        self._dim = dim
        self._ids = [np.empty(0, np.int64)]
        self._lengths: list[FloatArray] = [np.empty(0, np.float32)]

    def write(self, batches: Iterable[tuple[IdArray, FloatArray]]) -> dict[str, Any]:
        """Write all batches.

        Parameters
        ----------
        batches
            Ids int64 (n,) with unit rows float32 (n, dim).

        Returns
        -------
        `{"rows": ..., "dim": ...}`, for `SectionWriter.finish`.

        Raises
        ------
        VectorIndexError
            If shapes do not fit, an id comes twice, a number is not finite or a row is all zeros.
        """
        self._writer.write_mapped("vectors", map(self._to_stored, batches))
        ids = np.concatenate(self._ids)
        if len(np.unique(ids)) < len(ids):
            raise VectorIndexError("cannot add the same id twice.")
        self._writer.write_checked("ids", ids.astype("<i8"))
        self._writer.write_checked("lengths", np.concatenate(self._lengths).astype("<f4"))
        return {"rows": len(ids), "dim": self._dim}

    def _to_stored(self, batch: tuple[IdArray, FloatArray]) -> AnyArray:
        ids, vectors = check_rows(*batch, self._dim, known=np.empty(0, np.int64))
        numbers, lengths = to_float16(vectors)
        if not lengths.all():
            raise VectorIndexError("cannot add a vector without a direction: all zeros.")
        self._ids.append(ids)
        self._lengths.append(lengths)
        return numbers.astype(_STORED, copy=False)
