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
