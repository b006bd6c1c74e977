"""Find by which direction photographs differ from drawings for `mini`: `python tell_photographs.py FOLDER`.

FOLDER holds photographs (JPEG files); the drawings are the bundled ones. The direction is that of Fisher's
discriminant, with a ridge. Half of both kinds chooses it and the other half is measured; then all of both
are written into clipsearch/calibration/photographs.json.
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
from pathlib import Path

import numpy as np

from clipsearch import Library
from clipsearch.cli.demo import samples
from clipsearch.library.prepare import _PHOTOGRAPHS

RIDGE, THRESHOLD = 0.004, 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    drawings, photographs = (vectors_of(folder) for folder in (samples(), given.folder))
    halves = discriminant(drawings[::2], photographs[::2])
    for name, rows in (("drawings", drawings[1::2]), ("photographs", photographs[1::2])):
        print(name, *np.percentile(rows @ halves, (1, 5, 50, 95, 99)).round(3))
    direction = discriminant(drawings, photographs).astype("<f2")
    with Library.loose("mini") as library:
        key = library.encoder.info.fingerprint
    text = base64.b64encode(direction.tobytes()).decode()
    entry = {"model": "mini", "threshold": THRESHOLD, "direction": text}
    _PHOTOGRAPHS.write_text(json.dumps({key: entry}, indent=1) + "\n", "utf-8")


def vectors_of(folder: Path) -> np.ndarray:
    with (
        tempfile.TemporaryDirectory() as made,
        Library.create(made, model="mini") as library,
    ):
        library.index(folder)
        return library.embeddings().vectors


def discriminant(drawings: np.ndarray, photographs: np.ndarray) -> np.ndarray:
    spread = (np.cov(drawings.T) + np.cov(photographs.T)) / 2 + RIDGE * np.eye(drawings.shape[1])
    direction = np.linalg.solve(spread, photographs.mean(axis=0) - drawings.mean(axis=0))
    return np.asarray(direction / np.linalg.norm(direction))


if __name__ == "__main__":
    main()
