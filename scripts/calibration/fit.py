"""Fit the constants that clipsearch can ship for a model: `python fit.py FOLDER --model SPEC`.

FOLDER has one folder per label with its images. The cosines of all images with all labels are
computed as `clipsearch classify` does, the images being the library. Weights, slope and offset are
chosen on one half of the images and measured on the other. The entry for calibrations.json, with
the fingerprint of the model, goes to stdout; --write puts it there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import way

from clipsearch import Library, encode_texts, load_encoder, read_ground_truth
from clipsearch.calibration import CohortWeights, Context, label_probabilities
from clipsearch.calibration.background import background_captions, background_version
from clipsearch.calibration.cohort import (
    SHIPPED_CALIBRATIONS,
    CohortCalibration,
    cohort_weights,
)
from clipsearch.calibration.fit import Reliability
from clipsearch.encoders.base import Encoder
from clipsearch.evaluation import membership
from clipsearch.library.evaluate import make_class_prompts

ENOUGH = 200
"""Images from which on constants are worth shipping."""


def name_weights(weights: CohortWeights) -> dict[str, float]:
    """Return the weights that are not as by default."""
    usual = CohortWeights()._asdict()
    return {name: value for name, value in weights._asdict().items() if value != usual[name]}


CANDIDATES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "captions and the images of the library": {
        "alone": name_weights(cohort_weights(None)),
        "among": name_weights(cohort_weights(None, among=True)),
    },
    "captions": {"alone": {}, "among": {}},
    "captions and genericity": {"alone": {"genericity": 4.0}, "among": {"genericity": 4.0}},
}
"""Weights that models of known geometries have: those are taken that are best for one label alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="one folder per label")
    parser.add_argument("--model", required=True, help="as for `clipsearch index --model`")
    parser.add_argument("--seed", type=int, default=0, help="of the halves")
    parser.add_argument("--write", action="store_true", help="also write calibrations.json")
    args = parser.parse_args()
    encoder = load_encoder(args.model)
    entry = fit_entry(encoder, args.folder, seed=args.seed)
    print(json.dumps({encoder.info.fingerprint: entry}, indent=1))
    if entry["images"] < ENOUGH:
        print(f"few images: constants of fewer than {ENOUGH} say little.", file=sys.stderr)
    if args.write:
        write_entry(encoder.info.fingerprint, entry)


def fit_entry(encoder: Encoder, folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Return the entry of a model for calibrations.json, with its figures on the other half."""
    scores, relevant, context = score_images(encoder, folder)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(scores)), 2)
    fitted = {
        name: fit_half(scores, relevant, halves[0], weigh(context, weights))
        for name, weights in CANDIDATES.items()
    }
    losses = {
        name: log_loss(made, scores, relevant, halves[0], weigh(context, CANDIDATES[name]))
        for name, made in fitted.items()
    }
    best = min(losses, key=lambda name: losses[name])
    for name, loss in losses.items():
        print(f"{name}: log loss {loss:.3f}{' (taken)' if name == best else ''}", file=sys.stderr)
    weighed, line = weigh(context, CANDIDATES[best]), fitted[best]
    p, right = balanced(line, scores, relevant, halves[1], weighed)
    figures = Reliability.of(p, right)
    return {
        "model": encoder.info.name,
        "slope": round(line.slope, 4),
        "offset": round(line.offset, 4),
        "background": background_version(),
        "images": len(scores),
        "ece": round(figures.ece, 4),
        "auroc": round(figures.auroc, 4),
        **CANDIDATES[best],
    }


def score_images(encoder: Encoder, folder: Path) -> tuple[np.ndarray, np.ndarray, Context]:
    """Return cosines (images, labels), which labels hold, and the context of the cosines."""
    truth = read_ground_truth(folder)
    with (
        tempfile.TemporaryDirectory() as made,
        Library.create(Path(made) / "library", encoder=encoder) as library,
    ):
        paths, vectors, _ = library.embed(list(truth.labels))
        head = library.head(make_class_prompts(truth.classes, None))
    captions = encode_texts(encoder, background_captions())
    relevant = membership([truth.labels[path] for path in paths], head.labels)
    context = way.make_context(
        vectors, head.vectors, captions, encoder.info.logit_scale, among=False
    )
    return head.scores(vectors), relevant, context


def weigh(context: Context, weights: Mapping[str, Any]) -> Context:
    """Return the context with the weights of one label alone."""
    return replace(context, weights=CohortWeights(**weights["alone"]))


def fit_half(
    scores: np.ndarray, relevant: np.ndarray, half: np.ndarray, context: Context
) -> CohortCalibration:
    """Return slope and offset of one half, without the shifts of these labels."""
    made = CohortCalibration.fit(scores[half], relevant[half], context.part(half))
    return CohortCalibration(made.slope, made.offset)


def balanced(
    line: CohortCalibration,
    scores: np.ndarray,
    relevant: np.ndarray,
    half: np.ndarray,
    context: Context,
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of all right pairs of a half and as many wrong ones, and which hold."""
    p = label_probabilities(line.logits(scores[half], context.part(half)))
    right, wrong = p[relevant[half]], p[~relevant[half]]
    some = np.random.default_rng(0).choice(wrong, min(len(right), len(wrong)), replace=False)
    return np.concatenate([right, some]), np.repeat([True, False], [len(right), len(some)])


def log_loss(
    line: CohortCalibration,
    scores: np.ndarray,
    relevant: np.ndarray,
    half: np.ndarray,
    context: Context,
) -> float:
    p, right = balanced(line, scores, relevant, half, context)
    return float(-np.log(np.maximum(np.where(right, p, 1 - p), 1e-12)).mean())


def write_entry(fingerprint: str, entry: Mapping[str, Any]) -> None:
    """Write an entry into calibrations.json, in place of those of older weights of the model."""
    kept = json.loads(SHIPPED_CALIBRATIONS.read_text("utf-8"))
    models = {key: old for key, old in kept["models"].items() if old["model"] != entry["model"]}
    models[fingerprint] = dict(entry)
    SHIPPED_CALIBRATIONS.write_text(
        json.dumps({**kept, "models": models}, indent=1) + "\n", "utf-8"
    )


if __name__ == "__main__":
    main()
