"""Many numbers as texts at once: what `repr` gives of each, the fewest digits that give it back.

`repr` takes most of the time of writing a table of probabilities, and can do one number at a time.
Here numpy does most of them: those between 0.0001 and 1, of any sign. A number x is scaled to an
integer of 17 digits and a rest, exactly (the product of two doubles is the sum of two: Dekker 1971,
"A floating-point technique for extending the available precision"). Digits are then left out as
long as the number that is left is nearer to x than half the distance to its neighbours, which is
when it is read back as x. Where that is too close to call, and for other numbers, `repr` decides.
"""

from __future__ import annotations

import numpy as np

from clipsearch._util.arrays import AnyArray, BoolArray, ByteArray, FloatArray, IdArray

_DIGITS = 17
"""As many as any double needs."""
_LEAST = 1e-4
"""`repr` writes smaller numbers with an exponent."""
_SPLIT = 134217729.0
"""2 ** 27 + 1, which cuts a double into two halves of 26 bits (Veltkamp)."""
_CLOSE = 1e-6
"""Relative: differences below this are too close to call in doubles, with room to spare."""
_PLACES = _DIGITS + 3
"""After the point: up to three zeros, and the digits."""
_SCALES = 10.0 ** np.arange(_DIGITS, _PLACES + 1)
"""Of fractions with none to three zeros after the point; exact, as powers of 10 up to 22 are."""
_UNITS = 10 ** np.arange(_DIGITS - 4, _PLACES - 3)
"""By which the digits of such a fraction are divided to give its first four places."""
_FOURS = np.frombuffer(b"".join(b"%04d" % number for number in range(10_000)), np.uint32)
"""Every four digits, as their ASCII letters in memory."""


def shortest_texts(numbers: FloatArray) -> AnyArray:
    """Return `repr` of each number as bytes, and none for NaN.

    Parameters
    ----------
    numbers
        float64 (n,).

    Returns
    -------
    Bytes as objects (n,).

    Examples
    --------
    >>> shortest_texts(np.array([0.1, -0.25, 1e-7, 2.0, np.nan])).tolist()
    [b'0.1', b'-0.25', b'1e-07', b'2.0', b'']
    """
    size = np.abs(numbers)
    places = np.flatnonzero((size >= _LEAST) & (size < 1))
    texts, sure = _write_fractions(size[places], numbers[places] < 0)
    found = np.full(len(numbers), b"", dtype=object)
    found[places] = texts.astype(object)
    rest = ~np.isnan(numbers)
    rest[places[sure]] = False
    for place in np.flatnonzero(rest).tolist():
        found[place] = repr(float(numbers[place])).encode()
    return found


def _write_fractions(numbers: FloatArray, negative: BoolArray) -> tuple[AnyArray, BoolArray]:
    """Return numbers from _LEAST to 1 as bytes, with a sign or without, and which of them are sure."""
    zeros = (numbers < 0.1).astype(np.int64) + (numbers < 0.01) + (numbers < 0.001)
    digits, kept, sure = _shorten(*_scale(numbers, _SCALES[zeros]))
    sure &= (numbers.view(np.int64) & ((1 << 52) - 1)) != 0  # a power of 2: its neighbours differ
    text = np.zeros((len(numbers), 3 + _PLACES), np.uint8)
    text[:, 0], text[:, 1] = ord("0"), ord(".")
    text[:, 2:-1] = _to_ascii(digits, zeros)
    # Zeros after the last digit end the bytes.
    text[:, 2:-1] *= np.arange(_PLACES, dtype=np.int8) < (kept + zeros).astype(np.int8)[:, None]
    signed = np.flatnonzero(negative)
    text[signed, 1:] = text[signed, :-1]
    text[signed, 0] = ord("-")
    return text.view(f"S{text.shape[1]}")[:, 0], sure


def _scale(numbers: FloatArray, scale: FloatArray) -> tuple[IdArray, FloatArray, FloatArray]:
    """Return `numbers * scale` as integers and rests, and half the distance of neighbours, scaled."""
    product = numbers * scale
    (a, b), (c, d) = _split(numbers), _split(scale)
    rest = ((a * c - product) + a * d + b * c) + b * d
    return product.astype(np.int64), rest, 0.5 * np.spacing(numbers) * scale


def _split(numbers: FloatArray) -> tuple[FloatArray, FloatArray]:
    high = numbers * _SPLIT
    high -= high - numbers
    return high, numbers - high


def _shorten(
    whole: IdArray, rest: FloatArray, half: FloatArray
) -> tuple[IdArray, IdArray, BoolArray]:
    """Round `whole + rest` to as few digits as keep it within `half` of itself.

    Returns
    -------
    The numbers, with zeros for digits that are left out; how many digits are kept; which are sure.
    """
    nearest = np.rint(rest)
    sure = np.abs(np.abs(rest - nearest) - 0.5) > _CLOSE
    digits, kept = whole + nearest.astype(np.int64), np.full(len(whole), _DIGITS)
    rows = np.arange(len(whole))
    for dropped in range(1, _DIGITS):
        unit = 10**dropped
        small, limit, above = rest[rows], half[rows], whole[rows]
        above = above - above // unit * unit
        steps = np.rint((above + small) / unit).astype(np.int64)
        off = np.abs((above - steps * unit) + small)  # the integers first: they are exact
        close = np.abs(off - limit) <= _CLOSE * limit
        close |= np.abs(off - unit / 2) <= _CLOSE * unit
        sure[rows[close & (off < 2 * limit)]] = False
        within = off < limit
        rows, steps = rows[within], steps[within]
        if not len(rows):
            break
        digits[rows] = (whole[rows] // unit + steps) * unit
        kept[rows] = _DIGITS - dropped
    return digits, kept, sure


def _to_ascii(digits: IdArray, zeros: IdArray) -> ByteArray:
    """Return the 20 digits of fractions, uint8 (n, 20), of their 17 digits after these zeros."""
    unit = _UNITS[zeros]
    first = digits // unit
    rest = (digits - first * unit) * (10_000_000_000_000_000 // unit)
    text = np.empty((len(digits), _PLACES // 4), np.uint32)
    text[:, 0] = _FOURS[first]
    for group in range(_PLACES // 4 - 1, 0, -1):
        above = rest // 10_000
        text[:, group] = _FOURS[rest - 10_000 * above]
        rest = above
    return text.view(np.uint8)
