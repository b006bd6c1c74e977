"""Render the emoji artwork of every style to sprites, once, into one packed file.

Every drawing is filed under the code point of the thing it shows, so that `horse` in one style
and `horse` in another are the same thing. OpenMoji is left out on purpose: it is the test.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
SIZE = 144
"""Longest side of a sprite in pixels."""
MOST = 6
"""Drawings of one thing in one style."""

COLOUR: tuple[str, ...] = ("noto", "noto-v1", "twemoji", "fluent-emoji", "fluent-emoji-flat", "emojione", "fxemoji",
          "streamline-emojis")  # fmt: skip
LINE = ("noto-emoji", "hugeicons", "lucide", "ph", "tabler")
"""Drawn with lines; the ink of the other one-colour styles is the body of the thing."""
ICONS = ("fa6-solid", "healthicons", "hugeicons", "icon-park", "icon-park-solid", "lucide", "mdi", "mingcute",
         "ph", "tabler")  # fmt: skip
"""Sets for user interfaces: few animals, but each set by another hand."""
COLOUR += ("icon-park",)
MONO = ("fluent-emoji-high-contrast", "emojione-monotone", "game-icons", "fa6-solid", "healthicons",
        "icon-park-solid", "mdi", "mingcute", *LINE)  # fmt: skip
STYLES = COLOUR + MONO
FAMILIES = {
    "noto": "noto", "noto-emoji": "noto", "noto-v1": "blob", "twemoji": "twemoji",
    "fluent-emoji": "fluent", "fluent-emoji-flat": "fluent", "fluent-emoji-high-contrast": "fluent",
    "emojione": "emojione", "emojione-monotone": "emojione", "fxemoji": "fxemoji",
    "streamline-emojis": "streamline", "game-icons": "game-icons", "icon-park-solid": "icon-park",
    **{style: style for style in ICONS if style != "icon-park-solid"},
}  # fmt: skip
"""Style -> who drew it: a style is only unseen if nothing of its family was trained on."""

# Names of older sets that differ from today's Unicode names.
ALIASES = {
    "bunny": "rabbit face", "bunnyside": "rabbit", "bactriancamel": "two-hump camel",
    "dromedarycamel": "camel", "foxgrin": "fox", "pandaface": "panda", "bear face": "bear",
    "panda face": "panda", "wolf face": "wolf", "fox face": "fox", "lion face": "lion",
    "frog face": "frog", "koala face": "koala", "hamster face": "hamster", "unicorn face": "unicorn",
    "raccoon face": "raccoon", "catside": "cat", "spoutingwhale": "spouting whale", "bee": "honeybee",
    "ladybug": "lady beetle", "ladybeetle": "lady beetle", "automobile": "automobile",
    "tyrannosaurus": "T-Rex", "stag": "deer", "sheep": "ewe", "crab": "crab", "bull": "ox",
    "snake": "snake", "horse head": "horse face", "cat": "cat", "gecko": "lizard", "parrot head": "parrot",
    "eagle head": "eagle", "bear head": "bear", "fox head": "fox face", "wolf head": "wolf",
    "octopus": "octopus", "sea turtle": "turtle", "sperm whale": "whale", "penguin": "penguin",
    "fly": "fly", "snail": "snail", "squid": "squid", "jellyfish": "jellyfish", "spider alt": "spider",
    "scorpion": "scorpion", "butterfly": "butterfly", "rat": "rat", "rabbit": "rabbit",
    "elephant": "elephant", "pig": "pig", "goat": "goat", "cow": "cow", "donkey": "donkey",
    "kangaroo": "kangaroo", "gorilla": "gorilla", "monkey": "monkey", "bat": "bat", "owl": "owl",
    "swan": "swan", "rooster": "rooster", "chicken": "chicken", "ram": "ram", "lizardman": "lizard",
    "tropicalfish": "tropical fish", "beetle shell": "beetle", "bird": "bird", "duck": "duck",
    "labrador head": "dog face", "sitting dog": "dog", "jumping dog": "dog", "polar bear": "polar bear",
    "diplodocus": "sauropod", "dinosaur rex": "T-Rex", "plastic duck": "duck", "hedgehog": "hedgehog",
    "mouse": "mouse", "tiger head": "tiger face", "tiger": "tiger", "rhinoceros horn": "rhinoceros",
    "sea dragon": "dragon", "dragon head": "dragon face", "spiked dragon head": "dragon face",
    "shark fin": "shark", "dolphin": "dolphin", "seahorse": "seahorse", "crocodile jaws": "crocodile",
    "flamingo": "flamingo", "peacock": "peacock", "hummingbird": "bird", "raven": "black bird",
    "crow": "black bird", "raccoon head": "raccoon", "sloth": "sloth", "beaver": "beaver",
    "badger": "badger", "otter": "otter", "bison": "bison", "buffalo head": "water buffalo",
    "boar": "boar", "camel head": "camel", "giraffe": "giraffe", "hippo": "hippopotamus",
    "lynx head": "leopard", "mammoth": "mammoth", "juggling seal": "seal", "frog": "frog",
    "prawn": "shrimp", "oyster": "oyster", "ant": "ant", "mosquito": "mosquito", "bee alt": "honeybee",
    "earth worm": "worm", "spider web": "spider web", "high grass": "herb", "llama": "llama",
}  # fmt: skip


_PREFIX = re.compile(r"^(animal|animals|food|vehicle)-")
_SUFFIX = re.compile(
    r"-(fill|filled|bold|light|outline|line|linear|zodiac|solid|variant|head|side|regular|round|one|\d+)$"
)
# In sets for user interfaces these are a pointing device, a badge, a sport, a stick or a memory.
OTHER_MEANING = {
    "mouse",
    "seal",
    "cricket",
    "bat",
    "ram",
    "watch",
    "link",
    "ring",
    "crane",
    "hook",
    "date",
}


@dataclass
class Thing:
    """One nameable thing and its drawings."""

    hexcode: str
    label: str
    tags: list[str]
    group: int
    subgroup: int
    sprites: dict[str, list[Image.Image]] = field(default_factory=lambda: defaultdict(list))


def slug(text: str) -> str:
    """Reduce a name to what all sets agree on: lower-case letters and digits."""
    return re.sub(r"[^a-z0-9]", "", text.lower().replace("&", "and"))


def plain_name(name: str) -> str:
    """Take from an icon's name what says how it is drawn: `animal-cow-outline` is a cow."""
    name = _PREFIX.sub("", name)
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    return name


