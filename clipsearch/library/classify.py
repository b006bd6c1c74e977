"""Zero-shot heads of labels, what they say of images, and the labels that are saved."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from clipsearch._util import absolute, plural
from clipsearch._util.arrays import FloatArray
from clipsearch._util.parallel import cores, in_background
from clipsearch.catalog.records import LabelBatch
from clipsearch.errors import QueryError, UnreadableImage
from clipsearch.heads.example_images import GENERIC, Modalities
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import make_prompts, unite_labels
from clipsearch.images.walk import Walk
from clipsearch.indexing.pipeline import encode_files
from clipsearch.library.cohorts import PagedLogMeanExps
from clipsearch.library.collection import encode_paths, image_pages
from clipsearch.library.label_scores import LabelJudge, LabelScorer
from clipsearch.library.predictions import PredictionPage, PredictionPages, Spool
from clipsearch.library.session import Session
from clipsearch.text.encode import encode_texts, reading
from clipsearch.types import (
    ClassifyOptions,
    Embeddings,
    Labels,
    OnWarning,
    Paths,
    Prediction,
    Prompt,
    Results,
    Term,
    as_path,
    as_paths,
)

LABEL_SOURCE = "classify"
"""The source of labels that `classify` saved: guesses."""
_ENOUGH = 4_096
"""Vectors of the library that its mean image is made of, the oldest; more would not move it."""
_FEW = 32
"""With fewer, what the mean image shows is more of these images than of images."""


# --- heads -----------------------------------------------------------------------------------


def make_head(
    session: Session,
    labels: Labels,
    *,
    templates: str | Sequence[str] | None = None,
    truncate: bool = False,
    on_warning: OnWarning,
    unite: bool = True,
) -> Head:
    """Make a zero-shot head of labels.

    Parameters
    ----------
    session
        Its model encodes the prompts.
    labels
        Labels, or label -> its own prompts, which are texts and images.
    templates
        Prompts with `{}` for the labels without prompts; by default a small set.
    truncate
        Cut texts that are too long for the model instead of reading them in pieces.
    on_warning
        Is told of such texts, and of texts in a language that the model does not know.
    unite
        Take labels that differ in case or space alone as one.

    Raises
    ------
    TooFewLabels, BadTemplate, QueryError
    UnreadableImage
        An image of a label cannot be used.
    """
    templates = [templates] if isinstance(templates, str) else templates
    labels = check_labels(labels)
    labels = unite_labels(labels, on_warning) if unite else labels
    prompts = locate_prompts(make_prompts(labels, templates))
    with reading(session.encoder, truncate=truncate, on_warning=on_warning) as reader:
        images = example_rows(session, prompts, on_warning=on_warning)
        return Head.from_prompts(reader, prompts, images=images)


def check_labels(labels: Labels) -> Labels:
    """Return labels as they are. Raises QueryError unless a text or a list of texts."""
    if not isinstance(labels, str | Iterable) or isinstance(labels, bytes):
        raise QueryError(f"labels are a list of texts, or label -> prompts: not {labels!r:.60}.")
    given = [labels] if isinstance(labels, str) else list(labels)
    if strange := [label for label in given if not isinstance(label, str)]:
        raise QueryError(f"a label is a text: not {strange[0]!r:.60}.")
    return labels if isinstance(labels, str | Mapping) else given


def locate_prompts(prompts: Mapping[str, Sequence[Prompt]]) -> dict[str, list[Prompt]]:
    """Make the paths of images absolute, so that they mean the same from anywhere."""
    return {label: [_locate(prompt) for prompt in given] for label, given in prompts.items()}


def example_rows(
    session: Session, prompts: Mapping[str, Sequence[Prompt]], *, on_warning: OnWarning
) -> dict[str, FloatArray]:
    """Return the row (dim,) of each image among the prompts, moved among the texts.

    The mean image, which this needs, is that of the library; `on_warning` is told where that holds
    too few. Raises UnreadableImage for an image
    that cannot be used.
    """
    terms = [p for given in prompts.values() for p in given if isinstance(p, Term)]
    wanted = list(dict.fromkeys(term.value for term in terms if term.kind == "image"))
    if not wanted:
        return {}
    paths, vectors, failures = encode_paths(session, wanted)
    if missing := [path for path in wanted if path not in paths]:
        reasons = {failure.path: failure.reason for failure in failures}
        reason = reasons.get(missing[0], "a folder cannot stand for a class: name its images")
        raise UnreadableImage(missing[0], reason)
    modalities = _modalities(session, vectors, on_warning)
    return dict(zip(paths, modalities.as_texts(vectors), strict=True))


def _modalities(session: Session, examples: FloatArray, on_warning: OnWarning) -> Modalities:
    nothing = (None, examples[:0])
    batches = session.catalog.iter_vectors(session.model()[0], batch=_ENOUGH)
    _, known = next(batches, nothing)
    if len(known) < _FEW:
        on_warning(
            f"the library holds {plural(len(known), 'image')}: too few to tell what an example image "
            f"has in common with all images. Index at least {_FEW} for labels with images."
        )
        known = np.concatenate([known, examples])
    return Modalities.of(encode_texts(session.encoder, GENERIC), known)


def _locate(prompt: Prompt) -> Prompt:
    if isinstance(prompt, str) or prompt.kind == "text":
        return prompt
    return replace(prompt, value=absolute(as_path(prompt.value)))


# --- classifying -----------------------------------------------------------------------------


def predict_labels(
    session: Session, head: Head, options: ClassifyOptions, *, save: bool = False
) -> Results[Prediction]:
    """Label the selected images of a library.

    Parameters
    ----------
    session
        Its stored vectors are judged.
    head
        Of the session's model.
    options
        How, and of which images.
    save
        Write the labels that hold into the catalog, in place of those saved before.

    Returns
    -------
    A prediction per file, by path.

    Raises
    ------
    UnknownLabel
        A threshold names a label that the head does not have.
    ModelMismatch
    """
    return _results(predict_pages(session, head, options, save=save), head)


def predict_pages(
    session: Session, head: Head, options: ClassifyOptions, *, save: bool = False
) -> PredictionPages:
    """Do what `predict_labels` does, in pages that are read as they are used.

    Parameters
    ----------
    session, head, options
        As for `predict_labels`.
    save
        Write the labels now, which reads all of them.
    """
    session = session.at_current_model()  # the pages are of one model, whatever is used meanwhile
    scorer = _scorer(session, head, options)
    judge: Callable[[], Iterator[PredictionPage]] = partial(_read_pages, session, scorer, options)
    if save:
        judge = _save_pages(session, judge(), options.min_probability)

    def read() -> Iterator[PredictionPage]:
        for page in judge():
            yield page.at_least(options.min_probability)

    labels = len(head.labels[: options.top])
    none = options.mode == "open" and options.min_probability is None
    return PredictionPages(read, head.labels, labels + none)


def predict_files(
    session: Session, head: Head, images: Paths, options: ClassifyOptions
) -> Results[Prediction]:
    """Label image files, and images in folders, in the library or not.

    Parameters
    ----------
    session
        Its model encodes the images.
    head
        Of the session's model.
    images
        A path or several.
    options
        How; the selection does not count.

    Returns
    -------
    A prediction per file, by path; what cannot be read is among the warnings.
    """
    scorer = _scorer(session, head, options)
    walk = Walk(as_paths(images, "images"))
    predictions, warned = [], []
    for file, encoded in encode_files(walk, session.encoder, workers=cores()):
        if isinstance(encoded, Exception):
            warned.append(str(encoded))
        else:
            ((labels, none),) = scorer.rank(encoded[None], options.top).unpack(head.labels)
            predictions.append(Prediction(file.path, labels, None, none, scorer.mode))
    warned += [f"{problem.path}: {problem.reason}" for problem in walk.problems]
    least = options.min_probability
    kept = [p for p in predictions if least is None or (p.holding and p.probability >= least)]
    return _results(sorted(kept, key=lambda prediction: prediction.path), head, warned)


def save_predictions(
    session: Session,
    predictions: Iterable[Prediction],
    *,
    source: str = LABEL_SOURCE,
    among: Iterable[int] | None = None,
) -> int:
    """Write the labels that hold, of each prediction of an indexed image, into the catalog.

    Parameters
    ----------
    session
        Of the library.
    predictions
        Of images of the library; others are left out.
    source
        Who gives the labels: those that the same source gave the images before are replaced.
    among
        Ids of the contents whose labels are replaced; by default those of the predictions.

    Returns
    -------
    How many labels were written.
    """
    images = {p.record.content_id: p.holding for p in predictions if p.record}
    return session.catalog.save_labels(
        [
            (content, label.label, source, label.score)
            for content, labels in images.items()
            for label in labels
        ],
        sources=[source],
        among=list(images if among is None else among),
    )


def _scorer(session: Session, head: Head, options: ClassifyOptions) -> LabelScorer:
    head.check(session.info)
    thresholds = options.threshold
    if isinstance(thresholds, Mapping):
        thresholds = {label and head.spelling(label): p for label, p in thresholds.items()}
    if options.mode == "closed" and not all(head.prompts):
        return LabelScorer(head, options.mode)  # a learned head knows its labels apart by itself
    among = options.mode != "multi"
    judge = LabelJudge(session, head, among=among, inductive=options.inductive)
    return LabelScorer(head, options.mode, thresholds, judge)


def _read_pages(
    session: Session, scorer: LabelScorer, options: ClassifyOptions
) -> Iterator[PredictionPage]:
    """Yield what the labels say of images of a library; a page ahead of their use."""
    from threadpoolctl import ThreadpoolController  # a query does without it

    pages, known = image_pages(session, options.selection, vectors=True), PagedLogMeanExps(session)

    def judge() -> Generator[PredictionPage, None, None]:
        blas = ThreadpoolController()
        for page in pages.read():
            assert isinstance(page, Embeddings)
            with blas.limit(limits=1):  # another thread would wait for a tenth of the product
                ranked = scorer.rank(page.vectors, options.top, known.of_page(page))
            yield PredictionPage(page.records, ranked, scorer.head.labels, scorer.mode)
        known.store()

    for page in in_background(judge(), name="clipsearch-classify"):
        if page is not None:
            yield page


def _save_pages(
    session: Session, pages: Iterable[PredictionPage], min_probability: float | None
) -> Callable[[], Iterator[PredictionPage]]:
    """Write the labels that hold, all of them or none, and return what reads the pages again.

    From temporary files, since a selection may be about the labels that have changed now.
    """
    kept, labels = Spool[PredictionPage](), Spool[LabelBatch]()
    for page in pages:
        kept.append(page)
        held = page.at_least(min_probability).held()
        rows = [(record.content_id, label, LABEL_SOURCE, score) for record, label, score in held]
        labels.append((rows, [record.content_id for record in page.records]))
    session.catalog.save_label_batches(labels, sources=[LABEL_SOURCE])
    return kept.__iter__


def _results(
    predictions: Iterable[Prediction], head: Head, warned: Sequence[str] = ()
) -> Results[Prediction]:
    return Results(
        tuple(predictions),
        title=", ".join(head.labels),
        warnings=tuple(warned),
        kind="predictions",
        labels=head.labels,
    )
