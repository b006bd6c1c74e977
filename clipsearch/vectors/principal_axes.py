"""What codes keep of vectors: the directions in which images differ, finely where they differ much.

Images of a model differ much in few of all directions. So a code spends its bits by the classic
rule of transform coding (Huang & Schultheiss 1963): turn to the principal axes, give the first ones
a part of the code each, let later ones share a part, and leave out the last.
"""

from __future__ import annotations

import numpy as np

TOGETHER = 4
"""As many directions share a part of the code at most."""
_SHARED = (1, 2, TOGETHER)
# What a part of 16 values loses of the variance of a direction, if so many directions share it: that
# of the best scalar quantizers of a Gaussian with 16, 4 and 2 levels (Max 1960, table I).
_LOST = (0.01154, 0.1175, 0.3634)


def directions(sample: np.ndarray, parts: int) -> np.ndarray:
    """Return the directions that each part of a code is made of: float32 (parts * TOGETHER, dim).

    sample: images, unit rows (n, dim). Each part has TOGETHER rows, its directions first, and
    zeros. The product of vectors with it keeps their dot products, but for what is left out.
    """
    away = sample - sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = (away.T @ away).astype(np.float64) / len(away)
    variances, axes = np.linalg.eigh(covariance)
    kept = np.zeros((parts, TOGETHER, sample.shape[1]))
    first = 0
    for part, shared in enumerate(shares(np.maximum(variances[::-1], 0), parts)):
        some = axes.T[::-1][first : first + shared]
        kept[part, : len(some)] = some
        first += shared
    return kept.reshape(parts * TOGETHER, -1).astype(np.float32)


def shares(variances: np.ndarray, parts: int) -> list[int]:
    """Return how many directions each part takes, the first ones fewest: so that least is lost.

    variances: of the directions, falling (dim,).
    """
    total = np.concatenate([[0.0], np.cumsum(variances)])

    def up_to(place: np.ndarray) -> np.ndarray:
        found: np.ndarray = total[np.minimum(place, len(variances))]
        return found

    # All ways to have `ones` parts of one direction, then `twos` of two; the others have TOGETHER.
    ones, twos = np.mgrid[: parts + 1, : parts + 1]
    ones, twos = (counts[ones + twos <= parts] for counts in (ones, twos))
    ends = np.cumsum([ones, 2 * twos, TOGETHER * (parts - ones - twos)], axis=0)
    sums = np.diff(up_to(np.vstack([np.zeros_like(ones), ends])), axis=0)
    lost = total[-1] - up_to(ends[-1]) + np.tensordot(_LOST, sums, 1)
    best = int(lost.argmin())
    counts = (ones[best], twos[best], parts - ones[best] - twos[best])
    return [shared for shared, count in zip(_SHARED, counts, strict=True) for _ in range(count)]
