"""Unit vectors in a file: ids, lengths and float16 rows, mapped into memory or read as needed.

The float16 numbers are those of the catalog. Divided by their length in float32, they are the
catalog's vectors to the last bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from clipsearch._util.arrays import AnyArray, FloatArray, HalfArray, IdArray
from clipsearch._util.parallel import parallel_for
from clipsearch.errors import SnapshotUnreadable, VectorIndexError
from clipsearch.vectors.ranking import check_rows, is_in
from clipsearch.vectors.storage.container import Sections, SectionWriter

_STORED = "<f2"
_NUMBERS_AT_ONCE = 1 << 18  # int32 numbers: 1 MiB, which stays in the cache of a core
_ROWS_PER_THREAD = 8_192
# Pages of a map that were touched count as memory of the process, on some systems with hundreds
# around each: after a few searches all of a large file would be resident. So the vectors of files
# beyond this size are read, where the system can read from an offset.
_MAP_UP_TO = 128 << 20
_LENGTH_TOLERANCE = 0.01

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
        self._reads = hasattr(os, "pread") and self._vectors.nbytes > most

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def resident(self) -> int:
        """Bytes that are read on opening: ids and lengths."""
        return int(self.ids.nbytes + self._lengths.nbytes)

    def places_of(self, ids: IdArray) -> IdArray:
        """Return the places of these ids, int64 (w,) ascending; unknown ids are ignored."""
        return np.flatnonzero(is_in(self.ids, ids))

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
        count = len(self) if places is None else len(places)
        cosines = np.empty((len(queries), count), np.float32)
        step = max(1, _NUMBERS_AT_ONCE // self.dim)

        def compare(first: int, last: int) -> None:
            room = np.empty((step, self.dim), np.int32)
            for start in range(first, last, step):
                end = min(start + step, last)
                some = np.arange(start, end) if places is None else places[start:end]
                part = float16_products(queries, self._read(some), room)
                np.divide(part, self._lengths[some], out=cosines[:, start:end])

        parallel_for(compare, count, least=_ROWS_PER_THREAD)
        if not np.isfinite(cosines).all():
            raise self._explain_damage()
        return cosines

    def blocks(self, step: int) -> Iterator[tuple[IdArray, FloatArray]]:
        """Yield all ids int64 (n,) and unit rows float32 (n, dim), `step` at a time."""
        for start in range(0, len(self), step):
            places = np.arange(start, min(start + step, len(self)))
            yield self.ids[places], self.take(places)

    def _read(self, places: IdArray) -> HalfArray:
        """Return the stored numbers at these places, float16 (w, dim)."""
        ends = np.flatnonzero(np.diff(places) != 1) + 1
        if not self._reads:
            adjacent = len(places) and not len(ends)
            return self._vectors[places[0] : places[-1] + 1] if adjacent else self._vectors[places]
        firsts = np.concatenate([[0], ends])[: len(places)]
        row = self._vectors.strides[0]
        sizes = np.diff(firsts, append=len(places)) * row
        offsets = self._sections.start_of("vectors") + places[firsts] * row
        content = _read_runs(self._sections.descriptor, sizes.tolist(), offsets.tolist())
        if len(content) != len(places) * row:
            raise self._explain_damage()
        return np.frombuffer(content, _STORED).reshape(len(places), self.dim)

    def _explain_damage(self) -> SnapshotUnreadable:
        return SnapshotUnreadable(
            f"{self._sections.name} is damaged: it holds a row that is not a unit vector. Nothing "
            "is lost: `clipsearch rebuild` writes it again from the catalog."
        )


def _read_runs(descriptor: int, sizes: list[int], offsets: list[int]) -> bytes:
    """Read runs of bytes and join them; the result is short if the file ends before."""
    # All are announced first, so that the disk is not waited for once per run.
    if len(sizes) > 1 and hasattr(os, "posix_fadvise"):
        for size, offset in zip(sizes, offsets, strict=True):
            os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)
    return b"".join([os.pread(descriptor, *run) for run in zip(sizes, offsets, strict=True)])


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


# --- float16 -------------------------------------------------------------------------------

# numpy widens float16 one number at a time where it was built for older processors. Moving the bits
# to their places in float32 (sign, five bits of exponent, ten of fraction) gives the number times
# 2**-112, and a multiplication the rest (F. Giesen, "Half to float done quick", 2012). It is exact
# for all finite numbers, and twice as fast in a search of the kind `exact` (docs/guides/scale.md).
_SHIFT = 13  # 23 bits of fraction in float32, 10 in float16
_MASK = np.int32(-0x70000001)  # without the three bits that the sign has spread into
_ROOT_OF_SCALE = np.float32(2.0**56)  # twice, since 2**112 times a long query would be infinite
_SAME = np.float32(2e-7)
_LEAST_LENGTH = np.float32(1e-30)


def float16_to_float32(numbers: HalfArray) -> FloatArray:
    """Convert float16 (n, dim) to float32, bit for bit as `astype` does."""
    wide = _move_bits(numbers, np.empty(numbers.shape, np.int32))
    wide *= _ROOT_OF_SCALE
    wide *= _ROOT_OF_SCALE
    return wide


def float16_products(queries: FloatArray, numbers: HalfArray, room: AnyArray) -> FloatArray:
    """Multiply queries with float16 rows.

    Parameters
    ----------
    queries
        float32 (m, dim).
    numbers
        float16 (n, dim).
    room
        Scratch memory, int32 (at least n, dim); passed in so that it stays in the processor's
        cache from call to call.

    Returns
    -------
    Dot products float32 (m, n).
    """
    products = (queries * _ROOT_OF_SCALE) @ _move_bits(numbers, room[: len(numbers)]).T
    products *= _ROOT_OF_SCALE
    return np.asarray(products)


def to_float16(rows: FloatArray) -> tuple[HalfArray, FloatArray]:
    """Find the float16 numbers that unit rows were made from.

    Rounding gives them back, except where their length was so far from 1 that some numbers are
    nearer to a neighbour: there the length is found by trying neighbours of the largest number.

    Parameters
    ----------
    rows
        float32 (n, dim), float16 rows divided by their length, as the catalog returns them.

    Returns
    -------
    The numbers float16 (n, dim), and the lengths float32 (n,) that they have to be divided by.
    """
    numbers, lengths, errors = _round(rows, rows)
    off = np.flatnonzero(errors > _SAME)
    if len(off):
        some = rows[off]
        largest = np.abs(some).argmax(axis=1)[:, None]
        value = np.take_along_axis(some, largest, axis=1)
        nearest = np.take_along_axis(numbers[off], largest, axis=1)
        for step in (0, 1, -1, 2, -2):
            beside = (nearest.view(np.int16) + np.int16(step)).view(np.float16)
            trial = _round(some * (beside.astype(np.float32) / value), some)
            better = trial[2] < errors[off]
            numbers[off[better]], lengths[off[better]], errors[off[better]] = (
                part[better] for part in trial
            )
    return numbers, lengths


def _round(scaled: FloatArray, rows: FloatArray) -> tuple[HalfArray, FloatArray, FloatArray]:
    """Return rounded rows, their lengths, and how far from `rows` they are at unit length."""
    numbers = scaled.astype(np.float16)
    wide = float16_to_float32(numbers)
    lengths = np.linalg.norm(wide, axis=1)
    wide /= np.maximum(lengths, _LEAST_LENGTH)[:, None]
    return numbers, lengths, np.abs(wide - rows).max(axis=1, initial=0)


def _move_bits(numbers: HalfArray, room: AnyArray) -> FloatArray:
    """Return float32 numbers that are 2**-112 times the float16 numbers."""
    np.copyto(room, numbers.view(f"{numbers.dtype.str[0]}i2"))
    np.left_shift(room, _SHIFT, out=room)
    np.bitwise_and(room, _MASK, out=room)
    return room.view(np.float32)
