"""Read photographs from JPEG files to the pixels that a model wants, in one thread.

    python scripts/bench/decode.py

whole: Pillow decodes all of it, open_clip's own transform resizes and crops it. exact: clipsearch,
which resamples what is kept and no more. default: it lets the decoder leave out detail, down to
twice of what the model wants in both directions. fast: down to once (`--fast`). Differences are
of pixels from 0 to 255, to `whole`.

Then the same photographs as files of other formats, and as the previews that cameras put into a
JPEG file; and, where it is installed, by simplejpeg, another binding of the same decoder.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path

import material
import numpy as np
import open_clip
import PIL.Image
import torch
from common import Cell, Chart, Claim, Options, Report, Table, in_turn, say, timed
from open_clip.transform import PreprocessCfg, image_transform_v2
from pillow_heif import register_heif_opener

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
FORMATS: dict[str, tuple[str, tuple[int, int] | None, dict[str, object]]] = {
    "JPEG": ("jpeg", None, {"quality": material.QUALITY}),
    "WebP": ("webp", None, {"quality": 80, "method": 2}),
    "HEIC": ("heif", None, {"quality": 60}),
    "PNG": ("png", None, {"compress_level": 3}),
    "JPEG, a preview": ("jpeg", (1620, 1080), {"quality": 80}),
}
"""Format -> its name in Pillow, the size if it is another, and how it is saved."""
FORMAT_COUNT, BINDING = 4, "JPEG, by simplejpeg"
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
    measure_formats(report, options, "tiny" if options.quick else "12 MP")
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


def measure_formats(report: Report, options: Options, size: str) -> None:
    """Measure how long the same photographs take as files of other formats."""
    register_heif_opener()
    originals = sorted(material.photos(options.cache, size, FORMAT_COUNT).iterdir())
    with tempfile.TemporaryDirectory(dir=options.cache) as given:
        files = {format: _saved(originals, format, Path(given)) for format in FORMATS}
        ways = {
            f"{format}: {way}": timed(partial(_read_all, partial(ours, at_least=at_least), some))
            for format, some in files.items()
            for way, at_least in AT_LEAST.items()
            if way != "exact"
        }
        with suppress(ImportError):
            read = import_module("simplejpeg").decode_jpeg  # it is compared where it is installed

            def turbo(file: Path) -> np.ndarray:
                least = 2 * SIZE
                return np.asarray(read(file.read_bytes(), min_width=least, min_height=least))

            ways[f"{BINDING}: default"] = timed(partial(_read_all, turbo, files["JPEG"]))
        seconds = in_turn(ways, options.rounds)
        weights = {
            format: sum(file.stat().st_size for file in some) for format, some in files.items()
        }
    rows: list[list[Cell]] = []
    for format in FORMATS if f"{BINDING}: default" not in seconds else (*FORMATS, BINDING):
        took = [seconds.get(f"{format}: {way}") for way in ("default", "fast")]
        ms = [1000 * statistics.median(one) / FORMAT_COUNT if one else None for one in took]
        rows.append([format, weights.get(format, weights["JPEG"]) / FORMAT_COUNT / 1e6, *ms])
    report.tables.append(Table(f"Formats, {size}", ["file", "MB", "ms", "--fast, ms"], rows))
    report.seconds |= seconds


def _saved(originals: Sequence[Path], format: str, folder: Path) -> list[Path]:
    """Save photographs in a format of FORMATS; return the files."""
    kind, size, options = FORMATS[format]
    files = []
    for number, original in enumerate(originals):
        file = folder / f"{format}-{number}".replace(", ", "-").replace(" ", "-")
        with PIL.Image.open(original) as image:
            (image if size is None else image.resize(size)).save(file, kind, **options)
        files.append(file)
    return files


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
