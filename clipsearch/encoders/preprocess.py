"""Prepares pictures as a model wants them, without torch: pixel for pixel as open_clip does.

The steps are those of torchvision's Resize and CenterCrop and of open_clip's ResizeKeepRatio and
CenterCropOrPad, which hand pictures to Pillow too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import PIL.Image

# A picture of 1 x 50,000 pixels, enlarged until its short side fits, would fill the memory.
LONGEST_ASPECT = 64
FILTERS = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers for them


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a model sees a picture.

    >>> Preprocess((224, 224), "shortest", "bicubic")(image).shape
    (224, 224, 3)
    """

    size: tuple[int, int]
    """Height and width of what comes out."""
    resize_mode: Literal["shortest", "longest", "squash"]
    """The short side fits and the rest is cut; the long one fits and the rest is filled; both fit."""
    interpolation: str
    fill_color: int = 0

    @classmethod
    def of(cls, config: dict[str, Any]) -> Preprocess:
        """Take the settings from open_clip's dictionary of them."""
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else size
        return cls(
            (int(height), int(width)),
            config["resize_mode"] or "shortest",
            # open_clip's other word, `random`, means bicubic where nothing is trained.
            "bilinear" if config["interpolation"] == "bilinear" else "bicubic",
            int(config["fill_color"]),
        )

    def __call__(self, image: PIL.Image.Image) -> np.ndarray:
        """Resize and crop an RGB picture: uint8 (H, W, 3). Thread-safe."""
        height, width = self.size
        resample, fill = FILTERS[self.interpolation], 0
        if self.resize_mode != "squash":
            image = at_most(image, min(LONGEST_ASPECT, *self.size))
        match self.resize_mode:
            case "squash":
                target = (width, height)
            case "longest":
                target, fill = self._scaled(image, max), self.fill_color
            case _ if height == width:
                target = _shortest(image, height)
            case _:
                # Here open_clip takes its default filter, whatever the model asks for.
                target, resample = self._scaled(image, min), FILTERS["bicubic"]
        return self._centre(np.asarray(image.resize(target, resample), dtype=np.uint8), fill)

    def _scaled(
        self, image: PIL.Image.Image, choose: Callable[[float, float], float]
    ) -> tuple[int, int]:
        """Return width and height so that the longer (max) or shorter (min) side fits."""
        height, width = self.size
        ratio = choose(image.height / height, image.width / width)
        return round(image.width / ratio), round(image.height / ratio)

    def _centre(self, pixels: np.ndarray, fill: int) -> np.ndarray:
        """Cut out the middle, after filling what is missing on both sides."""
        lack = [max(0, want - have) for want, have in zip(self.size, pixels.shape, strict=False)]
        if any(lack):
            margins = [(missing // 2, (missing + 1) // 2) for missing in lack]
            pixels = np.pad(pixels, (*margins, (0, 0)), constant_values=fill)
        # Python rounds halves to the even number, and so does torchvision.
        top, left = (
            round((have - want) / 2) for want, have in zip(self.size, pixels.shape, strict=False)
        )
        return pixels[top : top + self.size[0], left : left + self.size[1]]


def at_most(image: PIL.Image.Image, aspect: int) -> PIL.Image.Image:
    """Cut the ends off a picture longer than `aspect` times its breadth."""
    width, height = (min(side, aspect * min(image.size)) for side in image.size)
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _shortest(image: PIL.Image.Image, size: int) -> tuple[int, int]:
    """Return width and height so that the short side fits a square; the long one is rounded down."""
    short, long = sorted(image.size)
    longer = int(size * long / short)
    return (size, longer) if image.width <= image.height else (longer, size)
