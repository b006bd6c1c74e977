"""float16 rows: conversion, and products with queries, in numpy or by FAISS."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from clipsearch._util.arrays import AnyArray, FloatArray, HalfArray

_NUMBERS_AT_ONCE = 1 << 18  # int32 numbers: 1 MiB, which stays in the cache of a core
_SCANNED_AT_ONCE = 1 << 22  # float16 numbers: 8 MiB
# What numpy multiplies in the time in which FAISS is imported, 0.15 s.
_NUMBERS_WITHOUT_FAISS = 1 << 28
# numpy widens float16 one number at a time where it was built for older processors. Moving the bits
# to their places in float32 (sign, five bits of exponent, ten of fraction) gives the number times
# 2**-112, and a multiplication the rest (F. Giesen, "Half to float done quick", 2012). It is exact
# for all finite numbers, and twice as fast in a search of the kind `exact` (docs/guides/scale.md).
_SHIFT = 13  # 23 bits of fraction in float32, 10 in float16
_MASK = np.int32(-0x70000001)  # without the three bits that the sign has spread into
_ROOT_OF_SCALE = np.float32(2.0**56)  # twice, since 2**112 times a long query would be infinite
_SAME = np.float32(2e-7)
_LEAST_LENGTH = np.float32(1e-30)
_LEAST = -3e38  # a radius that every finite product is beyond


def float16_to_float32(numbers: HalfArray) -> FloatArray:
    """Convert float16 (n, dim) to float32, bit for bit as `astype` does."""
    wide = _move_bits(numbers, np.empty(numbers.shape, np.int32))
    wide *= _ROOT_OF_SCALE
    wide *= _ROOT_OF_SCALE
    return wide


_Multiply = Callable[[FloatArray, HalfArray], FloatArray]
_multiplied = 0  # numbers by this process, in numpy


def choose_multiplier(numbers: int) -> tuple[Callable[[], _Multiply], int]:
    """Choose what multiplies queries with float16 rows.

    FAISS does it eight times as fast as numpy, as fast as memory is read; a single query ends before
    FAISS is imported.

    Parameters
    ----------
    numbers
        How many are going to be multiplied.

    Returns
    -------
    What makes a multiplier for a thread, and how many numbers such a one should be given at once: it takes
    queries float32 (m, dim) and rows float16 (n, dim), contiguous, and returns float32 (m, n).
    """
    global _multiplied
    if "faiss" not in sys.modules and _multiplied + numbers <= _NUMBERS_WITHOUT_FAISS:
        _multiplied += numbers
        return _numpy_multiplier, _NUMBERS_AT_ONCE
    return lambda: scan_float16, _SCANNED_AT_ONCE


def _numpy_multiplier() -> _Multiply:
    room = np.empty(_NUMBERS_AT_ONCE, np.int32)

    def multiply(queries: FloatArray, numbers: HalfArray) -> FloatArray:
        return float16_products(queries, numbers, room[: numbers.size].reshape(numbers.shape))

    return multiply


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


def scan_float16(queries: FloatArray, numbers: HalfArray) -> FloatArray:
    """Multiply queries with float16 rows.

    Parameters
    ----------
    queries
        float32 (m, dim).
    numbers
        float16 (n, dim), contiguous.

    Returns
    -------
    Dot products float32 (m, n), not finite where the rows are not.
    """
    import faiss

    products = np.full((len(queries), len(numbers)), np.nan, np.float32)
    # FAISS stores float16 numbers as they are, so that its scanner can be handed rows of ours: mapped
    # ones are not copied. Its stubs do not know the scanners of a quantizer, nor how arrays are handed to them.
    quantizer = faiss.ScalarQuantizer(numbers.shape[1], faiss.ScalarQuantizer.QT_fp16)
    scanner = quantizer.select_InvertedListScanner(  # type: ignore[attr-defined]
        faiss.METRIC_INNER_PRODUCT, None, True, None
    )
    scanner.set_list(0, 0.0)
    codes = faiss.swig_ptr(numbers.view(np.uint8).reshape(-1))
    for query, out in zip(np.ascontiguousarray(queries, np.float32), products, strict=True):
        scanner.set_query(faiss.swig_ptr(query))
        found = faiss.RangeSearchResult(1)
        part = faiss.RangeSearchPartialResult(found)  # type: ignore[attr-defined]
        scanner.scan_codes_range(len(numbers), codes, None, _LEAST, part.new_result(0))
        part.finalize()
        count = int(faiss.rev_swig_ptr(found.lims, 2)[1])
        # Rows whose product is no number are left out: it is beyond nothing.
        there = faiss.rev_swig_ptr(found.labels, count) if count < len(out) else slice(None)
        out[there] = faiss.rev_swig_ptr(found.distances, count)
    return products
