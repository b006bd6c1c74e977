"""Cells of PQ codes in a file: a query reads those that it visits, if nobody has before.

A query visits an eighth of a million images: a process that asks one does not read the rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from threading import Lock
from typing import Any

import faiss
import numpy as np

from clipsearch._util.arrays import ByteArray, FloatArray, IdArray
from clipsearch.errors import SnapshotUnreadable
from clipsearch.vectors.storage.container import Sections, SectionWriter

SECTION = "cells"
"""The codes of all cells; files of an earlier version have none."""
_EMPTY, _SIZES, _SUMS = "cells-empty", "cells-sizes", "cells-sums"
_USED, _CENTRES = "cells-axes", "cells-centres"
_WITH_CENTRES = "cells-blank"
"""In files of an earlier version: the index with empty cells and their centres."""
_NARROW, _WIDE, _NARROW_ROWS = "<i4", "<i8", 1 << 31
"""Types of places, and up to how many rows they are narrow."""


def write_cells(writer: SectionWriter, index: faiss.Index) -> None:
    """Write an inverted file: of each cell the places of its vectors, and their codes.

    Parameters
    ----------
    writer
        Of the file.
    index
        An inverted file with a fast scan, whose cells are emptied meanwhile.
    """
    lists = _lists_of(index)
    dtype = _NARROW if index.ntotal <= _NARROW_ROWS else _WIDE
    sums, sizes = [], np.array([lists.list_size(cell) for cell in range(lists.nlist)], _WIDE)

    def content() -> Iterator[ByteArray]:
        for cell in range(lists.nlist):
            places, codes = _views(lists, cell, int(sizes[cell]))
            one = np.concatenate([places.astype(dtype).view(np.uint8), codes])
            sums.append(zlib.crc32(one.data))
            lists.resize(cell, 0)
            yield one

    writer.write_mapped(SECTION, content())
    index.ntotal = 0
    used, centres = _take_centres(index)
    writer.write_checked(_USED, used.astype(_WIDE))
    writer.write_checked(_CENTRES, centres.astype("<f4"))
    writer.write_checked(_EMPTY, faiss.serialize_index(index))
    writer.write_checked(_SIZES, sizes)
    writer.write_checked(_SUMS, np.array(sums, "<u4"))


class StoredCells:
    """An inverted file whose cells are read on their first visit. Safe from several threads."""

    def __init__(self, sections: Sections) -> None:
        """Open what `write_cells` wrote. Raises SnapshotUnreadable if it is damaged."""
        self._sections = sections
        section = _WITH_CENTRES if sections.has(_WITH_CENTRES) else _EMPTY
        empty = sections.array(section, "u1", (sections.size_of(section),))
        try:
            self.index = faiss.deserialize_index(empty)
        except RuntimeError as error:
            raise SnapshotUnreadable(f"{sections.name} cannot be read by FAISS: {error}") from error
        self._lists = _lists_of(self.index)
        cells = int(self._lists.nlist)
        if section == _EMPTY:
            self._used = sections.array(_USED, _WIDE, (sections.size_of(_USED) // 8,))
            shape = cells, len(self._used)
            self._centres: FloatArray = sections.array(_CENTRES, "<f4", shape)
        else:
            self._used, self._centres = _take_centres(self.index)
        self._sizes = sections.array(_SIZES, _WIDE, (cells,))
        self._sums = sections.array(_SUMS, "<u4", (cells,))
        self.index.ntotal = int(self._sizes.sum())
        self._dtype = np.dtype(_NARROW if self.index.ntotal <= _NARROW_ROWS else _WIDE)
        blocks = -(-self._sizes // self._lists.n_per_block)
        lengths = self._sizes * self._dtype.itemsize + blocks * self._lists.block_size
        self._offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        if self._offsets[-1] != sections.size_of(SECTION):
            raise SnapshotUnreadable(f"{sections.name} has cells of another size than written.")
        self._read = np.zeros(cells, bool)
        self._lock = Lock()

    def estimate(self, queries: FloatArray, depth: int, probes: int) -> tuple[FloatArray, IdArray]:
        """Return the highest estimates in some cells and their places, as `PQCodes.estimate`.

        Parameters
        ----------
        queries
            float32 (m, dim) in the space of the codes.
        depth, probes
            As for `PQCodes.estimate`.

        Raises
        ------
        SnapshotUnreadable
            If a cell is damaged.
        """
        cosines, cells = self._nearest_cells(queries, probes)
        self._read_cells(cells)
        depth = min(depth, self.index.ntotal)
        scores = np.empty((len(queries), depth), np.float32)
        places = np.empty((len(queries), depth), np.int64)
        pointers = [faiss.swig_ptr(part) for part in (cells, cosines, scores, places)]
        params = faiss.SearchParametersIVF(nprobe=cells.shape[1])  # type: ignore[call-arg]
        query = faiss.swig_ptr(np.ascontiguousarray(queries))
        # FAISS's stubs do not know the function that its wrapper wraps.
        index: Any = self.index
        index.search_preassigned_c(len(queries), query, depth, *pointers, False, params)
        return scores, places

    def _nearest_cells(self, queries: FloatArray, probes: int) -> tuple[FloatArray, IdArray]:
        """Return the cosines with the centres of the nearest cells and their numbers, (m, probes) each."""
        # Row by row: the last bits of a product of matrices depend on the number of queries.
        cosines = np.stack([self._centres @ query[self._used] for query in queries])
        cells = np.argpartition(-cosines, probes - 1, axis=1)[:, :probes]
        return np.take_along_axis(cosines, cells, axis=1), np.ascontiguousarray(cells)

    def _read_cells(self, cells: IdArray) -> None:
        if self._read[cells].all():
            return
        with self._lock:
            for cell in cells[~self._read[cells]].tolist():
                if not self._read[cell]:  # several queries may visit it
                    self._read_cell(cell)
                    self._read[cell] = True

    def _read_cell(self, cell: int) -> None:
        size, start = int(self._sizes[cell]), int(self._offsets[cell])
        length = int(self._offsets[cell + 1]) - start
        content = self._sections.read_at(self._sections.start_of(SECTION) + start, length)
        if len(content) != length or zlib.crc32(content) != self._sums[cell]:
            raise SnapshotUnreadable(f"{self._sections.name} is damaged: a cell is not as written.")
        self._lists.resize(cell, size)
        places, codes = _views(self._lists, cell, size)
        places[:] = np.frombuffer(content, self._dtype, size)
        codes[:] = np.frombuffer(content, np.uint8, offset=size * self._dtype.itemsize)


def _take_centres(index: Any) -> tuple[IdArray, FloatArray]:
    """Take the centres of its cells from an index: the numbers that are any (n,), and these (cells, n).

    Half of the numbers of a centre are those of axes that are none, and FAISS compares them, too.
    """
    quantizer: Any = faiss.downcast_index(index.quantizer)
    cells = int(quantizer.ntotal)
    centres = faiss.rev_swig_ptr(quantizer.get_xb(), cells * quantizer.d).reshape(cells, -1)
    used = np.flatnonzero(centres.any(axis=0))
    taken = np.ascontiguousarray(centres[:, used])
    quantizer.reset()
    return used, taken


def _lists_of(index: faiss.Index) -> Any:
    return faiss.downcast_InvertedLists(index.invlists)  # type: ignore[attr-defined]


def _views(lists: Any, cell: int, size: int) -> tuple[IdArray, ByteArray]:
    """Return the places int64 (size,) of a cell, and the blocks of its codes, as FAISS holds them."""
    if not size:
        return np.empty(0, np.int64), np.empty(0, np.uint8)
    blocks = -(-size // lists.n_per_block) * lists.block_size
    places = faiss.rev_swig_ptr(lists.get_ids(cell), size)
    return places, faiss.rev_swig_ptr(lists.get_codes(cell), blocks)
