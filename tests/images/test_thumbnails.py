"""Thumbnails: small upright JPEG files, the last ones cached."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import RED, YELLOW, apart, encoded, exif, four_colours
from PIL import Image

from clipsearch.errors import UnreadableImage
from clipsearch.images.thumbnails import ThumbnailCache, make_thumbnail


def test_a_thumbnail_is_a_small_upright_jpeg_without_the_sources_metadata(tmp_path: Path) -> None:
    path = tmp_path / "big.jpg"
    stored = four_colours(1200, 800).transpose(Image.Transpose.ROTATE_90)
    path.write_bytes(encoded(stored, "JPEG", quality=95, exif=exif(6), comment=b"private"))
    data = make_thumbnail(path, 120)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.size, image.mode) == ("JPEG", (120, 80), "RGB")
    assert apart(np.asarray(image)[10, 10], RED) <= 6
    assert apart(np.asarray(image)[-10, -10], YELLOW) <= 6
    assert not image.getexif() and b"private" not in data and b"Pixel" not in data
    small = Image.open(io.BytesIO(make_thumbnail(encoded(four_colours(), "PNG"), 500)))
    assert small.size == (96, 64)


def test_thumbnails_are_cached_up_to_a_size(make_images: Callable[..., list[Path]]) -> None:
    paths = [str(path) for path in make_images(12)]
    sizes = [len(make_thumbnail(path, 48)) for path in paths]
    cache = ThumbnailCache(max_bytes=3 * max(sizes))
    first = [cache.get(path, 48) for path in paths]
    assert [len(data) for data in first] == sizes
    assert cache.get(paths[-1], 48) is first[-1], "it was the last one, and is cached"
    again = cache.get(paths[0], 48)
    assert again == first[0] and again is not first[0], "it was dropped for later ones"


def test_a_changed_file_has_a_new_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cache = ThumbnailCache()
    Image.new("RGB", (60, 40), "red").save(path)
    red = cache.get(str(path), 32)
    Image.new("RGB", (60, 40), "blue").save(path)
    blue = cache.get(str(path), 32)
    with Image.open(io.BytesIO(red)) as one, Image.open(io.BytesIO(blue)) as other:
        assert one.getpixel((5, 5))[0] > 200 and other.getpixel((5, 5))[2] > 200  # type: ignore[index]
    path.unlink()
    with pytest.raises(UnreadableImage) as caught:
        cache.get(str(path), 32)
    assert caught.value.transient
