"""From cosines to probabilities that mean something: does a label hold for a picture at all?

A cosine has no zero of its own: it moves with the model, the picture and the kind of text. So it
is compared with what the same picture gives a few hundred captions of everything, the background
(`clipsearch.background`):

    standing  z = (cos(picture, label) - mean) / spread - DOUBT * vagueness of the label
    logit     l = slope * z + offset [+ shift of the label]
    one label alone holds with                  p = sigmoid(l)
    of n labels, or none of them:               p_k = (e^l_k / n) / (1 + mean of e^l)

Mean and spread are of the cosines of the picture with the background. This is the test
normalisation (T-norm) of speaker verification, where a voice is compared with a cohort of other
speakers (Auckenthaler, Carey and Lloyd-Thomas 2000, "Score normalization for text-independent
speaker verification systems"). What a model does not understand it puts near the mean of all
texts, where every picture is a little fit: vagueness says how much nearer to it a label lies
than captions of the background do, 0 for one that does not. The second line is Platt's (1999): with
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
from typing import Any, Literal, Self

import numpy as np

EVEN = 0.5
"""How likely it is, before looking, that one of the labels holds."""
FEW = 0.1
"""How likely it is that a picture of a library is what a search is for: a few of many are."""
DOUBT = 4.0
"""How many spreads a text loses that lies at 1/e of a caption's distance from the mean of texts."""
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
    """`assumed` for any model, `shipped` for this one, or `fitted` to the user's own pictures."""
    background: str = ""
    """The version of the background that it was fitted with."""
    pictures: int = 0
    """How many pictures it was fitted to."""

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
    names = ("slope", "offset", "background", "pictures")
    return {name: entry[name] for name in names if name in entry}


# --- the formulas --------------------------------------------------------------------------


def levels(vectors: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return mean and spread of each picture's cosines with the background: float32 (n, 2).

    vectors: unit rows (n, dim); background: unit rows (m, dim).
    """
    cosines = np.asarray(vectors, dtype=np.float32) @ background.T
    found = np.stack([cosines.mean(axis=1), np.maximum(cosines.std(axis=1), 1e-6)], axis=1)
    return found.astype(np.float32)


def vagueness(rows: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return how much nearer than its captions each row lies to the mean of the background.

    rows: unit rows (labels, dim). The logarithm of the captions' mean distance over the row's, and 0
    where a row is farther: float64 (labels,).
    """
    mean = background.mean(axis=0, dtype=np.float64)
    usual = float(np.linalg.norm(background - mean, axis=1).mean())
    distances = np.linalg.norm(rows - mean, axis=1)
    found: np.ndarray = np.maximum(np.log(usual / np.maximum(distances, 1e-6)), 0.0)
    return found


def standings(
    scores: np.ndarray, levels: np.ndarray, vagueness: np.ndarray | float = 0.0
) -> np.ndarray:
    """Return where labels stand: spreads above the mean of their picture, less DOUBT for vague ones.

    scores: cosines (n, labels); levels: (n, 2); vagueness: (labels,), or what goes with scores.
    Returns float64, the shape of scores.
    """
    z = (np.asarray(scores, dtype=np.float64) - levels[:, :1]) / levels[:, 1:]
    found: np.ndarray = z - DOUBT * np.asarray(vagueness)
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
    """Return the probabilities of n labels, float64 (pictures, n), and that none holds (pictures,).

    They sum to 1. Each label is taken to be as likely as the others, and all of them together to
    be as likely as none: so that many labels do not win by their number.
    """
    labels = logits.shape[1]
    # One more column for "none", whose likelihood ratio is 1; then a softmax.
    whole = np.concatenate([logits - np.log(labels), np.zeros((len(logits), 1))], axis=1)
    powers = np.exp(whole - whole.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers[:, :-1], powers[:, -1]
