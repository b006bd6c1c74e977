"""Preprocess images for a model, without torch: resize and crop, pixel for pixel as open_clip does.

The steps are those of torchvision's Resize and CenterCrop and of open_clip's ResizeKeepRatio and
CenterCropOrPad, which hand images to Pillow too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from clipsearch._util import LazyModule

if TYPE_CHECKING:
    import PIL.Image

    from clipsearch.images import encoded
else:
    PIL, encoded = LazyModule("PIL"), LazyModule("clipsearch.images.encoded")

# An image of 1 x 50,000 pixels, enlarged until its short side fits, would fill the memory.
_LONGEST_ASPECT = 64
_FILTERS = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers for them


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Resizes and crops images as a model needs them.

    >>> Preprocess((224, 224), "shortest", "bicubic")(image).shape
    (224, 224, 3)
    """

    size: tuple[int, int]
    """Height and width of the result."""
    resize_mode: Literal["shortest", "longest", "squash"]
    """The short side fits and the rest is cut; the long one fits and the rest is filled; both fit."""
    interpolation: str
    fill_color: int = 0

    @classmethod
    def of(cls, config: dict[str, Any]) -> Preprocess:
        """Make one from open_clip's dictionary `preprocess_cfg`."""
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
        """Resize and crop an RGB image: uint8 (H, W, 3). Thread-safe."""
        plan = self._plan(image.size)
        pixels = np.asarray(
            plan.region_of(image).resize((plan.columns.made, plan.rows.made), plan.resample),
            dtype=np.uint8,
        )
        rows, columns = plan.rows, plan.columns
        return self._fill(pixels[rows.kept, columns.kept], plan)

    def of_decoded(self, decoded: encoded.DecodedImage) -> np.ndarray:
        """Resize and crop an image that was decoded smaller or in part; thread-safe.

        Parameters
        ----------
        decoded
            What was decoded, with its place in the whole image.

        Returns
        -------
        uint8 (H, W, 3): what the whole image would give. Only the kept part is resampled.
        """
        facts, image = decoded.facts, decoded.image
        plan = self._plan((facts.width, facts.height))
        left, top, right, bottom = decoded.box
        x0, x1 = plan.columns.find_kept((right - left) / facts.width, left, image.width)
        y0, y1 = plan.rows.find_kept((bottom - top) / facts.height, top, image.height)
        size = (plan.columns.size, plan.rows.size)
        pixels = image.resize(size, plan.resample, box=(x0, y0, x1, y1))
        return self._fill(np.asarray(pixels, dtype=np.uint8), plan)

    def _plan(self, whole: tuple[int, int]) -> _Plan:
        """Plan the steps for an image of this width and height."""
        height, width = self.size
        resample, fill = _FILTERS[self.interpolation], 0
        aspect = None if self.resize_mode == "squash" else min(_LONGEST_ASPECT, *self.size)
        region = whole if aspect is None else limit_aspect(whole, aspect)
        match self.resize_mode:
            case "squash":
                made = (width, height)
            case "longest":
                made, fill = self._fit_side(region, max), self.fill_color
            case _ if height == width:
                made = _fit_short_side(region, height)
            case _:
                # Here open_clip takes its default filter, whatever the model asks for.
                made, resample = self._fit_side(region, min), _FILTERS["bicubic"]
        columns = _Side(whole[0], region[0], made[0], width)
        return _Plan(columns, _Side(whole[1], region[1], made[1], height), resample, fill)

    def _fit_side(
        self, region: tuple[int, int], choose: Callable[[float, float], float]
    ) -> tuple[int, int]:
        """Return width and height so that the longer (max) or shorter (min) side fits."""
        height, width = self.size
        ratio = choose(region[1] / height, region[0] / width)
        return round(region[0] / ratio), round(region[1] / ratio)

    def _fill(self, pixels: np.ndarray, plan: _Plan) -> np.ndarray:
        """Fill the margins on both sides."""
        margins = (plan.rows.margins, plan.columns.margins, (0, 0))
        if not any(map(any, margins)):
            return pixels
        return np.pad(pixels, margins, constant_values=plan.fill)


@runtime_checkable
class Prepares(Protocol):
    """An encoder that tells how it prepares images, so that they are not decoded larger than needed."""

    @property
    def prepare(self) -> Preprocess:
        """The preprocessing, for whole images and those that were decoded smaller."""
        ...


class _Side(NamedTuple):
    """Resizing and cropping of one side of an image, in pixels.

    Of `whole`, the middle `region` is resized to `made`; of that the middle `wanted` is kept, and
    margins are filled where it is larger.
    """

    whole: int
    region: int
    made: int
    wanted: int

    @property
    def size(self) -> int:
        """Number that is kept."""
        return min(self.made, self.wanted)

    @property
    def kept(self) -> slice:
        """Part of `made` that is kept."""
        # Python rounds halves to the even number, and so does torchvision.
        start = round(max(0, self.made - self.wanted) / 2)
        return slice(start, start + self.size)

    @property
    def margins(self) -> tuple[int, int]:
        """Numbers that are missing before and after."""
        missing = self.wanted - self.size
        return missing // 2, (missing + 1) // 2

    def find_kept(self, scale: float, start: float, limit: int) -> tuple[float, float]:
        """Return where the kept part begins and ends in an image at `scale` that begins at `start`."""
        step = self.region / self.made
        first = (self.whole - self.region) // 2 + self.kept.start * step
        ends = (first, first + self.size * step)
        low, high = (min(max(0.0, start + end * scale), limit) for end in ends)
        return low, high


class _Plan(NamedTuple):
    columns: _Side
    rows: _Side
    resample: int
    fill: int

    def region_of(self, image: PIL.Image.Image) -> PIL.Image.Image:
        width, height = self.columns.region, self.rows.region
        if (width, height) == image.size:
            return image
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))


def limit_aspect(size: tuple[int, int], aspect: int) -> tuple[int, int]:
    """Return a width and height that are at most `aspect` times each other."""
    width, height = (min(side, aspect * min(size)) for side in size)
    return width, height


def _fit_short_side(region: tuple[int, int], size: int) -> tuple[int, int]:
    """Return width and height so that the short side fits a square; the long one is rounded down."""
    short, long = sorted(region)
    longer = int(size * long / short)
    return (size, longer) if region[0] <= region[1] else (longer, size)
