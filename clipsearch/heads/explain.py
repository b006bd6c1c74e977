"""Explanation: which descriptions and example images of a label an image fits, and how well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from clipsearch.types import Prediction, Prompt


@dataclass(frozen=True, slots=True)
class PromptScore:
    """How well one prompt of a label fits an image."""

    prompt: str
    """The text, or the path of the example image."""
    kind: Literal["text", "image"]
    score: float
    """Cosine; of an example image, moved to where texts lie (`mixture.Modalities`)."""
    weight: float
    """What it counts: the score of the label is the sum of weight times score over its prompts."""


@dataclass(frozen=True, slots=True)
class LabelExplanation:
    """One label of a prediction and its prompts, the best first."""

    label: str
    probability: float
    score: float
    prompts: tuple[PromptScore, ...]
    """None for a label that is not made of prompts."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The labels of one image, best first, each with what it is made of."""

    path: str
    label: str
    """The label that holds, or NONE."""
    none: float | None
    """How likely it is that no label holds; None where that was not asked."""
    labels: tuple[LabelExplanation, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch classify --explain`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The prompts of one label, their unit rows (k, dim), and what each counts (k,)."""

    prompts: Sequence[Prompt]
    rows: np.ndarray
    counted: np.ndarray

    def scored(self, vector: np.ndarray) -> tuple[PromptScore, ...]:
        """Compare each prompt with the unit vector (dim,) of an image; best first."""
        scores = self.rows @ vector
        return tuple(
            _prompt_score(self.prompts[i], float(scores[i]), float(self.counted[i]))
            for i in np.argsort(-scores, kind="stable").tolist()
        )


def explain(prediction: Prediction, vector: np.ndarray, parts: Mapping[str, Parts]) -> Explanation:
    """Take each label of a prediction apart; vector: the unit vector (dim,) of the image."""
    return Explanation(
        prediction.path,
        prediction.label,
        prediction.none,
        tuple(
            LabelExplanation(
                found.label,
                found.probability,
                found.score,
                parts[found.label].scored(vector) if found.label in parts else (),
            )
            for found in prediction.labels
        ),
    )


def _prompt_score(prompt: Prompt, score: float, weight: float) -> PromptScore:
    if isinstance(prompt, str):
        return PromptScore(prompt, "text", score, weight)
    return PromptScore(prompt.value, prompt.kind, score, weight)
