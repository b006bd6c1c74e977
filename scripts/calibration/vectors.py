"""Compare formulas on vectors of a real model: `python vectors.py FOLDER`.

    FOLDER/texts.npz     prompt, name, vector (m, dim): several prompts for each name
    FOLDER/images.npz    dataset, label, vector (n, dim)
    FOLDER/background_names.txt    names of captions, a line each

Each data set is a list of labels; its images whose label is left out of the list are *unknown*, those
of the other sets *far*. For every formula, the right answers where 85 % of the unknown images are
refused, the area under right answers by unknown images that pass (OSCR, Dhamija et al. 2018), and over which range of one threshold all sets keep 92 % of their right answers and refuse
85 % of the unknown: without such a range no constant serves both. Then the shipped formula, and
searches in all images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import vector_lists
import vector_searches
import way
from hits import table

from clipsearch.calibration.cohort import CohortCentre, cohort_log_mean_exp, genericity
from clipsearch.calibration.fit import auroc, ece

SCALE = 100.0
KEPT, REFUSED = 0.92, 0.85
Formula = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Takes images (n, dim), labels (l, dim) and captions (m, dim); returns numbers (n, l)."""


@dataclass(frozen=True)
class DataSet:
    """Images of a list of labels."""

    name: str
    images: np.ndarray
    truth: np.ndarray
    """int64 (n,): the label of each image."""
    labels: np.ndarray
    far: np.ndarray
    """Images of other data sets."""
    far_labels: np.ndarray
    """Labels of other data sets."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    sets, library = load(parser.parse_args().folder)
    captions = library.captions
    heads = [
        f"{one.name}: {what}"
        for one in sets
        for what in ("closed", "right at 85 %", "AUROC", "OSCR")
    ]
    print(f"| formula | {' | '.join(heads)} | one threshold for all |")
    print("| --- |" + " ---: |" * (len(heads) + 1))
    for name, formula in FORMULAS.items():
        found = [measure(formula, one, captions) for one in sets]
        cells = [f"{x:.3f}" for one in found for x in (one.closed, one.right, one.auroc, one.oscr)]
        low, high = max(one.low for one in found), min(one.high for one in found)
        span = f"{low:.2f} to {high:.2f}" if low <= high else f"none ({high - low:.2f})"
        print(f"| {name} | {' | '.join(cells)} | {span} |")
    print()
    for one in sets:
        print(shipped(one, captions))
    parts = [*vector_lists.tables(sets, captions), *vector_searches.tables(library)]
    for title, columns, rows in parts:
        print(f"\n{title}:\n\n{table(columns, rows)}")


def load(folder: Path) -> tuple[list[DataSet], vector_searches.Library]:
    """Read the data sets, and all of them as one library."""
    texts, images = np.load(folder / "texts.npz"), np.load(folder / "images.npz")
    by_name: dict[str, list[np.ndarray]] = {}
    for name, vector in zip(texts["name"].tolist(), texts["vector"], strict=True):
        by_name.setdefault(name, []).append(vector.astype(np.float32))
    rows = {name: unit(unit(np.stack(v)).mean(axis=0)) for name, v in by_name.items() if len(v) > 1}
    names = [
        n for n in (folder / "background_names.txt").read_text("utf-8").split("\n") if n in rows
    ]
    captions = unit(np.stack([by_name[n][k % len(by_name[n])] for k, n in enumerate(names)]))
    dataset, label, vectors = images["dataset"], images["label"], unit(images["vector"])
    keys = np.array([f"{d}: {x}" for d, x in zip(dataset, label, strict=True)])
    named = {f"{d}: {x}": rows[x] for d, x in zip(dataset, label, strict=True) if x in rows}
    library = vector_searches.Library(vectors, keys, dict(sorted(named.items())), captions, SCALE)
    sets = []
    for name in sorted(set(dataset.tolist())):
        inside = np.array([d == name and x in rows for d, x in zip(dataset, label, strict=True)])
        classes = sorted(set(label[inside].tolist()))
        truth = np.array([classes.index(x) for x in label[inside]])
        far = vectors[dataset != name]
        step = max(1, len(far) // 200)
        labels = unit(np.stack([rows[x] for x in classes]))
        others = np.stack([r for k, r in library.labels.items() if not k.startswith(f"{name}: ")])
        sets.append(DataSet(name, vectors[inside], truth, labels, far[::step], others))
    return sets, library


def unit(rows: np.ndarray) -> np.ndarray:
    """Return unit rows."""
    rows = np.asarray(rows, np.float32)
    found: np.ndarray = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return found


# --- formulas --------------------------------------------------------------------------------


def _against(images: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> np.ndarray:
    found: np.ndarray = (
        SCALE * images @ labels.T - cohort_log_mean_exp(images, captions, SCALE)[:, None]
    )
    return found


def _penalised(weight: float) -> Formula:
    def formula(x: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> np.ndarray:
        penalty = genericity(labels, CohortCentre.of(captions))
        found: np.ndarray = _against(x, labels, captions) - weight * penalty
        return found

    return formula


def _z(images: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> np.ndarray:
    cosines = images @ labels.T
    found: np.ndarray = (cosines - cosines.mean(axis=0)) / cosines.std(axis=0)
    return found


def _softmax(temperature: float) -> Formula:
    """Maximum concept matching (Ming et al. 2022)."""

    def formula(x: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> np.ndarray:
        powers = np.exp(SCALE / temperature * (x @ labels.T - 0.3))
        found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
        return found

    return formula


def _negatives(nearest: float) -> Formula:
    """Negative labels without those that are near a label (NegLabel 2024, NegRefine 2025)."""

    def formula(x: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> np.ndarray:
        return _against(x, labels, captions[(captions @ labels.T).max(axis=1) < nearest])

    return formula


def _outliers(images: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Softmax of labels and captions together: outlier label exposure (Fort et al. 2021)."""
    powers = np.exp(SCALE * (images @ np.concatenate([labels, captions]).T - 0.3))
    found: np.ndarray = powers[:, : len(labels)] / powers.sum(axis=1, keepdims=True)
    return found


