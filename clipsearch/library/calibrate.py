"""Calibration of a library: questions worth asking, answers that are kept, and constants fitted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clipsearch._util import quote, warn, warn_once
from clipsearch._util.arrays import BoolArray, FloatArray, sigmoid
from clipsearch.calibration import (
    DEFAULT_FORMULA,
    FORMULAS,
    calibration_to_json,
    default_calibration,
    find_formula,
)
from clipsearch.calibration.answers import (
    AnsweredPairs,
    choose_questions,
    estimate_log_odds,
    fit_to_answers,
)
from clipsearch.calibration.background import background_version
from clipsearch.calibration.fit import Fitted, check_enough, fit_calibration
from clipsearch.errors import BadTruthFile, QueryError, TooFewExamples, UnknownImage
from clipsearch.evaluation import membership
from clipsearch.evaluation.ground_truth import GroundTruth
from clipsearch.heads.head import Head
from clipsearch.library.classify import make_head
from clipsearch.library.collection import encode_paths
from clipsearch.library.evaluate import make_class_prompts, report_left_out
from clipsearch.library.explore import NamingOptions, group_by_topic
from clipsearch.library.label_scores import (
    LabelJudge,
    calibration_key,
)
from clipsearch.library.session import Session, filters_of
from clipsearch.types import (
    ALL_IMAGES,
    ImageRecord,
    LabelAnswer,
    LabelQuestion,
    OnWarning,
    Selection,
    check_choice,
    check_count,
)
from clipsearch.types.options import as_texts

ANSWER_SOURCE = "calibrate"
"""The source of labels that were saved because somebody said that they hold."""
_ANSWERS = "answers"
"""The setting of the catalog with all answers, by the hash of the image: yes and no."""
_CANDIDATES = 20_000
"""Images that questions are chosen from, evenly: of more the choice would not be better."""
_SUGGESTED = 8
"""Labels to ask about where none are given."""


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """How a calibration is fitted."""

    formula: str = DEFAULT_FORMULA
    """Of FORMULAS."""
    templates: str | Sequence[str] | None = None
    """Prompts with `{}` for the labels, where there is no head."""
    dry_run: bool = False
    """Measure, and store nothing."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("seed", self.seed, 0)
        check_choice("formula", self.formula, tuple(FORMULAS))


# --- fitting ---------------------------------------------------------------------------------


def calibrate_labels(
    session: Session, truth: GroundTruth, head: Head | None, options: CalibrationOptions
) -> Fitted:
    """Fit the probabilities of the current model, or of a head, to images with known labels.

    The images need not be in the library.

    Raises
    ------
    BadTruthFile, TooFewExamples, ModelMismatch, BadTemplate
    """
    if not truth.labels:
        raise BadTruthFile(f"{truth.source} holds captions and no labels to calibrate with.")
    warned = [*truth.warnings]
    judged = head or _head_of(session, truth.classes, options, warned.append)
    judged.check(session.info)
    labelled = truth.spelled_as(judged.labels)
    check_enough(membership(list(labelled.values()), judged.labels))
    paths, vectors, missing = encode_paths(session, list(labelled))
    # Images without any of the labels are wrong cases of all of them, which is what they are.
    found = fit_calibration(
        find_formula(options.formula),
        judged.scores(vectors),
        membership([labelled[path] for path in paths], judged.labels),
        LabelJudge(session, judged).context(vectors),
        **_start_of(session, judged, options),
    )
    _store(session, found, head, options)
    return replace(found, warnings=(*warned, *report_left_out(missing)))


