"""Pictures are prepared pixel for pixel as open_clip prepares them, without torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tiny_models
from open_clip.transform import PreprocessCfg, image_transform_v2

from clipsearch.encoders.preprocess import Preprocess, at_most

MODES = ("shortest", "longest", "squash")


def shapes() -> list[tuple[int, int]]:
    """Make sizes at which halves and rounding show: equal, odd, even, small, long."""
    rng = np.random.default_rng(0)
    fixed = [(32, 32), (33, 32), (32, 47), (31, 31), (64, 64), (5, 90), (90, 5), (101, 67)]
    return [*fixed, *((int(w), int(h)) for w, h in rng.integers(8, 150, size=(25, 2)))]


def picture(size: tuple[int, int], seed: int) -> PIL.Image.Image:
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
        image = picture(shape, seed)
        np.testing.assert_array_equal(prepare(image), of_open_clip(config, image), str(shape))


def test_pictures_that_are_smooth_and_photographic_sizes_are_equal_too() -> None:
    config = PreprocessCfg(size=224, mean=(0.5,) * 3, std=(0.5,) * 3)
    prepare = Preprocess.of(asdict(config))
    for image in tiny_models.pictures(5, seed=3):
        large = image.resize((image.width * 9, image.height * 9))
        np.testing.assert_array_equal(prepare(large), of_open_clip(config, large))


@pytest.mark.parametrize("mode", ["shortest", "longest"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 5000)])
def test_a_very_long_picture_is_cut_to_its_middle(mode: Any, size: tuple[int, int]) -> None:
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    where = (rows + columns) * 255 // max(size)
    image = PIL.Image.fromarray(np.dstack([where] * 3).astype(np.uint8))
    shaped = Preprocess((32, 32), mode, "bicubic")(image)
    assert shaped.shape == (32, 32, 3)
    seen = shaped[shaped > 0] if mode == "longest" else shaped
    assert seen.size >= 32 * 3
    assert abs(seen.astype(int) - 127).max() <= 4


def test_a_picture_within_the_aspect_is_left_alone() -> None:
    image = picture((64, 2), 0)
    assert at_most(image, 32) is image
    assert at_most(image, 16).size == (32, 2)
