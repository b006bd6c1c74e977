"""From cosines to probabilities that mean something: does a label hold for an image at all?

A cosine has no zero of its own: it moves with the model, the image and the kind of text. So it
is compared with what the same image gives several hundred captions of everything, the background
(`clipsearch.calibration.background`):

    standing  s = scale * cos(image, label) - level of the image - DOUBT * vagueness of the label
    level     log of the mean, over the background, of e^(scale * cos(image, caption))
    logit     l = slope * s + offset [+ shift of the label]
    one label alone holds with                  p = sigmoid(l)
    of n labels, or none of them:               p_k = (e^l_k / n) / (1 + mean of e^l)

`scale` is the model's own. Without the last term, e^s is how much likelier the model's softmax
(Radford et al. 2021, CLIP) finds the label than a caption of the background: the cohort normalisation
of speaker verification, where a voice has to fit a speaker better than the likeliest of others
(Rosenberg, DeLong, Lee, Juang and Soong 1992, "The use of cohort normalized scores for speaker
verification"). The mean of e^x is ruled by the captions that fit best, so a cat is compared with the
names of what is like a cat. What a model does not understand it puts near the mean of all
texts, where every image is a little fit: vagueness says how much nearer to it a label lies
than captions of the background do, 0 for one that does not. The logit is Platt's (1999): with
as many right as wrong labels to fit it, e^l is the likelihood ratio of "holds" to "does not". The
last is then Bayes' rule for labels that are equally likely, together as likely as none; with n = 1
it is the line above it. `scripts/calibration` measures all this against other formulas.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

EVEN = 0.5
"""How likely it is, before looking, that one of the labels holds."""
FEW = 0.1
"""How likely it is that an image of a library is what a search is for: a few of many are."""
DOUBT = 4.0
"""What the standing of a text loses that lies at 1/e of a caption's distance from the mean of texts."""
SHIPPED = Path(__file__).with_name("calibrations.json")
VERSION = 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """The numbers between standings and probabilities, and where they come from."""

    slope: float
    offset: float
    shifts: Mapping[str, float] = field(default_factory=dict)
    """What is added to the logit of labels that were fitted by themselves."""
    source: Literal["assumed", "shipped", "fitted"] = "assumed"
    """`assumed` for any model, `shipped` for this one, or `fitted` to the user's own images."""
    background: str = ""
    """The version of the background that it was fitted with."""
    images: int = 0
    """How many images it was fitted to."""

    def logits(self, standings: np.ndarray, labels: Sequence[str] = ()) -> np.ndarray:
        """Return the logits float64 of standings (n, labels), or of any shape without `labels`."""
        found: np.ndarray = self.slope * np.asarray(standings, dtype=np.float64) + self.offset
        return found + [self.shifts.get(label, 0.0) for label in labels] if labels else found

    def threshold(self, label: str = "") -> float:
        """Return the standing from which on a label is more likely to hold than not."""
        return -(self.offset + self.shifts.get(label, 0.0)) / self.slope

    def to_json(self) -> str:
        """Return the calibration as one line of JSON, for the catalog."""
        return json.dumps({"version": VERSION, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self | None:
        """Read what `to_json` wrote; None if it is something else, or of a later version."""
        try:
            found = json.loads(text)
            if found.pop("version") != VERSION:
                return None
            made = cls(**found)
            return made if np.isfinite([made.slope, made.offset]).all() else None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    @classmethod
    def of_model(cls, fingerprint: str) -> Self:
        """Return what is shipped for a model, by its fingerprint, else what is assumed of all."""
        shipped = _shipped()
        known = shipped["models"].get(fingerprint)
        return cls(**(known or shipped["assumed"]), source="shipped" if known else "assumed")


@cache
def _shipped() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SHIPPED.read_text("utf-8"))
    return {
        "assumed": _numbers(found["assumed"]),
        "models": {key: _numbers(entry) for key, entry in found["models"].items()},
    }


def _numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = ("slope", "offset", "background", "images")
    return {name: entry[name] for name in names if name in entry}


# --- the formulas --------------------------------------------------------------------------


def levels(vectors: np.ndarray, background: np.ndarray, scale: float) -> np.ndarray:
    """Return the level of each image, see above: float32 (n,).

    vectors: unit rows (n, dim); background: unit rows (m, dim); scale: the model's logit scale.
    """
    powers = np.float32(scale) * (np.asarray(vectors, dtype=np.float32) @ background.T)
    top = powers.max(axis=1, keepdims=True)
    powers -= top
    np.exp(powers, out=powers)
    found: np.ndarray = top[:, 0] + np.log(powers.mean(axis=1))
    return found


class Middle(NamedTuple):
    """Where captions of everything lie: their mean (dim,), and their mean distance from it."""

    mean: np.ndarray
    distance: float

    @classmethod
    def of(cls, background: np.ndarray) -> Self:
        """Find it of unit rows (m, dim)."""
        mean = background.mean(axis=0, dtype=np.float64)
        # Of unit rows, |b - m|^2 = 1 - 2 b.m + m.m: without a copy of them all.
        squares = 1 - 2 * (background @ mean.astype(background.dtype)) + mean @ mean
        return cls(mean, float(np.sqrt(np.maximum(squares, 0)).mean()))


def vagueness(rows: np.ndarray, middle: Middle) -> np.ndarray:
    """Return how much nearer than captions of the background each row lies to their mean.

    rows: unit rows (labels, dim). The logarithm of the captions' mean distance over the row's, and 0
    where a row is farther: float64 (labels,).
    """
    distances = np.linalg.norm(rows - middle.mean, axis=1)
    found: np.ndarray = np.maximum(np.log(middle.distance / np.maximum(distances, 1e-6)), 0.0)
    return found


def standings(
    scores: np.ndarray, levels: np.ndarray, scale: float, vagueness: np.ndarray | float = 0.0
) -> np.ndarray:
    """Return how far labels stand above the level of their image, less DOUBT for vague ones.

    scores: cosines (n, labels); levels: (n,); scale: the model's logit scale; vagueness: (labels,),
    or what goes with scores. Returns float64, the shape of scores.
    """
    powers = scale * np.asarray(scores, dtype=np.float64)
    found: np.ndarray = powers - levels[:, None] - DOUBT * np.asarray(vagueness)
    return found


def holds(logits: np.ndarray, base_rate: float = EVEN) -> np.ndarray:
    """Return the probability that each label holds, judged by itself: float64, same shape.

    base_rate: how likely that is before looking. It moves the logits by its own, from even odds.
    """
    moved = logits + np.log(base_rate / (1 - base_rate))
    # The sigmoid by tanh, which never overflows.
    found: np.ndarray = 0.5 * (1 + np.tanh(0.5 * moved))
    return found


def open_set(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of n labels, float64 (images, n), and that none holds (images,).

    They sum to 1. Each label is taken to be as likely as the others, and all of them together to
    be as likely as none: so that many labels do not win by their number.
    """
    labels = logits.shape[1]
    # One more column for "none", whose likelihood ratio is 1; then a softmax.
    whole = np.concatenate([logits - np.log(labels), np.zeros((len(logits), 1))], axis=1)
    powers = np.exp(whole - whole.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers[:, :-1], powers[:, -1]