def calibrate_answers(
    session: Session, answers: Sequence[LabelAnswer], head: Head | None, options: CalibrationOptions
) -> Fitted:
    """Fit the probabilities of the current model, or of a head, to answers.

    The images of the library tell how many of them show the labels. Answers about labels that a
    given head does not have do not count.

    Raises
    ------
    TooFewExamples, ModelMismatch, BadTemplate
    """
    if strange := [one for one in answers if not isinstance(one, LabelAnswer)]:
        raise QueryError(f"answers are a list of LabelAnswer: not {strange[0]!r:.60}.")
    warned: list[str] = []
    labels = sorted({answer.label for answer in answers})
    judged = head or _head_of(session, labels, options, warned.append)
    judged.check(session.info)
    columns = {label: column for column, label in enumerate(judged.labels)}
    paths, vectors, missing = encode_paths(session, sorted({answer.path for answer in answers}))
    rows = {path: row for row, path in enumerate(paths)}
    known = [a for a in answers if a.path in rows and a.label in columns]
    found = fit_to_answers(
        find_formula(options.formula),
        judged.scores(vectors),
        AnsweredPairs(
            np.array([rows[a.path] for a in known], dtype=np.int64),
            np.array([columns[a.label] for a in known], dtype=np.int64),
            np.array([a.holds for a in known], dtype=bool),
        ),
        _library_log_odds(session, judged),
        LabelJudge(session, judged).context(vectors),
        **_start_of(session, judged, options),
    )
    _store(session, found, head, options)
    return replace(found, warnings=(*warned, *report_left_out(missing)))


def _head_of(
    session: Session, labels: Sequence[str], options: CalibrationOptions, on_warning: OnWarning
) -> Head:
    if not labels:
        raise TooFewExamples("there are no answers yet: `clipsearch calibrate --ask 20` asks.")
    return make_head(session, make_class_prompts(labels, options.templates), on_warning=on_warning)


def _start_of(session: Session, head: Head, options: CalibrationOptions) -> dict[str, Any]:
    """Return what a fit starts from, as its keyword arguments.

    Knowledge of cosines with texts is no prior for another formula, nor for rows that were
    learned from images.
    """
    chosen, before = find_formula(options.formula), default_calibration(session.info)
    return {
        "before": before,
        "prior": before if isinstance(before, chosen) and all(head.prompts) else None,
        "background": background_version() if chosen.needs_cohort else "",
        "seed": options.seed,
    }


def _library_log_odds(session: Session, head: Head) -> FloatArray:
    _, vectors = _sample_images(session, ALL_IMAGES)
    calibration = default_calibration(session.info)
    context = LabelJudge(session, head).context(vectors)
    return estimate_log_odds(calibration.logits(head.scores(vectors), context))


def _store(session: Session, found: Fitted, head: Head | None, options: CalibrationOptions) -> None:
    if not options.dry_run:
        stored = calibration_to_json(found.calibration)
        session.catalog.set_meta(calibration_key(session.info.fingerprint, head), stored)


# --- questions -------------------------------------------------------------------------------


