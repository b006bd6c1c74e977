"""Compare ways to find topics and to name them; print the tables of docs/guides/topics.md.

    python scripts/topics/compare.py

Groups: on mixtures whose parts are known (places of the bundled images, and synthetic ones),
how near do k-means with the best silhouette, k-means with the best Calinski-Harabasz index and
HDBSCAN come? Agreement is the adjusted Rand index: 1 is exact, 0 is chance.

Names: groups are drawn from the captions (a place, a colour, a number, someone riding), so that the
best phrase of the vocabulary is known. How often is it the first?
"""

from __future__ import annotations

import argparse
import csv
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score, calinski_harabasz_score

import clipsearch
from clipsearch import Head, load_encoder
from clipsearch.grouping.clusters import clusters, group_means
from clipsearch.grouping.topics import name_scores, topic_phrases
from clipsearch.heads.prompts import make_prompts
from clipsearch.images.decode import open_image

SAMPLES = Path(clipsearch.__file__).with_name("samples")
PLACES = {
    "night": "at night", "snow": "in the snow", "desert": "in the desert", "sky": "in the sky",
    "sea": "in the sea", "grass": "on the grass", "forest": "in the forest", "room": "in a room",
    "sunset": "at sunset", "beach": "on the beach",
}  # fmt: skip
COLOURS = ("purple", "red", "orange", "blue", "green", "yellow", "pink", "brown", "black")
KNOWN = {
    **{name: f"{words}$" for name, words in PLACES.items()},
    **{f"{colour} things": f"^an? {colour}" for colour in COLOURS},
    "riding": " riding ",
    "several of the same": "^(four|five) ",
    "three animals": "^three ",
}


