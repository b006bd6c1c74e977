"""Images are prepared pixel for pixel as open_clip prepares them, without torch."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tiny_models
from open_clip.transform import PreprocessCfg, image_transform_v2
from photographs import PHOTOGRAPHS, jpeg, upright

from clipsearch.encoders.preprocess import Preprocess, limit_aspect
from clipsearch.images.decode import open_image
from clipsearch.images.encoded import DecodedImage, EncodedImage
from clipsearch.types import Facts

MODES = ("shortest", "longest", "squash")


def shapes() -> list[tuple[int, int]]:
    """Make sizes at which halves and rounding show: equal, odd, even, small, long."""
    rng = np.random.default_rng(0)
    fixed = [(32, 32), (33, 32), (32, 47), (31, 31), (64, 64), (5, 90), (90, 5), (101, 67)]
    return [*fixed, *((int(w), int(h)) for w, h in rng.integers(8, 150, size=(25, 2)))]


def image(size: tuple[int, int], seed: int) -> PIL.Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, size=(*size[::-1], 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def of_open_clip(config: PreprocessCfg, image: PIL.Image.Image) -> np.ndarray:
    for step in image_transform_v2(config, is_train=False).transforms[:-2]:
        image = step(image)
    return np.asarray(image, dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("size", [32, (32, 32), (24, 40), (45, 31)])
@pytest.mark.parametrize("mode", MODES)
def test_pixels_are_those_of_open_clip(mode: str, size: Any, interpolation: str) -> None:
    config = PreprocessCfg(size=size, resize_mode=mode, interpolation=interpolation, fill_color=200)
    prepare = Preprocess.of(asdict(config))
    for seed, shape in enumerate(shapes()):
        drawn = image(shape, seed)
        np.testing.assert_array_equal(prepare(drawn), of_open_clip(config, drawn), str(shape))


def test_images_that_are_smooth_and_photographic_sizes_are_equal_too() -> None:
    config = PreprocessCfg(size=224, mean=(0.5,) * 3, std=(0.5,) * 3)
    prepare = Preprocess.of(asdict(config))
    for image in tiny_models.images(5, seed=3):
        large = image.resize((image.width * 9, image.height * 9))
        np.testing.assert_array_equal(prepare(large), of_open_clip(config, large))


@pytest.mark.parametrize("mode", ["shortest", "longest"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 5000)])
def test_a_very_long_image_is_cut_to_its_middle(mode: Any, size: tuple[int, int]) -> None:
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    where = (rows + columns) * 255 // max(size)
    image = PIL.Image.fromarray(np.dstack([where] * 3).astype(np.uint8))
    shaped = Preprocess((32, 32), mode, "bicubic")(image)
    assert shaped.shape == (32, 32, 3)
    seen = shaped[shaped > 0] if mode == "longest" else shaped
    assert seen.size >= 32 * 3
    assert abs(seen.astype(int) - 127).max() <= 4


def test_sides_are_cut_to_the_aspect_and_no_more() -> None:
    assert limit_aspect((64, 2), 32) == (64, 2)
    assert limit_aspect((64, 2), 16) == (32, 2)
    assert limit_aspect((3, 200), 16) == (3, 48)


# --- images decoded smaller --------------------------------------------------------------


@pytest.mark.slow
@cache
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_decoded_smaller_are_prepared_as_the_whole_is(mode: Any, orientation: int) -> None:
    prepare = Preprocess((64, 64), mode, "bicubic", 200)
    for seed, size in enumerate(PHOTOGRAPHS[:: 1 if orientation in (1, 6) else 3]):
        data = jpeg(upright(size, seed), orientation)
        exact = prepare(open_image(data)[0]).astype(int)
        for at_least, far in ((128, 0.8), (64, 2.5)):
            image = EncodedImage(data, "a.jpg", at_least=at_least).decode()
            assert (image.facts.width, image.facts.height) == size
            apart = np.abs(prepare.of_decoded(image).astype(int) - exact)
            assert apart.mean() <= far, (size, at_least, apart.mean())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
def test_images_decoded_whole_are_prepared_to_a_level(mode: Any, size: tuple[int, int]) -> None:
    prepare = Preprocess(size, mode, "bicubic", 200)
    for seed, shape in enumerate([(640, 480), (90, 1000), (200, 130), (33, 200), (64, 64)]):
        image = PIL.Image.fromarray(upright(shape, seed))
        decoded = DecodedImage(image, Facts(*shape, "PNG"), (0, 0, *shape))
        apart = np.abs(prepare.of_decoded(decoded).astype(int) - prepare(image).astype(int))
        # Where it enlarges, Pillow may take the sides in another order, rounding in between.
        assert apart.mean() < (0.001 if min(shape) > max(size) else 0.3)
        assert apart.max() <= (1 if min(shape) > max(size) else 6)


def test_a_shift_of_a_pixel_of_the_whole_shows() -> None:
    """What is drawn at one place of the whole comes out there, to a tenth of a pixel, however turned.

    Were sizes taken from the smaller image, or its rounding from the wrong side, it would not.
    """
    prepare = Preprocess((64, 64), "shortest", "bicubic")
    rows, columns = np.mgrid[:1203, :1601]
    ramp = np.dstack([columns * 255 / 1600, rows * 255 / 1202, rows * 0 + 128]).astype(np.uint8)
    expected = prepare(PIL.Image.fromarray(ramp)).astype(float)
    for orientation in range(1, 9):
        image = EncodedImage(jpeg(ramp, orientation), "a.jpg", at_least=128).decode()
        assert image.image.size in ((201, 151), (401, 301))
        shift = prepare.of_decoded(image) - expected
        # One pixel of the result is 3 levels across and 4 down.
        assert np.abs(shift.mean((0, 1))).max() < 0.3
