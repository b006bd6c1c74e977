"""Measure rules for several labels, and base rates for searches."""

from __future__ import annotations

import heldout
import numpy as np
from cases import Cases, sets
from formulas import ALONE, BEST_RULE, CAPTIONS, FORMULAS, RULES
from world import Line, World

from clipsearch import encode_texts
from clipsearch.calibration import SEARCH_PRIOR, Context, label_probabilities
from clipsearch.calibration.cohort import CohortCalibration
from clipsearch.calibration.fit import auroc, ece
from clipsearch.encoders.base import Encoder

SIZES = (2, 5, 10)
QUERIES = 200


def several(world: World, scenes: heldout.Scenes, line: Line, test: Cases) -> list[list[str]]:
    """Compare rules for several labels: a row for each rule and number of labels."""
    rows = []
    for n in SIZES:
        asked = sets(scenes, test, n, seed=n)
        pairs = [(image, label) for image, labels, _ in asked for label in labels]
        scored = world.scored(pairs)
        logits = line(FORMULAS[CAPTIONS](scored)).reshape(-1, n)
        closed = np.exp(world.scale * scored.cosines.reshape(-1, n))
        closed /= closed.sum(axis=1, keepdims=True)
        known = np.array([holds for *_, holds in asked])
        for name, rule in RULES.items():
            p = rule(logits, closed)
            none, best = 1 - p.sum(axis=1), p.max(axis=1)
            right = known & (p.argmax(axis=1) == 0)
            rows.append(
                [
                    f"{n}",
                    f"**{name}**" if name == BEST_RULE else name,
                    f"{auroc(none[~known], none[known]):.3f}",
                    f"{100 * (none[known] <= 0.5).mean():.0f} %",
                    f"{100 * (none[~known] > 0.5).mean():.0f} %",
                    f"{ece(none, ~known):.3f}",
                    f"{ece(best, right):.3f}",
                ]
            )
    return rows


# --- searching -------------------------------------------------------------------------------


def searches(
    world: World, scenes: heldout.Scenes, encoder: Encoder, line: Line, among: np.ndarray
) -> list[list[str]]:
    """Compare base rates for searches among the images `among`: names of things, and captions."""
    shown = [{name for name, _ in scenes.items[i]} for i in among]
    names = sorted(set().union(*shown))
    rng = np.random.default_rng(0)
    asked = rng.choice(names, min(QUERIES, len(names)), replace=False).tolist()
    wanted = np.array([[name in here for here in shown] for name in asked])
    picked = rng.choice(len(among), QUERIES, replace=False)
    told = [scenes.captions[among[i]] for i in picked]
    rows = []
    for kind, texts, so in (
        ("a thing", asked, wanted),
        ("a caption", told, np.eye(len(among), dtype=bool)[picked]),
    ):
        logits = line(_normalised_scores(world, encode_texts(encoder, texts), among))
        for name, p in (
            ("even", label_probabilities(logits)),
            (f"**1 in {round(1 / SEARCH_PRIOR)}**", label_probabilities(logits, SEARCH_PRIOR)),
            ("1 in 50", label_probabilities(logits, 0.02)),
            (
                "estimated (EM)",
                np.stack([label_probabilities(row, _prevalence(row)) for row in logits]),
            ),
        ):
            found = p >= 0.5
            good = (found & so).sum()
            rows.append(
                [
                    kind,
                    name,
                    f"{so.sum(axis=1).mean():.1f}",
                    f"{found.sum(axis=1).mean():.1f}",
                    f"{100 * good / max(found.sum(), 1):.0f} %",
                    f"{100 * good / so.sum():.0f} %",
                ]
            )
    return rows


def _normalised_scores(world: World, texts: np.ndarray, among: np.ndarray) -> np.ndarray:
    searched = world.of(world.images[among])
    known = searched.library(texts)._replace(weights=ALONE)
    context = searched.captions.with_cohort(
        Context(("",) * len(texts), world.scale), texts, searched.log_mean_exps, library=known
    )
    return CohortCalibration.evidence(searched.images @ texts.T, context).T


def _prevalence(logits: np.ndarray) -> float:
    """Estimate the base rate of one query (Saerens, Latinne and Decaestecker 2002)."""
    rate = 0.5
    for _ in range(300):
        rate = float((label_probabilities(logits, rate).sum() + 1) / (len(logits) + 2))
    return rate
