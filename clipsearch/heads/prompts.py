"""Prompts of labels: their unit rows, what each counts, and how they are kept in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.errors import EmptyQuery, TooFewLabels
from clipsearch.heads.modality_gap import coefficients
from clipsearch.text.encode import encode_texts
from clipsearch.types import Prompt, Term


def described(
    encoder: Encoder,
    prompts: Mapping[str, Sequence[Prompt]],
    *,
    images: Mapping[str, np.ndarray] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each label the unit rows (k, dim) of its k prompts and what each counts (k,).

    The product of the two is the label's own unit row, which is how `Head.from_prompts` makes it
    and how an explanation takes it apart. Raises TooFewLabels, EmptyQuery.
    """
    terms = {label: [_term(prompt) for prompt in given] for label, given in prompts.items()}
    texts = [t.value for given in terms.values() for t in given if t.kind == "text"]
    encoded = iter(encode_texts(encoder, texts) if texts else ())
    for label, given in terms.items():
        if not given:
            raise TooFewLabels(f"the label {label!r} has no prompts.")
        # float64: the mean of many rows is right to the last digit that float32 keeps.
        rows = np.stack(
            [next(encoded) if t.kind == "text" else (images or {})[t.value] for t in given]
        ).astype(np.float64)
        counted = coefficients(rows, [t.kind == "image" for t in given], [t.weight for t in given])
        if counted is None:
            raise EmptyQuery(f"nothing is left of the label {label!r}: its prompts cancel out.")
        yield rows, counted


def plain(prompt: Prompt) -> Prompt:
    """Return a text that counts once as a str, so that equal prompts are equal."""
    bare = isinstance(prompt, Term) and prompt.kind == "text" and prompt.weight == 1
    return _term(prompt).value if bare else prompt


def to_json(prompt: Prompt) -> str | dict[str, Any]:
    """Return a text as it is, an image or a weighted text as `{kind: value, "weight": ...}`."""
    if isinstance(prompt, str):
        return prompt
    return {prompt.kind: prompt.value, "weight": prompt.weight}


def from_json(found: Any) -> Prompt:
    """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
    if isinstance(found, str):
        return found
    make = Term.image if "image" in found else Term.text
    return make(found.get("image") or found["text"], float(found["weight"]))


def _term(prompt: Prompt) -> Term:
    return prompt if isinstance(prompt, Term) else Term.text(prompt)
