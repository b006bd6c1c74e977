"""Explain a prediction: the score and weight of each prompt of each label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from clipsearch._util.arrays import FloatArray
from clipsearch.types import Prediction, Prompt


@dataclass(frozen=True, slots=True)
class PromptScore:
    """How well one prompt of a label fits an image."""

    prompt: str
    """The text, or the path of the example image."""
    kind: Literal["text", "image"]
    score: float
    """Cosine; of an example image, moved to where texts lie (`example_images.Modalities`)."""
    weight: float
    """The score of a label is the sum of weight times score over its prompts."""


@dataclass(frozen=True, slots=True)
class LabelExplanation:
    """One label of a prediction and its prompts, the best first."""

    label: str
    probability: float
    score: float
    prompts: tuple[PromptScore, ...]
    """Empty for a label that is not made of prompts."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The labels of one image, best first, each with the scores of its prompts."""

    path: str
    label: str
    """The label that holds, or NONE."""
    none: float | None
    """Probability that no label holds; None in the mode `closed`."""
    labels: tuple[LabelExplanation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch classify --explain`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class LabelParts:
    """The prompts of one label, as `heads.prompts.encode_prompts` yields them."""

    prompts: Sequence[Prompt]
    rows: FloatArray
    """Unit rows (k, dim)."""
    weights: FloatArray
    """(k,)"""

    def score(self, vector: FloatArray) -> tuple[PromptScore, ...]:
        """Compare each prompt with the unit vector (dim,) of an image; best first."""
        scores = self.rows @ vector
        return tuple(
            _prompt_score(self.prompts[i], float(scores[i]), float(self.weights[i]))
            for i in np.argsort(-scores, kind="stable").tolist()
        )


def explain(
    prediction: Prediction, vector: FloatArray, parts: Mapping[str, LabelParts]
) -> Explanation:
    """Score the prompts of each label of a prediction.

    Parameters
    ----------
    prediction
        Of one image.
    vector
        Unit vector (dim,) of the image.
    parts
        Label -> its prompts; other labels are explained by their score alone.
    """
    return Explanation(
        prediction.path,
        prediction.label,
        prediction.none,
        tuple(
            LabelExplanation(
                found.label,
                found.probability,
                found.score,
                parts[found.label].score(vector) if found.label in parts else (),
            )
            for found in prediction.labels
        ),
    )


def _prompt_score(prompt: Prompt, score: float, weight: float) -> PromptScore:
    if isinstance(prompt, str):
        return PromptScore(prompt, "text", score, weight)
    return PromptScore(prompt.value, prompt.kind, score, weight)
