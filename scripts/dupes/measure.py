"""Measure what `clipsearch dupes` says of copies, edits, bursts and different images.

    python scripts/dupes/measure.py

Images: bundled drawings, the two photographs of scikit-learn with windows of them, and pages of
text. Each is changed in every way below and written to files; what decides is the product's own
`group_duplicates` on the two files. The table is that of docs/guides/duplicates.md.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

import clipsearch
from clipsearch import Encoder, load_encoder
from clipsearch.grouping.near_pairs import group_duplicates
from clipsearch.images.decode import open_image
from clipsearch.images.files import read_file
from clipsearch.types import ImageRecord

Drawing = Image.Image
SAMPLES = Path(clipsearch.__file__).with_name("samples")
LANCZOS, BILINEAR = Image.Resampling.LANCZOS, Image.Resampling.BILINEAR


# --- images --------------------------------------------------------------------------------


def images(drawings: int) -> Iterator[Drawing]:
    """Yield drawings, photographs and pages."""
    rng = random.Random(0)
    for path in rng.sample(sorted(SAMPLES.glob("*.webp")), drawings):
        yield Image.open(path).convert("RGB")
    for array in sklearn.datasets.load_sample_images().images:
        photo = Image.fromarray(array)
        yield photo
        for _ in range(4):
            x, y = rng.randrange(300), rng.randrange(170)
            yield photo.crop((x, y, x + 320, y + 240))
    for number in range(6):
        yield page(number, lines=14 if number % 2 else 30)


def page(seed: int, *, lines: int) -> Drawing:
    """Draw a page of words: those of one firm look alike from afar."""
    rng = random.Random(seed)
    sheet = Image.new("RGB", (1240, 1754), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((100, 80), "Example Company, 12 High Street", "navy", ImageFont.load_default(40))
    words = [
        "the",
        "of",
        "and",
        "image",
        "invoice",
        "date",
        "amount",
        "total",
        "name",
        "street",
        "city",
        "number",
        "letter",
    ]
    for line in range(lines):
        text = " ".join(rng.choices(words, k=10))
        draw.text((100, 300 + 44 * line), text, "black", ImageFont.load_default(28))
    return sheet


# --- changes: an image to the pair that is compared -------------------------------------------


def smaller(share: float, filter: Image.Resampling) -> Callable[[Drawing], Drawing]:
    return lambda image: image.resize(
        (round(image.width * share), round(image.height * share)), filter
    )


def window(image: Drawing, left: float, top: float, right: float, bottom: float) -> Drawing:
    """Cut off shares of the width and the height."""
    w, h = image.size
    return image.crop(
        (round(w * left), round(h * top), round(w * (1 - right)), round(h * (1 - bottom)))
    )


def moved(share: float) -> Callable[[Drawing], tuple[Drawing, Drawing]]:
    return lambda p: (
        window(p, 0.06, 0.06, 0.06, 0.06),
        window(p, 0.06 + share, 0.06, 0.06 - share, 0.06),
    )


def turned(degrees: float) -> Callable[[Drawing], tuple[Drawing, Drawing]]:
    cut = (0.06, 0.06, 0.06, 0.06)
    return lambda p: (window(p, *cut), window(p.rotate(degrees, Image.Resampling.BICUBIC), *cut))


def burst(image: Drawing) -> tuple[Drawing, Drawing]:
    """Move the camera by 4 %, turn it by 1 degree, expose 8 % longer."""
    first, second = moved(0.04)(image)
    second = ImageEnhance.Brightness(second.rotate(1, Image.Resampling.BICUBIC)).enhance(1.08)
    cut = (0.02, 0.02, 0.02, 0.02)
    return window(first, *cut), window(second, *cut)


def patched(share: float) -> Callable[[Drawing], tuple[Drawing, Drawing]]:
    """Put something else in the middle: of the size of a face, say, whose eyes are now closed."""

    def change(image: Drawing) -> tuple[Drawing, Drawing]:
        side = round(min(image.size) * share)
        x, y = image.width // 2 - side // 2, image.height // 2 - side // 2
        patch = Image.effect_noise((side, side), 80).convert("RGB")
        changed = image.copy()
        changed.paste(patch, (x, y))
        return image, changed

    return change


def stamped(image: Drawing) -> tuple[Drawing, Drawing]:
    """Write a date into the corner."""
    changed = image.copy()
    place = (image.width * 0.6, image.height * 0.9)
    font = ImageFont.load_default(max(8, image.height // 20))
    ImageDraw.Draw(changed).text(place, "2024-05-01", "orange", font)
    return image, changed


def pair(change: Callable[[Drawing], Drawing]) -> Callable[[Drawing], tuple[Drawing, Drawing]]:
    return lambda image: (image, change(image))


def same(image: Drawing) -> tuple[Drawing, Drawing]:
    return image, image


Change = tuple[str, str, dict[str, Any], Callable[[Drawing], tuple[Drawing, Drawing]]]
COPY: list[Change] = [
    *(("copy", f"JPEG {q}.jpg", {"quality": q}, same) for q in (95, 75, 50, 30, 20, 10)),
    *(("copy", f"WebP {q}.webp", {"quality": q}, same) for q in (80, 50, 20)),
    ("copy", "AVIF 50.avif", {"quality": 50}, same),
    ("copy", "GIF.gif", {}, same),
    *(
        ("copy", f"{share:.0%} of the size, {f.name.lower()}.jpg", {"quality": 80}, pair(smaller(share, f)))
        for share in (1.5, 0.75, 0.5, 0.25)
        for f in (LANCZOS, BILINEAR)
    ),
]  # fmt: skip
EDIT: list[Change] = [
    ("edit", name + ".png", {}, change)
    for name, change in (
        ("brightness +10 %", pair(lambda p: ImageEnhance.Brightness(p).enhance(1.1))),
        ("brightness +30 %", pair(lambda p: ImageEnhance.Brightness(p).enhance(1.3))),
        ("saturation -50 %", pair(lambda p: ImageEnhance.Color(p).enhance(0.5))),
        ("cropped by 1 % a side", pair(lambda p: window(p, *[0.01] * 4))),
        ("cropped by 5 % a side", pair(lambda p: window(p, *[0.05] * 4))),
        ("date stamped into a corner", stamped),
        ("5 % patched", patched(0.05)),
        ("20 % patched", patched(0.2)),
        ("mirrored", pair(lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT))),
    )
]
BURST: list[Change] = [
    ("burst", name + ".png", {}, change)
    for name, change in (
        ("moved by 1 %", moved(0.01)),
        ("moved by 5 %", moved(0.05)),
        ("turned by 1 degree", turned(1)),
        ("turned by 3 degrees", turned(3)),
        ("moved 4 %, turned 1 degree, +8 % light", burst),
    )
]


# --- measuring -------------------------------------------------------------------------------


def record(path: Path, encoder: Encoder) -> tuple[ImageRecord, np.ndarray]:
    data, digest = read_file(path)
    image, facts = open_image(data, path=path)
    row = encoder.encode_images(encoder.preprocess(image)[None])[0]
    return ImageRecord(str(path), 0, digest, len(data), facts), row


class _Images:
    """Different images in memory, as `group_duplicates` reads them."""

    def __init__(self, images: Sequence[tuple[ImageRecord, np.ndarray]]) -> None:
        records, rows = zip(*images, strict=True)
        self._records, self._rows = records, np.stack(rows)

    def pages(self) -> Iterator[dict[int, list[ImageRecord]]]:
        yield self.files(np.arange(len(self._records)))

    def files(self, numbers: np.ndarray) -> dict[int, list[ImageRecord]]:
        return {number: [self._records[number]] for number in numbers.tolist()}

    def vectors(self, numbers: np.ndarray) -> np.ndarray:
        found: np.ndarray = self._rows[numbers]
        return found


def verdict(*images: tuple[ImageRecord, np.ndarray]) -> str:
    found = group_duplicates(_Images(images))
    return found[0].tier if found else "neither"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--drawings", type=int, default=30)
    options = parser.parse_args()
    encoder = load_encoder(options.model)
    bases = list(images(options.drawings))
    print("| kind | change | pairs | same image | same scene | neither |")
    print("| --- | --- | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as folder:
        for kind, name, settings, change in [*COPY, *EDIT, *BURST]:
            counts: Counter[str] = Counter()
            for base in bases:
                first, second = (
                    Path(folder, "first.png"),
                    Path(folder, "second" + Path(name).suffix),
                )
                one, other = change(base)
                one.save(first)
                other.save(second, **settings)
                counts[verdict(record(first, encoder), record(second, encoder))] += 1
            show(kind, name.rpartition(".")[0], counts)
        files = sorted(SAMPLES.glob("*.webp"))[14:]  # those before are drawn in look-alikes
        others = [record(path, encoder) for path in files]
        for number, base in enumerate(bases[options.drawings :]):
            path = Path(folder, f"{number}.png")
            base.save(path)
            others.append(record(path, encoder))
        counts = Counter()
        for group in group_duplicates(_Images(others)):
            counts[group.tier] += len(list(combinations(group.records, 2)))
        counts["neither"] = len(list(combinations(others, 2))) - counts.total()
        show("different", "all pairs of different images", counts)


def show(kind: str, name: str, counts: Counter[str]) -> None:
    cells = [counts[tier] for tier in ("same-image", "same-scene", "neither")]
    print(f"| {kind} | {name} | {counts.total():,} |", *(f"{n:,} |" for n in cells), flush=True)


if __name__ == "__main__":
    main()