def _by_likelihood(images: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Divide these by how likely a label is over all images (CLIPScope, Fu et al. 2024)."""
    shares = _outliers(images, labels, captions)
    found: np.ndarray = shares / shares.mean(axis=0)
    return found


def _shipped(images: np.ndarray, labels: np.ndarray, captions: np.ndarray) -> np.ndarray:
    p, none = way.several(images, labels, captions, SCALE)
    found: np.ndarray = np.log(p + 1e-300) - np.log(none[:, None] + 1e-300)
    return found


FORMULAS: Mapping[str, Formula] = {
    "softmax of the labels (MCM)": _softmax(1.0),
    "the same, temperature x 4": _softmax(4.0),
    "labels and captions (outlier exposure)": _outliers,
    "the same by class likelihood (CLIPScope)": _by_likelihood,
    "softmax against captions": _against,
    "the same - 2 x genericity": _penalised(2.0),
    "the same - 4 x genericity": _penalised(4.0),
    "captions that are no label (cos < .93)": _negatives(0.93),
    "z of the library's images (Z-norm)": _z,
    "half of the captions + z (S-norm)": lambda x, l, c: _against(x, l, c) / 2 + _z(x, l, c),
    "twice z + the captions": lambda x, l, c: _against(x, l, c) + 2 * _z(x, l, c),
    "**shipped**": _shipped,
}


# --- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What one formula reaches on one data set."""

    closed: float
    """Share of right answers where one has to be given."""
    right: float
    """Share of right answers where so many unknown images are refused as REFUSED."""
    oscr: float
    """Area under the share of right answers by the share of unknown images that pass."""
    auroc: float
    """Of right answers over unknown images."""
    low: float
    """From this threshold on enough unknown images are refused."""
    high: float
    """Up to this threshold enough right answers are kept."""


def measure(formula: Formula, data: DataSet, captions: np.ndarray) -> Found:
    """Measure a formula on a data set, its labels left out one by one."""
    numbers = formula(data.images, data.labels, captions)
    best, right = numbers.max(axis=1), numbers.argmax(axis=1) == data.truth
    unknown = np.concatenate(list(_unknown(formula, data, captions)))
    plain = float(((data.images @ data.labels.T).argmax(axis=1) == data.truth).mean())
    low = float(np.quantile(unknown, REFUSED))
    answers = np.sort(np.where(right, best, -np.inf))
    high = float(answers[max(0, int(np.floor(len(answers) * (1 - KEPT * plain))))])
    return Found(
        float(right.mean()),
        float((right & (best > low)).mean()),
        float(np.mean([(right & (best > one)).mean() for one in unknown])),
        auroc(best[right], unknown),
        low,
        high,
    )


def _unknown(formula: Formula, data: DataSet, captions: np.ndarray) -> Iterator[np.ndarray]:
    for label in range(len(data.labels)):
        rest = np.delete(data.labels, label, axis=0)
        yield formula(data.images, rest, captions)[data.truth == label].max(axis=1)


def _error(right: np.ndarray, kin: np.ndarray, far: np.ndarray) -> float:
    """Return the calibration error where half of the labels hold, and wrong ones are of both kinds."""
    half, rng = len(right) // 2, np.random.default_rng(0)
    wrong = np.concatenate([rng.choice(kin, half), rng.choice(far, half)])
    both = np.concatenate([right, wrong])
    return ece(both, np.repeat([True, False], [len(right), len(wrong)]))


def shipped(data: DataSet, captions: np.ndarray) -> str:
    """Return the figures of the shipped formula as a line."""
    one = np.stack([way.one(data.images, x, captions, SCALE) for x in data.labels], axis=1)
    far = np.stack([way.one(data.images, x, captions, SCALE) for x in data.far_labels], axis=1)
    holds = np.eye(len(data.labels), dtype=bool)[data.truth]
    p, none = way.several(np.concatenate([data.images, data.far]), data.labels, captions, SCALE)
    answers = np.where(none >= p.max(axis=1), -1, p.argmax(axis=1))
    known = len(data.images)
    refused = np.concatenate(list(_unknown(_shipped, data, captions))) <= 0
    return (
        f"{data.name}: alone, right labels {np.mean(one[holds] >= 0.5):.1%} at a half or more, wrong "
        f"ones of the same kind {np.mean(one[~holds] < 0.5):.1%} and of another {np.mean(far < 0.5):.1%} "
        f"below it, ECE {_error(one[holds], one[~holds], far.ravel()):.3f}; of {len(data.labels)} labels "
        f"{np.mean(answers[:known] == data.truth):.1%} right answers, {refused.mean():.1%} of unknown "
        f"and {np.mean(answers[known:] == -1):.1%} of far images refused"
    )


if __name__ == "__main__":
    main()