def draw_questions(
    session: Session,
    labels: Sequence[str] | Head,
    n: int,
    *,
    selection: Selection = ALL_IMAGES,
    templates: str | Sequence[str] | None = None,
    seed: int = 0,
) -> list[LabelQuestion]:
    """Choose pairs of an image and a label whose answers tell most about probabilities.

    Parameters
    ----------
    session
        Of the library; pairs that were answered before are left out.
    labels
        To ask about; empty for labels of the library: those saved, else the names of its topics.
    n
        How many.
    selection
        Which images.
    templates
        Prompts with `{}` for the labels.
    seed
        Of the choice among pairs that tell as much.

    Returns
    -------
    At most `n` questions, each about another image.

    Raises
    ------
    ModelMismatch, BadTemplate
    """
    check_count("n", n)
    options = CalibrationOptions(templates=templates, seed=seed)
    records, vectors = _sample_images(session, selection)
    if not records:
        return []
    if not isinstance(labels, Head):
        named = as_texts(labels, "labels")
        wanted = list(dict.fromkeys(named)) or _suggest_labels(session, selection, seed)
        labels = _head_of(session, wanted, options, warn)
    head = labels
    head.check(session.info)
    logits = LabelJudge(session, head).logits(head.scores(vectors), vectors)
    probabilities = sigmoid(logits + estimate_log_odds(logits))
    known = _find_answered(session, records, head.labels)
    rows, columns = choose_questions(probabilities, n, leave_out=known, seed=seed)
    return [
        LabelQuestion(records[row].path, head.labels[column], float(probabilities[row, column]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def _sample_images(session: Session, selection: Selection) -> tuple[list[ImageRecord], FloatArray]:
    """Return the selected images, each content once, or _CANDIDATES of them, evenly."""
    model_id, info = session.model()
    filters = filters_of(selection)
    wanted = session.catalog.allowed_ids(model_id, **filters) if selection else session.live().ids
    step = -(-len(wanted) // _CANDIDATES) or 1
    records, rows = list[ImageRecord](), [np.empty((0, info.dim), np.float32)]
    for ids, vectors in session.catalog.iter_vectors(model_id, whole=True):
        inside = np.isin(ids, wanted[::step])
        named = session.catalog.hits(ids[inside].tolist(), **filters)
        for number, vector in zip(ids[inside].tolist(), vectors[inside], strict=True):
            if found := named.get(number):
                records.append(found[0])
                rows.append(vector[None])
    return records, np.concatenate(rows)


def _suggest_labels(session: Session, selection: Selection, seed: int) -> list[str]:
    saved = session.catalog.label_counts()
    if len(saved) > 1:
        return sorted(saved, key=lambda label: -saved[label])[:_SUGGESTED]
    topics = group_by_topic(session, selection, _SUGGESTED, NamingOptions(seed=seed))
    return list(dict.fromkeys(topic.names[0] for topic in topics))


# --- answers ---------------------------------------------------------------------------------


def save_answers(session: Session, answers: Sequence[LabelAnswer]) -> None:
    """Write answers into the catalog: all of them, and a label for each yes.

    A later answer replaces an earlier one. Raises UnknownImage, and writes nothing, if the library
    does not know an image.
    """
    if not isinstance(answers, Iterable):
        raise QueryError(f"answers are a list of LabelAnswer: not {quote(answers)}.")
    answers = list(answers)
    if strange := [one for one in answers if not isinstance(one, LabelAnswer)]:
        raise QueryError(f"answers are a list of LabelAnswer: not {quote(strange[0])}.")
    known = _read_answers(session)
    changed: dict[str, int] = {}
    for answer in answers:
        record = session.catalog.record(answer.path)
        if record is None:
            raise UnknownImage(answer.path)
        known.setdefault(record.sha256, {})[answer.label] = answer.holds
        changed[record.sha256] = record.content_id
    session.catalog.set_meta(_ANSWERS, json.dumps(known, ensure_ascii=False))
    session.catalog.save_labels(
        [
            (content, label, ANSWER_SOURCE, 1.0)
            for sha256, content in changed.items()
            for label, holds in known[sha256].items()
            if holds
        ],
        sources=[ANSWER_SOURCE],
        among=list(changed.values()),
    )


def stored_answers(session: Session) -> list[LabelAnswer]:
    """Return the answers about images that the library has files of, by path and label."""
    known = _read_answers(session)
    contents = session.catalog.find_known(known, session.model()[0])
    paths = session.catalog.paths_of([content for content, _ in contents.values()])
    found = [
        LabelAnswer(paths[content][0], label, holds)
        for sha256, (content, _) in contents.items()
        if content in paths
        for label, holds in known[sha256].items()
    ]
    return sorted(found, key=lambda answer: (answer.path, answer.label))


def _read_answers(session: Session) -> dict[str, dict[str, bool]]:
    try:
        found: dict[str, dict[str, bool]] = json.loads(session.catalog.get_meta(_ANSWERS) or "{}")
    except (ValueError, RecursionError):
        warn_once("the stored answers of `clipsearch calibrate --ask` are damaged and not used.")
        return {}
    return found


def _find_answered(
    session: Session, records: Sequence[ImageRecord], labels: Sequence[str]
) -> BoolArray:
    """Return which pairs of images and labels have an answer: bool (images, labels)."""
    known = _read_answers(session)
    return np.array([[label in known.get(r.sha256, ()) for label in labels] for r in records])
