"""Few-shot learning: heads learned from labelled images, and which images to label next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np

from clipsearch._util import absolute, fold_label, quote
from clipsearch._util.arrays import FloatArray, IdArray, softmax
from clipsearch.calibration import DEFAULT_FORMULA, calibration_to_json, find_formula
from clipsearch.calibration.background import background_version
from clipsearch.calibration.fit import Fitted, fit_calibration
from clipsearch.errors import LibraryError, QueryError, TooFewExamples, TooFewLabels
from clipsearch.evaluation.ground_truth import read_ground_truth
from clipsearch.fewshot.cross_validation import MethodChoice
from clipsearch.fewshot.methods import (
    Task,
    choose_undecided,
    distinct_images,
    label_margins,
    sample_margins,
)
from clipsearch.fewshot.result import FewShotResult, fit_head
from clipsearch.heads.head import Head
from clipsearch.library.classify import LABEL_SOURCE, make_head
from clipsearch.library.cohorts import PagedLogMeanExps
from clipsearch.library.collection import encode_paths, image_pages
from clipsearch.library.evaluate import make_class_prompts
from clipsearch.library.label_scores import (
    LabelJudge,
    calibration_key,
    closed_set_judge,
    moved_rows,
)
from clipsearch.library.session import Session, ignore
from clipsearch.types import (
    NONE,
    Embeddings,
    ImageRecord,
    Labels,
    LabelScore,
    OnWarning,
    Prediction,
    Results,
    Selection,
    StrPath,
    Term,
    as_path,
    check_count,
)

Examples: TypeAlias = StrPath | Mapping[StrPath, str]
"""A folder or file of labelled images, SAVED, or path -> label."""
SAVED = "saved"
"""As examples: the labels saved in the library."""


@dataclass(frozen=True, slots=True)
class LearnOptions:
    """How a head is learned, and how that is measured."""

    shots: int | None = None
    """Learn from at most this many images per label, and test with the others."""
    method: MethodChoice = "auto"
    """`auto` is the one that cross-validation prefers."""
    curve: bool = True
    """Also learn from 1, 2, 4, 8 and 16 images per label."""
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.shots, int) and self.shots < 1:
            raise TooFewExamples(f"nothing is learned from {self.shots} images per label.")
        check_count("shots", self.shots, optional="all images")
        check_count("seed", self.seed, 0)


def learn_head(
    session: Session,
    examples: Examples,
    labels: Labels | None,
    templates: str | Sequence[str] | None,
    options: LearnOptions,
) -> FewShotResult:
    """Learn a head from prompts and labelled images, and measure what the images bring.

    Parameters
    ----------
    session
        Of the library; the calibration of the head is stored in it.
    examples
        Labelled images.
    labels, templates
        As for a zero-shot head; by default the labels are those of the examples.
    options
        How to learn, and what to measure.

    Raises
    ------
    TooFewExamples, BadTruthFile, TooFewLabels, BadTemplate
    """
    warned: list[str] = []
    given = _read_examples(session, examples, warned.append)
    if not given:
        raise TooFewExamples(f"{examples}: no image with one label, so nothing to learn from.")
    named = labels or make_class_prompts(sorted(set(given.values())), templates)
    head = make_head(session, named, templates=templates, on_warning=warned.append)
    task = _task(session, head, given, warned.append)
    result = fit_head(
        task, head, options.method, shots=options.shots, curve=options.curve, seed=options.seed
    )
    calibration = _calibrate(session, result, task, warned.append)
    return replace(result, calibration=calibration, warnings=tuple(warned))


def suggest_images(
    session: Session,
    n: int,
    head: Head,
    *,
    examples: Examples | None,
    selection: Selection,
    seed: int,
) -> Results[Prediction]:
    """Return the images whose label would help a head most.

    Parameters
    ----------
    session
        Of the library.
    n
        How many images.
    head
        Of at least two labels.
    examples
        Images whose labels are known; they are left out.
    selection
        Which images.
    seed
        Of ties.

    Returns
    -------
    Predictions of images without a label that was given, the least certain first.

    Raises
    ------
    TooFewLabels
    """
    check_count("n", n)
    check_count("seed", seed, 0)
    session = session.at_current_model()
    head.check(session.info)
    if len(head.labels) < 2:
        raise TooFewLabels("suggestions need two labels at least, to be undecided between.")
    known = set() if examples is None else set(_read_examples(session, examples, ignore))
    labels = session.catalog.read_labels()
    sure = {content for content, _, source in labels if _is_sure(source)}

    def is_open(record: ImageRecord) -> bool:
        return record.path not in known and record.content_id not in sure

    found = _find_undecided(session, n, head, selection, is_open)
    chosen = sample_margins(found.vectors, label_margins(found.logits), n, seed=seed)
    predictions = (
        Prediction(record.path, _rank_labels(head, found.scores[i], found.logits[i]), record)
        for i, record in ((i, found.records[i]) for i in chosen.tolist())
    )
    return Results(tuple(predictions), title="label these next", kind="predictions")


class _Judged(NamedTuple):
    """Images with their unit rows (n, dim), and their cosines and logits (n, labels)."""

    records: list[ImageRecord]
    vectors: FloatArray
    scores: FloatArray
    logits: FloatArray

    def choose(self, n: int) -> _Judged:
        """Keep the images that n suggestions may be of, least certain first."""
        return self.part(choose_undecided(self.vectors, label_margins(self.logits), n))

    def part(self, rows: IdArray) -> _Judged:
        """Return the images at some rows."""
        records = [self.records[i] for i in rows.tolist()]
        return _Judged(records, self.vectors[rows], self.scores[rows], self.logits[rows])


def _find_undecided(
    session: Session,
    n: int,
    head: Head,
    selection: Selection,
    is_open: Callable[[ImageRecord], bool],
) -> _Judged:
    """Return what `sample_margins` needs for n images; a page of the library is in memory."""
    judge, nothing = closed_set_judge(session, head), np.empty((0, len(head.labels)))
    best = _Judged([], np.empty((0, head.vectors.shape[1]), np.float32), nothing, nothing)
    known = PagedLogMeanExps(session)
    for page in image_pages(session, selection, vectors=True).read():
        assert isinstance(page, Embeddings)
        scores = head.scores(page.vectors)
        logits = judge(scores, page.vectors, known.of_page(page))
        found = _Judged([*page.records], page.vectors, scores, logits)
        found = found.part(np.flatnonzero([is_open(record) for record in page.records]))
        records = [*best.records, *found.records]
        arrays = (np.concatenate(both) for both in zip(best[1:], found[1:], strict=True))
        best = _Judged(records, *arrays).choose(n)
    known.store()
    return best


def _calibrate(
    session: Session, result: FewShotResult, task: Task, on_warning: OnWarning
) -> Fitted | None:
    """Fit the probabilities of a learned head, and store that; None with too few images.

    A head that moved gives other cosines than its text did. How high they are for images that
    it did not learn from is what cross-validation has seen.
    """
    trial = result.trial
    if trial is None:
        return None
    head = result.head
    own = np.eye(len(head.labels), dtype=bool)[trial.truth]
    try:
        found = fit_calibration(
            find_formula(DEFAULT_FORMULA),
            trial.scores,
            own,
            LabelJudge(session, head).context(task.vectors[trial.which]),
            before=find_formula(DEFAULT_FORMULA).of_model(session.info),
            background=background_version(),
        )
    except TooFewExamples:
        return None
    try:
        key = calibration_key(head.fingerprint, head)
        session.catalog.set_meta(key, calibration_to_json(found.calibration))
    except LibraryError as error:  # the head is good all the same
        on_warning(f"the probabilities of the head could not be stored: {error}")
    return found


# --- examples --------------------------------------------------------------------------------


def _read_examples(session: Session, examples: Examples, on_warning: OnWarning) -> dict[str, str]:
    """Return path -> label; examples without exactly one label are left out, with a warning."""
    found: Mapping[str, Sequence[str]]
    if isinstance(examples, Mapping):
        if strange := [one for one in examples.values() if not isinstance(one, str)]:
            raise QueryError(f"examples are path -> label, a text: not {quote(strange[0])}.")
        found = {absolute(as_path(path, "examples")): (label,) for path, label in examples.items()}
    elif examples == SAVED:
        found = _read_saved(session, on_warning)
    else:
        truth = read_ground_truth(as_path(examples, "examples"))
        for message in truth.warnings:
            on_warning(message)
        if not truth.labels:
            raise TooFewExamples(f"{examples} has captions, not labels: learn needs labels.")
        found = truth.labels
    # What `classify` says where no label holds is no label to learn.
    found = {path: labels for path, labels in found.items() if NONE not in labels}
    several = [path for path, labels in found.items() if len(labels) > 1]
    _warn_of(on_warning, several, "with several labels are left out")
    return {path: labels[0] for path, labels in found.items() if len(labels) == 1}


def _read_saved(session: Session, on_warning: OnWarning) -> dict[str, list[str]]:
    """Return path -> saved labels; guesses do not count where labels were given."""
    said: dict[int, dict[str, None]] = {}
    guessed: dict[int, dict[str, None]] = {}
    for content, name, source in session.catalog.read_labels():
        (said if _is_sure(source) else guessed).setdefault(content, {})[name] = None
    if not (said or guessed):
        raise TooFewExamples(
            "the library has no saved labels: give examples as a folder or a CSV, "
            "or save labels with `clipsearch classify --save`."
        )
    if mere := guessed.keys() - said.keys():
        on_warning(
            f"{len(mere):,} labels are guesses that `classify --save` kept. A head that learns "
            "from its own guesses learns its own mistakes, and measures itself against them: "
            "look through them first."
        )
    labels = {**guessed, **said}
    records = image_pages(session, Selection(), vectors=False)
    return {r.path: list(labels[r.content_id]) for r in records if r.content_id in labels}


def _task(session: Session, head: Head, given: Mapping[str, str], on_warning: OnWarning) -> Task:
    """Return the vectors of the examples with their labels as numbers. Raises TooFewExamples."""
    spellings = {fold_label(label): label for label in head.labels}
    given = {path: spellings.get(fold_label(label), label) for path, label in given.items()}
    numbers = {label: j for j, label in enumerate(head.labels)}
    strange = Counter(label for label in given.values() if label not in numbers)
    if strange:
        names = ", ".join(map(repr, sorted(strange)[:5])) + ("..." if len(strange) > 5 else "")
        on_warning(f"{strange.total():,} images of other labels are left out: {names}.")
    # An image that a label is described by is in its row already.
    own = {p.value for ps in head.prompts for p in ps if isinstance(p, Term)}
    wanted = [p for p, label in given.items() if label in numbers and p not in own]
    paths, vectors, failures = encode_paths(session, wanted)
    _warn_of(on_warning, [f"{f.path} ({f.reason})" for f in failures], "cannot be read")
    owners = np.array([numbers[given[path]] for path in paths], dtype=np.int64)
    kept, unclear = distinct_images(vectors, owners)
    if unclear:
        on_warning(f"{unclear:,} images are there with two labels and are left out.")
    if len(np.unique(owners[kept])) < 2:
        raise TooFewExamples(
            "examples are needed of two labels at least: add images of something else, "
            "if only under a label such as `other`."
        )
    return Task(vectors[kept], owners[kept], moved_rows(session, head), head.logit_scale)


def _is_sure(source: str) -> bool:
    """Say whether labels of this source were given, rather than guessed."""
    return source != LABEL_SOURCE


def _rank_labels(head: Head, scores: FloatArray, logits: FloatArray) -> tuple[LabelScore, ...]:
    """Return the labels of one image, best first; they share all probability among them."""
    shares = softmax(logits)
    order = np.argsort(-logits, kind="stable").tolist()
    return tuple(LabelScore(head.labels[j], float(shares[j]), float(scores[j])) for j in order)


def _warn_of(on_warning: OnWarning, things: Sequence[str], what: str) -> None:
    if things:
        more = f" and {len(things) - 1:,} more" if len(things) > 1 else ""
        on_warning(f"{things[0]}{more}: {what}.")