def samples(model: str) -> tuple[np.ndarray, list[str]]:
    """Return the vectors and the captions of the bundled images."""
    encoder = load_encoder(model)
    with open(SAMPLES / "captions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = (open_image(SAMPLES / row["path"])[0] for row in rows)
    vectors = [encoder.encode_images(encoder.preprocess(image)[None])[0] for image in images]
    return np.stack(vectors), [row["caption"] for row in rows]


# --- groups ----------------------------------------------------------------------------------


def calinski_harabasz(vectors: np.ndarray) -> np.ndarray:
    most = min(30, max(2, round(len(vectors) ** 0.5)))
    found = [KMeans(k, n_init=10, random_state=0).fit_predict(vectors) for k in range(2, most + 1)]
    return max(found, key=lambda groups: calinski_harabasz_score(vectors, groups))


def hdbscan(vectors: np.ndarray) -> np.ndarray:
    size = max(5, len(vectors) // 100)
    found: np.ndarray = HDBSCAN(size, metric="cosine").fit_predict(vectors)
    return found


WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "k-means, silhouette": clusters,
    "k-means, Calinski-Harabasz": calinski_harabasz,
    "HDBSCAN": hdbscan,
}


def synthetic(parts: int, spread: float, even: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draw 600 unit rows of 256 numbers around `parts` middles, in 30 directions of noise."""
    rng = np.random.default_rng(parts)
    middles, common = rng.normal(size=(parts, 256)) / 16, rng.normal(size=256) / 16
    weights = rng.dirichlet(np.full(parts, 100.0 if even else 1.0)) + 0.02
    truth = rng.choice(parts, 600, p=weights / weights.sum())
    noise = rng.normal(size=(600, 30)) @ rng.normal(size=(30, 256)) / (30 * 256) ** 0.5
    rows = common + middles[truth] + spread * noise
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth


def mixtures(
    vectors: np.ndarray, captions: list[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield what a mixture is, its vectors and the part of each."""
    rng = np.random.default_rng(0)
    ends = [[caption.endswith(words) for words in PLACES.values()] for caption in captions]
    place = np.array([end.index(True) if any(end) else -1 for end in ends])
    for parts in (2, 3, 5, 8):
        for _ in range(3):
            inside = np.isin(place, rng.choice(len(PLACES), parts, replace=False))
            yield f"{parts} places of the samples", vectors[inside], place[inside]
    for parts in (2, 3, 5, 10, 20):
        for spread, even in ((0.8, True), (1.5, True), (1.5, False)):
            kind = f"{parts} synthetic, {'tight' if spread < 1 else 'loose'}"
            yield kind + ("" if even else ", uneven"), *synthetic(parts, spread, even)


def compare_groups(vectors: np.ndarray, captions: list[str]) -> None:
    print("| mixture |", *(f"{way}: parts, agreement |" for way in WAYS))
    print("| --- |", *("---: |" for _ in WAYS))
    found: dict[str, list[list[tuple[int, float]]]] = {}
    for kind, rows, truth in mixtures(vectors, captions):
        groups = [way(rows) for way in WAYS.values()]
        result = [(len(np.unique(g[g >= 0])), adjusted_rand_score(truth, g)) for g in groups]
        found.setdefault(kind, []).append(result)
    for kind, results in found.items():
        columns = np.array(results).mean(axis=0)
        print(f"| {kind} |", *(f"{parts:.1f}, {score:.2f} |" for parts, score in columns))


# --- names -----------------------------------------------------------------------------------


def rivals(vectors: np.ndarray, groups: np.ndarray, head: Head) -> Iterator[tuple[str, np.ndarray]]:
    """Yield ways to score phrases for groups: name, scores (groups, phrases)."""
    inside = np.concatenate(list(group_means(vectors, groups))) @ head.vectors.T
    sizes = np.bincount(groups)[:, None]
    outside = ((inside * sizes).sum(axis=0) - inside * sizes) / (len(vectors) - sizes)
    scored = np.concatenate(list(name_scores(vectors, groups, head.vectors)))
    yield "in - out + in / 2 (taken)", scored
    yield "in - out", inside - outside
    yield "in", inside
    scores = head.scores(vectors)
    yield "(in - out) / deviation", (inside - outside) / scores.std(axis=0)
    chosen = head.probabilities(scores).astype(np.float64)
    mass = np.stack([chosen[groups == g].sum(axis=0) for g in range(len(sizes))])
    weight = np.log(1 + mass.sum() / len(mass) / np.maximum(mass.sum(axis=0), 1e-9))
    yield "class-based TF-IDF of probabilities", mass / sizes * weight


def compare_names(vectors: np.ndarray, captions: list[str], head: Head) -> None:
    rng = np.random.default_rng(0)
    members = {
        name: np.array([bool(re.search(pattern, caption)) for caption in captions])
        for name, pattern in KNOWN.items()
    }
    places: dict[str, list[int]] = {}
    for _ in range(300):
        names = rng.choice(list(KNOWN), rng.integers(2, 7), replace=False)
        chosen = np.stack([members[name] for name in names])
        chosen &= chosen.sum(axis=0) == 1
        if chosen.sum(axis=1).min() < 5:
            continue
        rows = np.flatnonzero(chosen.any(axis=0))
        for way, scores in rivals(vectors[rows], chosen[:, rows].argmax(axis=0), head):
            order = np.argsort(-scores, axis=1, kind="stable")
            ranked = [[head.labels[p] for p in row] for row in order[:, :3]]
            places.setdefault(way, []).extend(
                best.index(name) if name in best else 3
                for best, name in zip(ranked, names, strict=True)
            )
    print(f"\n{len(next(iter(places.values()))):,} groups, {len(head.labels)} phrases\n")
    print("| score | first | among three |\n| --- | --: | --: |")
    for way, ranks in places.items():
        print(
            f"| {way} | {np.mean(np.array(ranks) == 0):.0%} | {np.mean(np.array(ranks) < 3):.0%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    vectors, captions = samples(options.model)
    compare_groups(vectors, captions)
    encoder = load_encoder(options.model)
    head = Head.from_prompts(encoder, make_prompts(topic_phrases(), ["{}"]))
    compare_names(vectors, captions, head)


if __name__ == "__main__":
    main()
