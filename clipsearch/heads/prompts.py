"""Prompts: the texts and images that stand for a label, made from templates and encoded.

A label without prompts is filled into templates; each prompt becomes a unit row, and
`example_images` says with which weight each row counts in the row of its label.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipsearch._util import fold_label, quote
from clipsearch._util.arrays import FloatArray
from clipsearch.encoders.base import Encoder
from clipsearch.errors import BadTemplate, EmptyQuery, QueryError, TooFewLabels
from clipsearch.heads.example_images import coefficients
from clipsearch.text.encode import encode_texts
from clipsearch.types import Labels, OnWarning, Prompt, Term
from clipsearch.types.options import as_texts, check_text

_SLOT = "{}"
MOST_LABELS, _MOST_PROMPTS = 100_000, 10_000
"""Of one head, and of one label."""

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

TEMPLATE_SETS: dict[str, tuple[str, ...]] = {
    "default": DEFAULT_TEMPLATES,
    "openai80": OPENCLIP_80,
    "plain": (_SLOT,),
}
"""The sets that have a name; `plain` is the label alone."""


# --- templates ---------------------------------------------------------------------------------


def template_set(name: str) -> tuple[str, ...]:
    """Return a set of templates by its name.

    Raises
    ------
    BadTemplate
        If no set has this name.
    """
    if name in TEMPLATE_SETS:
        return TEMPLATE_SETS[name]
    close = difflib.get_close_matches(name, TEMPLATE_SETS, n=1)
    raise BadTemplate(
        f"{name!r} is no template, for it has no {_SLOT} where the label goes, and no set of "
        f"templates: the sets are {', '.join(TEMPLATE_SETS)}."
        + (f" Did you mean {close[0]!r}?" if close else "")
    )


def resolve_templates(names: Iterable[str]) -> list[str] | None:
    """Return the templates that names stand for: text with `{}` is one itself, the rest names a set.

    Parameters
    ----------
    names
        Templates, and names of TEMPLATE_SETS.

    Returns
    -------
    Templates, or None for no names, which stands for the default.

    Raises
    ------
    BadTemplate
        If a name is neither.
    """
    return [t for name in names for t in ([name] if _SLOT in name else template_set(name))] or None


def fill_template(template: str, label: str) -> str:
    """Put the label in place of each `{}`. Raises BadTemplate if there is none."""
    if _SLOT not in template:
        raise BadTemplate(f"the template {template!r} has no {_SLOT} where the label goes.")
    # Not str.format: labels and templates may hold other braces.
    return template.replace(_SLOT, label)


def unite_labels(labels: Labels, on_warning: OnWarning) -> Labels:
    """Return labels with those that differ in case, space or composed letters as one.

    Parameters
    ----------
    labels
        Each stays in its first spelling; prompts are joined.
    on_warning
        Is told which labels are one.

    Raises
    ------
    QueryError
        There are too many labels, or one is too long.
    """
    names = [labels] if isinstance(labels, str) else list(labels)
    if len(names) > MOST_LABELS:
        raise QueryError(f"{len(names):,} labels are too many: at most {MOST_LABELS:,} are taken.")
    spellings: dict[str, dict[str, None]] = {}
    for name in names:
        check_text("a label", name)
        spellings.setdefault(fold_label(name), {})[name] = None
    several = [list(same) for same in spellings.values() if len(same) > 1]
    if not several:
        return labels
    shown = " and ".join(map(quote, several[0][:3]))
    more = f" (and {len(several) - 1:,} more such groups)" if len(several) > 1 else ""
    on_warning(
        f"the labels {shown} are one: they differ only in case, space or the form of a letter{more}."
    )
    if not isinstance(labels, Mapping):
        return [next(iter(same)) for same in spellings.values()]
    return {
        next(iter(same)): [prompt for name in same for prompt in _as_prompts(labels[name])]
        for same in spellings.values()
    }


def _as_prompts(given: Any) -> tuple[Prompt, ...]:
    """Return the prompts of a label: one, several, or none for None. Raises QueryError."""
    prompts = (given,) if isinstance(given, str | Term) else () if given is None else given
    if not isinstance(prompts, Iterable) or isinstance(prompts, bytes | Mapping):
        raise QueryError(
            f"the prompts of a label are a list of texts and terms: not {quote(given)}."
        )
    prompts = tuple(prompts)
    if (count := len(prompts)) > _MOST_PROMPTS:
        raise QueryError(f"{count:,} prompts of one label: at most {_MOST_PROMPTS:,} are taken.")
    if strange := [one for one in prompts if not isinstance(one, str | Term)]:
        raise QueryError(f"a prompt is a text or a Term: not {quote(strange[0])}.")
    return prompts


def make_prompts(
    labels: Iterable[str] | Mapping[str, Sequence[Prompt]],
    templates: Sequence[str] | None = None,
) -> dict[str, tuple[Prompt, ...]]:
    """Return the prompts of each label, for `Head.from_prompts`.

    Parameters
    ----------
    labels
        Labels, or label -> its own prompts, texts or images, which stay as they are. Labels that
        occur twice count once.
    templates
        What labels without prompts are filled into; by default DEFAULT_TEMPLATES.

    Raises
    ------
    TooFewLabels
        If there are no labels, or an empty one.
    BadTemplate
        If a template has no `{}`.

    Examples
    --------
    >>> make_prompts({"cat": [], "dog": ["a puppy", "a hound"]}, ["a photo of a {}."])
    {'cat': ('a photo of a cat.',), 'dog': ('a puppy', 'a hound')}
    """
    chosen = tuple(as_texts(templates or DEFAULT_TEMPLATES, "templates"))
    if isinstance(labels, str):
        labels = [labels]
    own = labels if isinstance(labels, Mapping) else {}
    prompts: dict[str, tuple[Prompt, ...]] = {}
    for label in labels:
        if not label.strip():
            raise TooFewLabels("a label is empty: name what it stands for.")
        given = _as_prompts(own.get(label))
        prompts[label] = given or tuple(fill_template(template, label) for template in chosen)
    if not prompts:
        raise TooFewLabels("no labels: name at least one.")
    return prompts


# --- rows --------------------------------------------------------------------------------------


def encode_prompts(
    encoder: Encoder,
    prompts: Mapping[str, Sequence[Prompt]],
    *,
    images: Mapping[str, FloatArray] | None = None,
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield for each label the unit rows of its prompts and the weight of each.

    Weights times rows are the label's own unit row: so `Head.from_prompts` makes it, and so an
    explanation takes it apart.

    Parameters
    ----------
    encoder
        Encodes all texts in one call, each once.
    prompts
        Label -> its prompts.
    images
        The row (dim,) of each image among the prompts, moved among the texts.

    Yields
    ------
    float64 (k, dim) and float64 (k,) of a label with k prompts.

    Raises
    ------
    TooFewLabels
        If a label has no prompts.
    EmptyQuery
        If the prompts of a label cancel out.
    """
    terms = {label: [_term(prompt) for prompt in given] for label, given in prompts.items()}
    texts = list({t.value: None for given in terms.values() for t in given if t.kind == "text"})
    encoded = dict(zip(texts, encode_texts(encoder, texts) if texts else (), strict=True))
    for label, given in terms.items():
        if not given:
            raise TooFewLabels(f"the label {label!r} has no prompts.")
        # float64: the mean of many rows is right to the last digit that float32 keeps.
        rows = np.stack(
            [encoded[t.value] if t.kind == "text" else (images or {})[t.value] for t in given]
        ).astype(np.float64)
        weights = coefficients(rows, [t.kind == "image" for t in given], [t.weight for t in given])
        if weights is None:
            raise EmptyQuery(f"nothing is left of the label {label!r}: its prompts cancel out.")
        yield rows, weights


def _term(prompt: Prompt) -> Term:
    return prompt if isinstance(prompt, Term) else Term.text(prompt)


# --- as values and in files --------------------------------------------------------------------


def simplify_prompt(prompt: Prompt) -> Prompt:
    """Return a text with weight 1 as a str, so that equal prompts are equal."""
    bare = isinstance(prompt, Term) and prompt.kind == "text" and prompt.weight == 1
    return _term(prompt).value if bare else prompt


def prompt_to_json(prompt: Prompt) -> str | dict[str, Any]:
    """Return a text as it is, an image or a weighted text as `{kind: value, "weight": ...}`."""
    if isinstance(prompt, str):
        return prompt
    return {prompt.kind: prompt.value, "weight": prompt.weight}


def prompt_from_json(found: Any) -> Prompt:
    """Read what `prompt_to_json` returned. Raises KeyError, TypeError or ValueError otherwise."""
    if isinstance(found, str):
        return found
    make = Term.image if "image" in found else Term.text
    return make(found.get("image") or found["text"], float(found["weight"]))
