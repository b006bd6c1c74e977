"""Float16 to float32 at the speed of memory, bit for bit what `astype` gives.

numpy widens one number at a time where it was not built for newer CPUs, seven times slower. Here
the bits are moved to where float32 has them (sign, five bits of exponent, ten of fraction), which
gives the number times 2**-112; the rest is a multiplication (F. Giesen, "Half to float done
quick", 2012). It is exact for all finite numbers, subnormal ones too.
"""

from __future__ import annotations

import numpy as np

_SHIFT = 13  # 23 bits of fraction in float32, 10 in float16
_MASK = np.int32(-0x70000001)  # without the three bits that the sign has spread into
_HALF_OF_SCALE = np.float32(2.0**56)  # twice, as 2**112 times a long query would be infinite


def widen(halves: np.ndarray) -> np.ndarray:
    """Return float16 (n, dim) as float32."""
    wide = _moved(halves, np.empty(halves.shape, np.int32))
    wide *= _HALF_OF_SCALE
    wide *= _HALF_OF_SCALE
    return wide


def dots(queries: np.ndarray, halves: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Return the dot products float32 (m, n) of float32 (m, dim) with float16 (n, dim).

    room: int32 (at least n, dim), used up; kept by the caller, so that it stays in the cache.
    """
    found: np.ndarray = (queries * _HALF_OF_SCALE) @ _moved(halves, room[: len(halves)]).T
    found *= _HALF_OF_SCALE
    return found


def _moved(halves: np.ndarray, room: np.ndarray) -> np.ndarray:
    np.copyto(room, halves.view(f"{halves.dtype.str[0]}i2"))
    np.left_shift(room, _SHIFT, out=room)
    np.bitwise_and(room, _MASK, out=room)
    return room.view(np.float32)
