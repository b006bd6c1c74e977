"""Arrays: type aliases, unit rows, softmax and sigmoid, each written once."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

# What numpy.typing.NDArray stands for, without an import that a query has no time for.
AnyArray: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[Any]]
"""An array of any type."""
FloatArray: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.floating[Any]]]
"""An array of floating-point numbers; docstrings give its shape."""
HalfArray: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.float16]]
IdArray: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.int64]]
"""Ids of vectors or rows, int64."""
BoolArray: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.bool_]]
ByteArray: TypeAlias = np.ndarray[tuple[Any, ...], np.dtype[np.uint8]]
PixelArray: TypeAlias = ByteArray
"""Pixels of an image, uint8 (height, width, 3), or of a batch of them."""

TINY = 1e-12
"""The least length that a vector is divided by."""


def unit(rows: FloatArray) -> FloatArray:
    """Divide each row by its Euclidean length; a row of zeros stays one.

    Parameters
    ----------
    rows
        Float array (..., dim).

    Returns
    -------
    Array of the same shape and type, rows of length 1.
    """
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    if np.isinf(lengths).any():  # the squares of large numbers
        peaks = np.abs(rows).max(axis=-1, keepdims=True)
        rows = np.where(np.isinf(lengths), rows / np.maximum(peaks, TINY), rows)
        lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, TINY), dtype=rows.dtype)


def softmax(logits: FloatArray) -> FloatArray:
    """Return exp(logits) normalised to sum to 1 over the last axis, without overflow.

    Parameters
    ----------
    logits
        Float array (..., n).

    Returns
    -------
    Array of the same shape and type.
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-logits)) by tanh, which does not overflow.

    Parameters
    ----------
    logits
        Float array of any shape.

    Returns
    -------
    Array of the same shape and type.
    """
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def to_runs(values: IdArray, *, step: int) -> tuple[IdArray, IdArray]:
    """Return runs of numbers that grow by `step`: ids that mostly follow each other take little room so.

    Parameters
    ----------
    values
        int64 (n,).
    step
        0 or 1.

    Returns
    -------
    The first number of each run and its length, int64 (runs,) both.

    Examples
    --------
    >>> [part.tolist() for part in to_runs(np.array([3, 4, 5, 9]), step=1)]
    [[3, 9], [3, 1]]
    """
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - step - 1) != step)
    return values[starts], np.diff(starts, append=len(values))


def from_runs(first: IdArray, lengths: IdArray, *, step: int) -> IdArray:
    """Return the numbers that `to_runs` made runs of.

    Parameters
    ----------
    first, lengths
        int64 (runs,).
    step
        0 or 1.

    Returns
    -------
    int64 (n,); of one run that does not grow, a view of its number that takes no room.
    """
    count = int(lengths.sum())
    if not step:
        return np.broadcast_to(first, count) if len(first) == 1 else np.repeat(first, lengths)
    values = np.arange(count, dtype=np.int64)
    begins = first - (np.cumsum(lengths) - lengths)
    values += begins if len(first) == 1 else np.repeat(begins, lengths)
    return values


def places_in(known: IdArray, ids: IdArray) -> IdArray:
    """Return the place of each id among known ones; that of any other where it is not among them.

    Parameters
    ----------
    known
        int64 (n,), n > 0, ascending, none twice.
    ids
        int64, any shape.

    Returns
    -------
    int64, the shape of `ids`, from 0 to n - 1. Where the known ids follow each other, as mostly, they are
    not searched: of a million that takes as long as a search.
    """
    last = len(known) - 1
    if known[last] - known[0] == last:
        return np.asarray(np.clip(ids - known[0], 0, last))
    return np.minimum(np.searchsorted(known, ids), last)
