"""Large images: planned from their header, converted in bands, decoded in the memory foreseen."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encoded
from photographs import upright
from PIL import Image

from clipsearch.images import encoded as module
from clipsearch.images.colours import to_rgb, to_small_rgb
from clipsearch.images.decode import open_image
from clipsearch.images.encoded import EncodedImage

SIZE = (2400, 1800)
MEASURE = """
import json, resource, sys
from clipsearch.images.encoded import EncodedImage
data = open(sys.argv[1], "rb").read()
image = EncodedImage(data, "image", at_least=json.loads(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image.decode()
print(image.memory, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def photograph(size: tuple[int, int], seed: int) -> Image.Image:
    return Image.fromarray(upright(size, seed))


def picture(mode: str) -> Image.Image:
    image = photograph((500, 375), 5).resize(SIZE)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 256)
    return image.quantize(64, Image.Quantize.FASTOCTREE) if mode == "P" else image.convert(mode)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format_", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("JPEG", "CMYK", {}),
        ("PNG", "RGB", {"compress_level": 1}),
        ("PNG", "RGBA", {"compress_level": 1}),
        ("PNG", "L", {"compress_level": 1}),
        ("PNG", "P", {"compress_level": 1}),
        ("PNG", "LA", {"compress_level": 1}),
        ("PNG", "I;16", {"compress_level": 1}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "CMYK", {}),
        ("TIFF", "F", {}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("PPM", "RGB", {}),
        ("WEBP", "RGB", {"quality": 30, "method": 0}),
        ("WEBP", "RGBA", {"quality": 30, "method": 0}),
        ("JPEG2000", "RGB", {"quality_layers": [80]}),
        ("AVIF", "RGB", {"speed": 10, "quality": 30}),
        ("HEIF", "RGB", {"quality": 30}),
    ],
)
def test_an_image_takes_no_more_memory_than_is_reserved_for_it(
    format_: str, mode: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "image"
    path.write_bytes(encoded(picture(mode), format_, **options))
    for at_least in (None, 448):
        command = [sys.executable, "-c", MEASURE, str(path), json.dumps(at_least)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        foreseen, taken = map(int, run.stdout.split())
        assert taken <= 1.05 * foreseen + (5 << 20), (at_least, foreseen, taken)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "L", "P", "I;16", "CMYK", "F", "I"])
def test_bands_of_a_large_image_become_what_the_whole_does(mode: str) -> None:
    stream = io.BytesIO()
    picture(mode).resize((1111, 777)).save(stream, "TIFF" if mode in ("CMYK", "F", "I") else "PNG")
    with Image.open(stream) as image:
        image.load()
        small = np.asarray(to_small_rgb(image, 7)).astype(int)
        whole = np.asarray(to_rgb(image).reduce(7)).astype(int)
    assert small.shape == (111, 159, 3)
    assert np.abs(small - whole).max() <= 1


def test_a_large_image_is_made_small_as_it_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photograph((1203, 901), 2).convert("RGBA"), "PNG")
    whole = EncodedImage(data, "a.png", at_least=200).decode()
    assert whole.image.size == (1203, 901)
    monkeypatch.setattr(module, "_LARGE", 1_000_000)
    small = EncodedImage(data, "a.png", at_least=200).decode()
    assert small.image.size == (301, 226) and small.facts == whole.facts
    assert small.box == (0, 0, 1203 / 4, 901 / 4)
    near = np.asarray(small.image.resize((60, 45), box=small.box)).astype(int)
    assert np.abs(near - np.asarray(whole.image.resize((60, 45)))).mean() < 1


@pytest.mark.slow
def test_jpeg_2000_leaves_out_detail_that_nobody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALL", 100_000)
    image = photograph((1203, 903), 2)
    data = encoded(image, "JPEG2000")
    small = EncodedImage(data, "a.jp2", at_least=200)
    assert small.memory < EncodedImage(data, "a.jp2").memory / 2
    found = small.decode()
    assert found.image.size == (301, 226)
    assert (found.facts.width, found.facts.height) == (1203, 903)
    near = np.asarray(found.image.resize((60, 45), box=found.box)).astype(int)
    assert np.abs(near - np.asarray(image.resize((60, 45)))).mean() < 2
    # Of 905 rows a quarter is 226 or 227: half of them is 453 for both.
    odd = encoded(image.resize((1203, 905)), "JPEG2000")
    assert EncodedImage(odd, "a.jp2", at_least=200).decode().image.size == (602, 453)
    # Without levels of detail, none can be left out.
    flat = encoded(image, "JPEG2000", num_resolutions=1)
    assert EncodedImage(flat, "a.jp2", at_least=200).decode().image.size == (1203, 903)


def test_a_jpeg_in_scans_is_foreseen_with_all_its_coefficients() -> None:
    image = photograph((800, 600), 1)
    pixels = 800 * 600
    for subsampling, samples in ((0, 3), (1, 2), (2, 1.5)):
        data = encoded(image, "JPEG", progressive=True, subsampling=subsampling)
        assert EncodedImage(data, "a.jpg").memory == pixels * (4 + 2 * samples)
        data = encoded(image, "JPEG", subsampling=subsampling)
        assert EncodedImage(data, "a.jpg").memory == pixels * 4


def test_large_images_of_all_kinds_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", 1000)
    for mode in ("RGB", "RGBA", "L", "1", "P"):
        image, facts = open_image(encoded(picture(mode).resize((200, 100)), "PNG"), at_least=20)
        assert image.mode == "RGB" and (facts.width, facts.height) == (200, 100)
        assert image.size == ((200, 100) if mode == "RGB" else (40, 20))
