"""Draw sprites: recolour them, change their style, place them on backgrounds.

The style changes exist for one reason: a search engine meets drawings by artists whose style it
never saw. Outlines, flat fills, line art and warps keep a drawing's meaning and change its look.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import numpy as np
from language import COLOURS
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from sprites import COLOUR, LINE, MONO, Thing

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""
PAD = 4
LOOKS = ("own", "outline", "ink", "flat", "line", "grey", "posterise", "silhouette", "soft")
LOOK_WEIGHTS = (0.36, 0.1, 0.14, 0.18, 0.06, 0.05, 0.06, 0.01, 0.04)
_GREY = np.array([0.3, 0.59, 0.11], np.float32)

PLACE_COLOURS = {
    "sky": ((130, 195, 250), (215, 238, 255)), "night": ((12, 16, 45), (38, 42, 90)), "grass": ((150, 210, 250), (90, 170, 70)),
    "beach": ((120, 200, 240), (240, 220, 160)), "sea": ((80, 160, 220), (20, 80, 160)), "snow": ((195, 215, 235), (250, 250, 255)),
    "desert": ((250, 210, 150), (222, 170, 100)), "room": ((235, 215, 190), (165, 125, 90)), "forest": ((60, 110, 60), (35, 70, 35)),
    "sunset": ((250, 150, 80), (250, 200, 120)),
}  # fmt: skip


class Artist:
    """Sprites at drawing size, with what recolouring needs worked out beforehand."""

    def __init__(self, things: Sequence[Thing], *, size: int) -> None:
        self.size = size
        base = round(size * 0.9)
        self._sprites: dict[tuple[str, str], list[np.ndarray]] = {}
        self._natural: dict[str, tuple[int, int, int]] = {}
        for thing in things:
            for style, drawn in thing.sprites.items():
                self._sprites[thing.hexcode, style] = [_fit(sprite, base) for sprite in drawn]
            coloured = [s for s in COLOUR if s in thing.sprites]
            if coloured:
                self._natural[thing.hexcode] = _main_colour(
                    self._sprites[thing.hexcode, coloured[0]][0]
                )
        self._solid: dict[tuple[str, str, int], np.ndarray] = {}
        self._clutter = _make_clutter(size, random.Random(5))

    # --- sprites ---------------------------------------------------------------------------

    def look(self, rng: random.Random, *, plain: bool = False) -> str:
        """Choose the style change for a whole image."""
        return "own" if plain else rng.choices(LOOKS, LOOK_WEIGHTS)[0]

    def sprite(
        self, thing: Thing, style: str, colour: str | None, look: str, rng: random.Random
    ) -> Image.Image:
        """Return one drawing of a thing, recoloured and restyled, as RGBA."""
        variants = self._sprites[thing.hexcode, style]
        number = rng.randrange(len(variants))
        rgb = None
        if colour:
            rgb = tuple(min(255, max(0, v + rng.randint(-18, 18))) for v in COLOURS[colour])
        if style in MONO:
            pixels = self._ink(thing, style, number, rgb, look, rng)
        else:
            pixels = variants[number].astype(np.float32)
            if rgb:
                pixels[..., :3] = tint(pixels[..., :3], rgb, rng)
            pixels = restyle(pixels, look, coloured=rgb is not None, rng=rng)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8), "RGBA")

    def _ink(
        self,
        thing: Thing,
        style: str,
        number: int,
        rgb: tuple | None,
        look: str,
        rng: random.Random,
    ) -> np.ndarray:
        """Colour a one-colour drawing: its ink, or what its lines enclose."""
        ink = self._sprites[thing.hexcode, style][number][..., 3].astype(np.float32) / 255
        key = (thing.hexcode, style, number)
        if key not in self._solid:
            self._solid[key] = _enclosed(ink)
        solid = self._solid[key]
        dark = np.array([rng.randint(0, 45)] * 3, np.float32)
        fill = np.array(rgb or self._natural.get(thing.hexcode, (200, 200, 200)), np.float32)
        white = np.array([255, 255, 255], np.float32)
        if style in LINE:  # the ink is the line
            if rgb is None and (look in ("line", "grey") or rng.random() < 0.3):
                fill = white
            line = dark
        else:  # solid art: the ink is the body, the holes are its lines
            line = fill if rgb is not None or rng.random() < 0.45 else dark
            fill = white if line.mean() < 128 or rng.random() < 0.5 else dark
            if rng.random() < 0.3:  # holes stay holes
                solid = ink
        colour = ink[..., None] * line + (1 - ink[..., None]) * fill
        return np.dstack([colour, np.maximum(ink, solid) * 255])

    def paste(
        self,
        canvas: Image.Image,
        sprite: Image.Image,
        x: float,
        y: float,
        size: float,
        rng: random.Random,
        *,
        plain: bool,
    ) -> Box:
        """Put a sprite on the canvas, flipped, turned and warped a little; say where it lies.

        Place and size are shares of the canvas; the box is in pixels.
        """
        side = size * self.size
        scale = side / max(sprite.size)
        stretch = 1.0 if plain else rng.uniform(0.88, 1.14)
        width, height = (
            max(2, round(sprite.width * scale * stretch)),
            max(2, round(sprite.height * scale / stretch)),
        )
        sprite = sprite.resize(
            (width, height),
            Image.Resampling.BILINEAR if plain or rng.random() < 0.8 else Image.Resampling.BICUBIC,
        )
        if rng.random() < 0.5:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if not plain and rng.random() < 0.7:
            sprite = _warp(sprite, rng)
        left, top = (
            round(x * self.size - sprite.width / 2),
            round(y * self.size - sprite.height / 2),
        )
        canvas.paste(sprite, (left, top), sprite)
        return left, top, left + sprite.width, top + sprite.height

    # --- surroundings ----------------------------------------------------------------------

    def background(self, place: str | None, rng: random.Random, *, plain: bool) -> Image.Image:
        """Paint a place, a plain colour or clutter."""
        size = self.size
        if place:
            top, bottom = PLACE_COLOURS[place]
            top, bottom = (_varied(colour, rng) for colour in (top, bottom))
            canvas = Image.new("RGB", (size, size), top)
            brush = ImageDraw.Draw(canvas)
            brush.rectangle([0, round(size * rng.uniform(0.45, 0.7)), size, size], fill=bottom)
            _decorate(brush, place, size, rng)
            return canvas
        roll = rng.random()
        if plain or roll < 0.4:
            return Image.new("RGB", (size, size), (255, 255, 255))
        if roll < 0.6:
            return Image.new("RGB", (size, size), tuple(rng.randint(140, 255) for _ in range(3)))
        clutter = rng.choice(self._clutter)
        x, y = rng.randint(0, clutter.width - size), rng.randint(0, clutter.height - size)
        canvas = clutter.crop((x, y, x + size, y + size))
        return canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else canvas

    def finish(self, canvas: Image.Image, rng: random.Random, *, plain: bool) -> Image.Image:
        """Let a camera and a web site have their way with the image."""
        if plain:
            return canvas
        if rng.random() < 0.12:
            canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9)))
        if rng.random() < 0.2:
            canvas = ImageEnhance.Brightness(canvas).enhance(rng.uniform(0.75, 1.2))
        if rng.random() < 0.2:
            canvas = ImageEnhance.Contrast(canvas).enhance(rng.uniform(0.7, 1.25))
        if rng.random() < 0.1:
            noise = np.random.default_rng(rng.getrandbits(32)).normal(
                0, rng.uniform(3, 14), (self.size, self.size, 1)
            )
            canvas = Image.fromarray((np.asarray(canvas) + noise).clip(0, 255).astype(np.uint8))
        if rng.random() < 0.1:
            buffer = io.BytesIO()
            canvas.save(buffer, "JPEG", quality=rng.randint(35, 85))
            canvas = Image.open(buffer).convert("RGB")
        return canvas


def tint(rgb: np.ndarray, colour: tuple, rng: random.Random) -> np.ndarray:
    """Bring float32 (H, W, 3) pixels to one colour, keeping light and shade, in one of three ways."""
    target = np.array(colour, np.float32) / 255
    light = (rgb @ _GREY / 255)[..., None]
    if min(colour) > 220:
        out = 0.62 + 0.38 * light + 0 * target
    elif max(colour) < 60:
        out = 0.04 + 0.32 * light + 0 * target
    else:
        way = rng.random()
        if way < 0.5:  # shade below the middle, tint above it
            out = np.where(
                light < 0.5,
                target * (0.2 + 1.5 * light),
                target + (1 - target) * (light - 0.5) * rng.uniform(0.5, 0.95),
            )
        elif way < 0.75:  # multiply
            out = target * (0.35 + 0.75 * light)
        else:  # a coat of paint
            cover = rng.uniform(0.65, 0.85)
            out = cover * target * (0.5 + 0.6 * light) + (1 - cover) * light
    return out * 255


def restyle(pixels: np.ndarray, look: str, *, coloured: bool, rng: random.Random) -> np.ndarray:
    """Change the style of float32 RGBA (H, W, 4) pixels."""
    rgb, alpha = pixels[..., :3], pixels[..., 3]
    dark = float(rng.randint(0, 50))
    if not coloured and look not in ("grey", "line") and rng.random() < 0.25:
        rgb = _shift_colours(rgb, rng)
    if look in ("posterise", "flat"):
        step = rng.choice((43.0, 64.0, 85.0))
        rgb = np.round(rgb / step) * step
    if look == "grey" and not coloured:
        rgb = np.repeat((rgb @ _GREY)[..., None], 3, 2)
    if look == "silhouette":
        rgb = np.full_like(rgb, dark) if not coloured else rgb * 0 + rgb.reshape(-1, 3).mean(0)
    if look in ("ink", "flat", "line"):
        grey = rgb @ _GREY
        dx, dy = (
            np.abs(np.diff(grey, axis=1, prepend=grey[:, :1])),
            np.abs(np.diff(grey, axis=0, prepend=grey[:1])),
        )
        edge = np.clip((np.maximum(dx, dy) - rng.uniform(12, 30)) / 20, 0, 1) * (alpha > 128)
        if rng.random() < 0.6:
            edge = _grow(edge, 1)
        if look == "line":
            paper = 255.0 if not coloured else rgb.reshape(-1, 3)[alpha.reshape(-1) > 128].mean(0)
            rgb = np.zeros_like(rgb) + paper
        rgb = rgb * (1 - edge[..., None]) + dark * edge[..., None]
    if look in ("outline", "ink", "flat", "line"):
        solid = np.maximum(alpha, 0)
        around = _grow(alpha, rng.choice((1, 1, 2, 2, 3)))
        cover = (solid / 255)[..., None]
        rgb, alpha = rgb * cover + dark * (1 - cover), around
    if look == "soft":
        image = Image.fromarray(np.dstack([rgb, alpha]).clip(0, 255).astype(np.uint8), "RGBA")
        return np.asarray(
            image.filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.6))), dtype=np.float32
        )
    return np.dstack([rgb, alpha])


def _shift_colours(rgb: np.ndarray, rng: random.Random) -> np.ndarray:
    """Turn saturation and channel balance, not so far that a fox stops being orange."""
    grey = (rgb @ _GREY)[..., None]
    rgb = grey + (rgb - grey) * rng.uniform(0.3, 1.4)
    return rgb * np.array([rng.uniform(0.85, 1.15) for _ in range(3)], np.float32) + rng.uniform(
        -20, 20
    )


def _grow(mask: np.ndarray, steps: int) -> np.ndarray:
    for _ in range(steps):
        grown = mask.copy()
        grown[1:] = np.maximum(grown[1:], mask[:-1])
        grown[:-1] = np.maximum(grown[:-1], mask[1:])
        grown[:, 1:] = np.maximum(grown[:, 1:], mask[:, :-1])
        grown[:, :-1] = np.maximum(grown[:, :-1], mask[:, 1:])
        mask = grown
    return mask


def _warp(sprite: Image.Image, rng: random.Random) -> Image.Image:
    """Turn and shear a little, in one resampling."""
    angle, shear = rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b, c, d = cos, sin + shear, -sin, cos
    x, y = sprite.width / 2, sprite.height / 2
    return sprite.transform(
        sprite.size,
        Image.Transform.AFFINE,
        (a, b, x - a * x - b * y, c, d, y - c * x - d * y),
        Image.Resampling.BILINEAR,
    )


def _fit(sprite: Image.Image, base: int) -> np.ndarray:
    """Scale to `base` pixels and add an empty border for outlines: uint8 (H, W, 4)."""
    scale = base / max(sprite.size)
    sprite = sprite.resize(
        (max(2, round(sprite.width * scale)), max(2, round(sprite.height * scale))),
        Image.Resampling.BOX,
    )
    canvas = Image.new("RGBA", (sprite.width + 2 * PAD, sprite.height + 2 * PAD))
    canvas.paste(sprite, (PAD, PAD))
    return np.asarray(canvas)


def _main_colour(sprite: np.ndarray) -> tuple[int, int, int]:
    """Return the most frequent coarse colour of a sprite."""
    opaque = sprite[sprite[..., 3] > 200][:, :3] // 32
    if len(opaque) == 0:
        return (200, 200, 200)
    colours, counts = np.unique(opaque, axis=0, return_counts=True)
    red, green, blue = (int(v) * 32 + 16 for v in colours[counts.argmax()])
    return red, green, blue


def _varied(colour: tuple[int, int, int], rng: random.Random) -> tuple[int, int, int]:
    red, green, blue = (max(0, min(255, v + rng.randint(-12, 12))) for v in colour)
    return red, green, blue


def _enclosed(ink: np.ndarray) -> np.ndarray:
    """Fill what the ink encloses: everything that a flood from the border does not reach."""
    image = Image.fromarray((255 * (ink > 0.35)).astype(np.uint8)).copy()  # a copy may be drawn on
    ImageDraw.floodfill(image, (0, 0), 128)
    return (np.asarray(image) != 128).astype(np.float32)


def _decorate(brush: ImageDraw.ImageDraw, place: str, size: int, rng: random.Random) -> None:
    """Add the one thing that tells two places of similar colours apart."""

    def dots(n: int, colour: tuple, radius: float, top: float, bottom: float) -> None:
        for _ in range(n):
            x, y = rng.uniform(0, size), rng.uniform(top * size, bottom * size)
            r = radius * size * rng.uniform(0.5, 1.2)
            brush.ellipse([x - r, y - r, x + r, y + r], fill=colour)

    if place == "sky":
        dots(rng.randint(2, 5), (255, 255, 255), 0.09, 0, 1)
    elif place in ("night", "snow"):
        dots(rng.randint(8, 20), (255, 255, 235), 0.012, 0, 0.6 if place == "night" else 1)
    elif place == "forest":
        for _ in range(rng.randint(4, 8)):
            x = rng.uniform(0, size)
            brush.rectangle([x, 0, x + 0.05 * size, size], fill=(85, 60, 40))
    elif place == "sunset":
        dots(1, (255, 230, 120), 0.14, 0.35, 0.5)


def _make_clutter(size: int, rng: random.Random) -> list[Image.Image]:
    """Make photograph-like backgrounds: blurred noise of several scales, gradients and shapes."""
    canvases, side, seed = [], round(size * 1.5), np.random.default_rng(5)
    for _ in range(400):
        image = np.zeros((side, side, 3), np.float32) + seed.uniform(60, 220, 3)
        for octave in (2, 4, 8, 16, 40):
            grain = (
                seed.normal(0, 70 / octave**0.6, (octave + 1, octave + 1, 3)).clip(-127, 127) + 127
            )
            layer = Image.fromarray(grain.astype(np.uint8)).resize(
                (side, side), Image.Resampling.BICUBIC
            )
            image += np.asarray(layer, dtype=np.float32) - 127
        canvas = Image.fromarray(image.clip(0, 255).astype(np.uint8))
        brush = ImageDraw.Draw(canvas)
        for _ in range(rng.choice((0, 0, 3, 6))):
            x, y, w = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.1, 0.5) * side
            shape = rng.choice((brush.ellipse, brush.rectangle))
            shape(
                [x, y, x + w, y + w * rng.uniform(0.3, 1.5)],
                fill=tuple(rng.randint(30, 230) for _ in range(3)),
            )
        canvases.append(canvas.filter(ImageFilter.GaussianBlur(rng.choice((0, 1, 2, 4)))))
    return canvases
