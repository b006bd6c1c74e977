"""Prompt templates: what is said around a label before the text tower reads it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from clipsearch.errors import BadTemplate, TooFewLabels
from clipsearch.types import Prompt

SLOT = "{}"

# Few, since every label costs one text each, and not of photographs alone.
DEFAULT_TEMPLATES = (
    "{}",
    "a photo of a {}.",
    "a picture of a {}.",
    "a drawing of a {}.",
    "a close-up of a {}.",
    "a picture of the {}.",
    "a picture of {}.",
)

# OpenAI's templates for ImageNet, as open_clip has them (OPENAI_IMAGENET_TEMPLATES), in its order:
# https://github.com/openai/CLIP/blob/main/notebooks/Prompt_Engineering_for_ImageNet.ipynb
OPENCLIP_80 = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)

SETS: dict[str, tuple[str, ...]] = {
    "default": DEFAULT_TEMPLATES,
    "openai80": OPENCLIP_80,
    "plain": (SLOT,),
}
"""The sets that have a name; `plain` is the label alone."""


def named(name: str) -> tuple[str, ...]:
    """Return a set of templates by its name. Raises BadTemplate."""
    if name in SETS:
        return SETS[name]
    close = difflib.get_close_matches(name, SETS, n=1)
    raise BadTemplate(
        f"{name!r} is no template, for it has no {SLOT} where the label goes, and no set of "
        f"templates: the sets are {', '.join(SETS)}."
        + (f" Did you mean {close[0]!r}?" if close else "")
    )


def resolved(names: Iterable[str]) -> list[str] | None:
    """Return the templates that are meant: what has `{}` is one itself, the rest names a set.

    None for none, which stands for the default. Raises BadTemplate.
    """
    return [t for name in names for t in ([name] if SLOT in name else named(name))] or None


def fill(template: str, label: str) -> str:
    """Put the label in place of each `{}`. Raises BadTemplate if there is none."""
    if SLOT not in template:
        raise BadTemplate(f"the template {template!r} has no {SLOT} where the label goes.")
    # Not str.format: labels and templates may hold other braces.
    return template.replace(SLOT, label)


def prompts(
    labels: Iterable[str] | Mapping[str, Sequence[Prompt]],
    templates: Sequence[str] | None = None,
) -> dict[str, tuple[Prompt, ...]]:
    """Return the prompts of each label, for `Head.from_prompts`.

    A label that comes with prompts of its own, texts or images, keeps these as they are; the
    others are filled into `templates`, by default DEFAULT_TEMPLATES. Labels that occur twice count
    once. Raises TooFewLabels if there are none, BadTemplate.

    >>> prompts({"cat": [], "dog": ["a puppy", "a hound"]}, ["a photo of a {}."])
    {'cat': ('a photo of a cat.',), 'dog': ('a puppy', 'a hound')}
    """
    chosen = tuple(templates or DEFAULT_TEMPLATES)
    if isinstance(labels, str):
        labels = [labels]
    own = labels if isinstance(labels, Mapping) else {}
    found: dict[str, tuple[Prompt, ...]] = {}
    for label in labels:
        if not label.strip():
            raise TooFewLabels("a label is empty: name what it stands for.")
        given = own.get(label) or ()
        given = (given,) if isinstance(given, str) else tuple(given)
        found[label] = given or tuple(fill(template, label) for template in chosen)
    if not found:
        raise TooFewLabels("no labels: name at least one.")
    return found
