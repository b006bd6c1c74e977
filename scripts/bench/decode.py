"""Read photographs from JPEG files to the pixels that a model wants, in one thread.

    python scripts/bench/decode.py

whole: Pillow decodes all of it, open_clip's own transform resizes and crops it. exact: clipsearch,
which resamples what is kept and no more. default: it lets the decoder leave out detail, down to
twice of what the model wants in both directions. fast: down to once (`--fast`). Differences are
of pixels from 0 to 255, to `whole`.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import material
import numpy as np
import open_clip
import PIL.Image
import torch
from common import Cell, Chart, Claim, Options, Report, Table, in_turn, say, timed
from open_clip.transform import PreprocessCfg, image_transform_v2

from clipsearch.encoders.preprocess import Preprocess
from clipsearch.images.encoded import EncodedImage

SIZE = 224
COUNTS = {"12 MP": 8, "1 MP": 48}
WAYS = {
    "whole": "Pillow, open_clip's transform",
    "exact": "clipsearch, decoded whole",
    "default": "clipsearch, decoded to 2× or more",
    "fast": "clipsearch --fast, to 1× or more",
}
AT_LEAST = {"exact": None, "default": 2 * SIZE, "fast": SIZE}
Read = Callable[[Path], np.ndarray]
"""A file to uint8 (SIZE, SIZE, 3)."""


def main(argv: Sequence[str] | None = None) -> int:
    options = Options.parse(__doc__, argv)
    torch.set_num_threads(1)
    report = Report.begin("decode", options, pixels=SIZE)
    report.charts.append(Chart("From a JPEG file to pixels, one thread", "", "ms a photograph", {}))
    for size, count in ({"tiny": 4} if options.quick else COUNTS).items():
        say(size)
        measure(report, options, size, count)
    return report.finish(options)


def _read_all(read: Read, files: Sequence[Path]) -> None:
    for file in files:
        read(file)


def measure(report: Report, options: Options, size: str, count: int) -> None:
    """Measure all ways on photographs of one size."""
    files = sorted(material.photos(options.cache, size, count).iterdir())
    transform = image_transform_v2(PreprocessCfg(size=SIZE, **open_clip_settings()), False)
    readers: dict[str, Read] = {way: partial(ours, at_least=n) for way, n in AT_LEAST.items()}
    ways = {
        "whole": timed(lambda: [transform(PIL.Image.open(file)) for file in files]),
        **{way: timed(partial(_read_all, read, files)) for way, read in readers.items()},
    }
    seconds = in_turn(ways, options.rounds)
    expected = [theirs(file, transform) for file in files]
    rows: list[list[Cell]] = []
    for way, took in seconds.items():
        ms = 1000 * statistics.median(took) / count
        ratio = Claim.of_pairs(f"{size}: {WAYS[way]}", seconds["whole"], took)
        row: list[Cell] = [WAYS[way], ms, ratio.value]
        if way != "whole":
            mean, most = difference([readers[way](file) for file in files], expected)
            row += [f"{mean:.3f}", most]
            report.claims.append(ratio)
        rows.append([*row, *([None] * (5 - len(row)))])
        report.charts[0].series.setdefault(size, []).append((way, ms))
    columns = [f"{size}, {SIZE} × {SIZE} pixels", "ms", "× whole", "mean difference", "greatest"]
    report.tables.append(Table(f"Decoding, {size}", columns, rows))
    report.seconds |= {f"{size}: {way}": took for way, took in seconds.items()}


def open_clip_settings() -> dict[str, object]:
    """Return how CLIP's own models see an image."""
    return {
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }


def theirs(file: Path, transform: Callable[[object], object]) -> np.ndarray:
    """Return the pixels of open_clip's transform, before they become floats."""
    image: object = PIL.Image.open(file)
    for step in transform.transforms[:-2]:  # type: ignore[attr-defined]
        image = step(image)
    return np.asarray(image)


def ours(file: Path, *, at_least: int | None) -> np.ndarray:
    """Return the pixels that clipsearch gives a model."""
    image = EncodedImage(file.read_bytes(), str(file), at_least=at_least).decode()
    return Preprocess((SIZE, SIZE), "shortest", "bicubic").of_decoded(image)


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> tuple[float, int]:
    """Return the mean and the greatest absolute difference of pixels."""
    gaps = np.abs(np.stack(found).astype(int) - np.stack(expected))
    return float(gaps.mean()), int(gaps.max())


if __name__ == "__main__":
    sys.exit(main())