def load_sprites() -> list[Thing]:
    """Return every thing that some style draws; rendered on the first call."""
    packed = CACHE / f"sprites-{SIZE}.pkl"
    if not packed.exists():
        install()
        things = read_things()
        render(things)
        with packed.open("wb") as file:
            pickle.dump([_freeze(thing) for thing in things if thing.sprites], file)
    with packed.open("rb") as file:
        return [_thaw(frozen) for frozen in pickle.load(file)]


def _freeze(thing: Thing) -> tuple:
    sprites = {style: [np.asarray(s) for s in drawn] for style, drawn in thing.sprites.items()}
    return (thing.hexcode, thing.label, thing.tags, thing.group, thing.subgroup, sprites)


def _thaw(frozen: tuple) -> Thing:
    *facts, sprites = frozen
    hexcode, label, tags, group, subgroup = facts
    return Thing(
        hexcode,
        label,
        tags,
        group,
        subgroup,
        {s: [Image.fromarray(a, "RGBA") for a in d] for s, d in sprites.items()},
    )


def install() -> None:
    """Fetch the artwork and the renderer into the cache with npm."""
    CACHE.mkdir(exist_ok=True)
    shutil.copy(HERE / "package.json", CACHE)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"], cwd=CACHE, check=True
    )


def read_things() -> list[Thing]:
    """Read names, keywords and groups of all emoji but symbols, flags and skin tones."""
    data = json.loads((CACHE / "node_modules/emojibase-data/en/data.json").read_text())
    return [
        Thing(e["hexcode"], e["label"], e.get("tags", []), e["group"], e["subgroup"])
        for e in data
        if e.get("group") in (0, 1, 3, 4, 5, 6, 7) and "1F3FB" not in e["hexcode"]
    ]  # fmt: skip


