"""How many proposals codes need for texts, with whole queries and with narrowed ones.

    python scripts/bench/narrowing.py [--rows 60000] [--dim 512]

Pictures and texts lie as `fabricate` says. Prints the share of the ten nearest that is among so many
proposals of 1-bit codes, for the queries as they are and as `vectors.narrowing` leaves them.
"""

from __future__ import annotations

import argparse

import numpy as np
from fabricate import BATCH, Law

from clipsearch.vectors.faisscodes import ERROR, Codes
from clipsearch.vectors.narrowing import narrowing

DEPTHS = (100, 200, 500, 1_000, 2_000, 4_000)
TEXTS, SAMPLE, NEAREST = 100, 20_000, 10


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=512)
    given = parser.parse_args()
    law = Law(given.dim)
    starts = range(0, given.rows, BATCH)
    pictures = np.concatenate(
        [law.pictures(np.random.default_rng(start), BATCH) for start in starts]
    )[: given.rows]
    texts = law.texts(np.random.default_rng(1), TEXTS)
    truth = np.argsort(-(texts @ pictures.T), axis=1)[:, :NEAREST]
    sample = pictures[:SAMPLE]
    codes = Codes.build(sample, [(np.arange(len(pictures)), pictures)], cells=0, rows=len(pictures))
    print("proposals " + "".join(f"{depth:>8,}" for depth in DEPTHS))
    for name, queries in (("whole", texts), ("narrowed", texts @ narrowing(sample, ERROR))):
        found = codes.propose(queries, min(DEPTHS[-1], len(pictures)), probes=0)
        shares = [recall(found[:, :depth], truth) for depth in DEPTHS]
        print(f"{name:9} " + "".join(f"{share:8.3f}" for share in shares))


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the true places (m, k) that is among those found (m, depth)."""
    return float(
        np.mean([np.isin(true, row).mean() for true, row in zip(truth, found, strict=True)])
    )


if __name__ == "__main__":
    main()
