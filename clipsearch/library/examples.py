"""Images that stand for a class: their vectors, moved to where the texts of the model are."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from clipsearch.errors import UnreadableImage
from clipsearch.heads.modality_gap import GENERIC, Modalities
from clipsearch.library.session import Opened, expanded
from clipsearch.text.encode import encode_texts
from clipsearch.types import Prompt, Term

ENOUGH = 4_096
"""Vectors of the library that its mean image is made of, the oldest; more would not move it."""
FEW = 32
"""With fewer, what the mean image shows is more of these images than of images."""


class Examples(Opened):
    """Prompts that are images."""

    def located(self, prompts: Mapping[str, Sequence[Prompt]]) -> dict[str, list[Prompt]]:
        """Make the paths of images absolute, so that they mean the same from anywhere."""
        return {label: [_located(prompt) for prompt in given] for label, given in prompts.items()}

    def example_rows(self, prompts: Mapping[str, Sequence[Prompt]]) -> dict[str, np.ndarray]:
        """Return the row (dim,) of each image among the prompts, moved among the texts.

        The mean image, which this needs, is that of the library. Raises UnreadableImage for an
        image that cannot be used.
        """
        wanted = list(dict.fromkeys(t.value for given in prompts.values() for t in _images(given)))
        if not wanted:
            return {}
        paths, vectors, failures = self.embed(wanted)
        if missing := [path for path in wanted if path not in paths]:
            reasons = {failure.path: failure.reason for failure in failures}
            reason = reasons.get(missing[0], "a folder cannot stand for a class: name its images")
            raise UnreadableImage(missing[0], reason)
        return dict(zip(paths, self._modalities(vectors).as_texts(vectors), strict=True))

    def _modalities(self, examples: np.ndarray) -> Modalities:
        model_id, _ = self._model()
        nothing = (None, examples[:0])
        _, known = next(self._catalog.iter_vectors(model_id, batch=ENOUGH), nothing)
        if len(known) < FEW:
            warnings.warn(
                f"the library holds {len(known)} images: too few to tell what an example image "
                f"has in common with all images. Index at least {FEW} for labels with images.",
                stacklevel=3,
            )
            known = np.concatenate([known, examples])
        return Modalities.of(encode_texts(self.encoder, GENERIC), known)


def _images(prompts: Sequence[Prompt]) -> list[Term]:
    return [p for p in prompts if isinstance(p, Term) and p.kind == "image"]


def _located(prompt: Prompt) -> Prompt:
    if isinstance(prompt, str) or prompt.kind == "text":
        return prompt
    return replace(prompt, value=os.path.abspath(expanded(prompt.value)))