def render(things: list[Thing]) -> None:
    """Render every drawing of every style into `thing.sprites`."""
    by_slug = {slug(thing.label): thing for thing in things}
    aliases = {
        slug(old): by_slug[slug(new)] for old, new in ALIASES.items() if slug(new) in by_slug
    }
    jobs: list[Any] = []
    drawn: Counter[Any] = Counter()
    for style in (s for s in STYLES if s != "noto-emoji"):
        icons = json.loads((CACHE / f"node_modules/@iconify-json/{style}/icons.json").read_text())
        for name, icon in icons["icons"].items():
            if style in ICONS:
                base = slug(plain_name(name))
                thing = None if base in OTHER_MEANING else by_slug.get(base)
            else:
                base = slug(re.sub(r"-\d$", "", name))
                thing = by_slug.get(slug(name)) or by_slug.get(base) or aliases.get(base)
            if thing is None or drawn[style, thing.hexcode] >= MOST:
                continue
            drawn[style, thing.hexcode] += 1
            out = CACHE / "png" / style / f"{name}.png"
            out.parent.mkdir(parents=True, exist_ok=True)
            width, height = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
            body = icon["body"].replace("currentColor", "#000")
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}">{body}</svg>'
            jobs.append((thing, style, out, {"svg": svg, "png": str(out), "size": SIZE + 16}))
    _render_jobs([job for *_, out, job in jobs if not out.exists()])
    for thing, style, out, _ in jobs:
        if out.exists() and (sprite := _trim(Image.open(out))):
            thing.sprites[style].append(sprite)
    _render_font(things)


def _render_jobs(jobs: list[dict]) -> None:
    """Run the renderer; where it dies, leave that drawing out and go on behind it."""
    while jobs:
        run = subprocess.run(
            ["node", str(HERE / "render.mjs"), str(CACHE)],
            input="\n".join(map(json.dumps, jobs)), text=True, capture_output=True, check=False,
        )  # fmt: skip
        done = len(run.stdout.splitlines())
        if done < len(jobs):
            print(f"the renderer gave up on {jobs[done]['png']}: {run.stderr[-300:]}")
        jobs = jobs[done + 1 :]


def _render_font(things: list[Thing]) -> None:
    """Draw the line-art font Noto Emoji (monochrome), light and bold."""
    folder = CACHE / "node_modules/@fontsource/noto-emoji"
    subsets = json.loads((folder / "unicode.json").read_text())
    for weight in ("400", "700"):
        fonts = {}
        for name, ranges in subsets.items():
            file = folder / f"files/noto-emoji-{name.strip('[]')}-{weight}-normal.woff"
            if not file.exists():
                continue
            font = ImageFont.truetype(str(file), SIZE)
            for span in ranges.split(","):
                low, _, high = span.removeprefix("U+").partition("-")
                fonts.update(dict.fromkeys(range(int(low, 16), int(high or low, 16) + 1), font))
        for thing in things:
            code = thing.hexcode.removesuffix("-FE0F")
            if "-" in code or int(code, 16) not in fonts:
                continue
            canvas = Image.new("L", (SIZE * 2, SIZE * 2))
            ImageDraw.Draw(canvas).text(
                (SIZE // 4, SIZE // 4), chr(int(code, 16)), 255, font=fonts[int(code, 16)]
            )
            glyph = Image.new("RGBA", canvas.size)
            glyph.putalpha(canvas)
            if sprite := _trim(glyph):
                thing.sprites["noto-emoji"].append(sprite)


def _trim(image: Image.Image) -> Image.Image | None:
    """Cut away the empty border and bring the longest side to SIZE."""
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 8:
        return None
    image = image.crop(box)
    scale = SIZE / max(image.size)
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
        Image.Resampling.LANCZOS,
    )


if __name__ == "__main__":
    things = load_sprites()
    animals = [t for t in things if t.group == 3]
    print(
        f"{len(things)} things, {sum(len(d) for t in things for d in t.sprites.values())} drawings"
    )
    for style in STYLES:
        print(
            f"{style:28} {sum(style in t.sprites for t in things):5} things {sum(style in t.sprites for t in animals):4} animals and plants"
        )
