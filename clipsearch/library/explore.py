"""Topics, events and duplicates of a library."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from clipsearch._util import warn
from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.errors import BadGrouping, BadLabelFile, SnapshotUnreadable
from clipsearch.grouping.clusters import (
    HalfRows,
    clusters,
    measure_separations,
    rank_typical,
    separation_by_chance,
)
from clipsearch.grouping.duplicates import TIERS, Duplicates, Tier
from clipsearch.grouping.near_pairs import Files, group_duplicates
from clipsearch.grouping.topics import (
    TOPIC_VOCABULARY,
    Topic,
    centres,
    choose_distinct_names,
    event_title,
    events,
    name_scores,
    span,
    topic_phrases,
)
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import make_prompts
from clipsearch.library.classify import make_head
from clipsearch.library.collection import image_pages
from clipsearch.library.session import Session, filters_of
from clipsearch.text.encode import ProgressReader
from clipsearch.types import (
    Embeddings,
    Hit,
    ImageRecord,
    Labels,
    OnProgress,
    Selection,
    StrPath,
    as_path,
    check_count,
    check_number,
    ignore_progress,
)
from clipsearch.vectors.ranking import is_in

TOPIC_SOURCE = "topics"
_PAGE = 2_000
HEADS = "heads"
"""The folder in a library of heads that can be rebuilt: encoding all phrases takes a while."""


@dataclass(frozen=True, slots=True)
class NamingOptions:
    """How groups of images are named, and whether the names are saved."""

    vocabulary: Head | Labels | StrPath | None = None
    """The phrases to choose from, as labels, a file of labels or a head; None for the bundled."""
    save: bool = False
    """Write the title of its group into the catalog as a label of each image."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("seed", self.seed, 0)


def group_by_topic(
    session: Session,
    selection: Selection,
    count: int | str,
    naming: NamingOptions,
    *,
    on_progress: OnProgress = ignore_progress,
) -> list[Topic]:
    """Group images by what they show, and name each group.

    Parameters
    ----------
    session
        Of the library.
    selection
        Which images.
    count
        How many topics, at most one for each different image; "auto" chooses.
    naming
        How topics are named.
    on_progress
        Is told of the progress.

    Returns
    -------
    Topics, the largest first.

    Raises
    ------
    BadGrouping, BadLabelFile, ModelMismatch
    """
    wanted = _count(count)
    records, vectors = _read_images(session, selection)
    groups = clusters(vectors, wanted, seed=naming.seed, on_progress=on_progress)
    chance = separation_by_chance(vectors, int(groups.max(initial=-1)) + 1, seed=naming.seed)
    with session.telling(on_progress):
        topics = _name_groups(session, records, vectors, groups, naming, _by_name)
    return [replace(topic, weak=_is_weak(topic, chance)) for topic in topics]


def group_by_event(
    session: Session,
    selection: Selection,
    naming: NamingOptions,
    *,
    gap_hours: float,
    kilometres: float,
) -> list[Topic]:
    """Group images by when and where they were taken, and name each group.

    Parameters
    ----------
    session
        Of the library.
    selection
        Which images.
    naming
        How events are named.
    gap_hours, kilometres
        A longer pause, or a longer way from image to image, begins a new event.

    Returns
    -------
    Events, the earliest first; images that do not say when they were taken come last.
    """
    check_number("gap_hours", gap_hours, 0)
    check_number("kilometres", kilometres, 0)
    records, vectors = _read_images(session, selection)
    facts = [record.facts for record in records]
    groups = events(facts, gap_hours=gap_hours, kilometres=kilometres)
    return _name_groups(session, records, vectors, groups, naming, _by_event)


def find_duplicates(
    session: Session,
    selection: Selection,
    tier: Tier | Literal["all"],
    min_score: float,
    *,
    on_progress: OnProgress = ignore_progress,
) -> list[Duplicates]:
    """Find files that show the same, and say which copy of them is the best.

    Parameters
    ----------
    session
        Of the library.
    selection
        Which images.
    tier
        In which way the files are alike.
    min_score
        The smallest cosine of two images of the same scene.
    on_progress
        Is told of the progress.

    Raises
    ------
    BadGrouping
        There is no such tier.
    """
    if tier != "all" and tier not in TIERS:
        raise BadGrouping(f"there is no tier {tier!r}: choose from {', '.join(TIERS)}, all.")
    check_number("min_score", min_score, -1, 1)
    return group_duplicates(
        _StoredImages(session, selection),
        tiers=TIERS if tier == "all" else (tier,),
        scene_score=min_score,
        on_progress=on_progress,
    )


class _StoredImages:
    """Selected images of the library; see `near_pairs.ImageSource`."""

    def __init__(self, session: Session, selection: Selection) -> None:
        (self._model_id, self._info), self._catalog = session.model(), session.catalog
        self._session = session
        self._filters = filters_of(selection)
        self._allowed = (
            self._catalog.allowed_ids(self._model_id, **self._filters) if selection else None
        )

    def pages(self) -> Iterator[Files]:
        """Yield the files of all images, some at a time."""
        live = self._session.live()
        ids = np.unique(live.parts.images_of(live.ids)) if live.parts else live.ids
        if self._allowed is not None:
            ids = ids[is_in(ids, self._allowed)]
        for start in range(0, len(ids), _PAGE):
            yield self.files(ids[start : start + _PAGE])

    def files(self, numbers: IdArray) -> Files:
        """Return the files of some images."""
        return self._catalog.hits(numbers.tolist(), **self._filters)

    def vectors(self, numbers: IdArray) -> FloatArray:
        """Return the unit rows of some images, float32 (m, dim); zeros for one that is gone."""
        wanted, places = np.unique(numbers, return_inverse=True)
        found = np.zeros((len(wanted), self._info.dim), np.float32)
        missing = wanted
        with suppress(SnapshotUnreadable):  # from there they come three times as fast
            ids, rows = self._session.searcher().take(wanted)
            found[np.searchsorted(wanted, ids)] = rows
            missing = wanted[~is_in(wanted, ids)]
        if len(missing):
            ids, rows = self._catalog.vectors(self._model_id, ids=missing.tolist())
            found[np.searchsorted(wanted, ids)] = rows
        return found[places]


def _read_images(session: Session, selection: Selection) -> tuple[list[ImageRecord], HalfRows]:
    """Read selected images by path, and their vectors, in the two bytes a number that are stored."""
    records: list[ImageRecord] = []
    parts: list[FloatArray] = []
    for page in image_pages(session, selection, vectors=True).read():
        if isinstance(page, Embeddings):
            records += page.records
            parts.append(page.vectors.astype(np.float16))
    return records, HalfRows(parts, session.model()[1].dim)


# --- names -----------------------------------------------------------------------------------


def _name_groups(
    session: Session,
    records: Sequence[ImageRecord],
    vectors: HalfRows,
    groups: IdArray,
    naming: NamingOptions,
    title: Callable[[Topic], str],
) -> list[Topic]:
    """Return groups of images, the group of each by its number (n,), with names and titles."""
    made: list[Topic] = []
    if records:
        head = _vocabulary_head(session, naming.vocabulary)
        names = choose_distinct_names(name_scores(vectors, groups, head.vectors), head.labels)
        apart = measure_separations(vectors, groups, seed=naming.seed)
        order, scores = rank_typical(vectors, groups)
        ends = np.cumsum(np.bincount(groups)).tolist()
        places = centres([record.facts for record in records], groups)
        start = 0
        for number, end in enumerate(ends):
            members = [records[row] for row in order[start:end].tolist()]
            hits = zip(members, scores[start:end].tolist(), strict=True)
            images = tuple(Hit(record.path, score, record) for record, score in hits)
            times, place = span(record.facts for record in members), places[number]
            made.append(Topic("", names[number], images, apart[number], *times, *place))
            start = end
    topics = _add_titles(made, [title(topic) for topic in made])
    if naming.save:
        _save_topics(session, topics)
    return topics


def _vocabulary_head(session: Session, phrases: Head | Labels | StrPath | None) -> Head:
    if isinstance(phrases, Head):
        phrases.check(session.info)
        return phrases
    if phrases is None:
        return _bundled_vocabulary(session)
    if isinstance(phrases, str | os.PathLike):
        phrases = topic_phrases(as_path(phrases, "vocabulary"))
    return make_head(session, phrases, templates=["{}"], on_warning=warn)


def _bundled_vocabulary(session: Session) -> Head:
    """Return the head of the phrases that come with clipsearch, stored in the library."""
    fingerprint = session.info.fingerprint
    key = hashlib.sha256(fingerprint.encode() + TOPIC_VOCABULARY.read_bytes()).hexdigest()[:16]
    file = session.path / HEADS / f"vocabulary-{key}.json"
    if file.is_file():  # no pipe, which would be waited for
        with suppress(BadLabelFile):  # damaged
            return Head.load(file)
    reader = ProgressReader(session.encoder, "vocabulary", session.on_progress)
    head = Head.from_prompts(reader, make_prompts(topic_phrases(), ["{}"]))
    with suppress(OSError):  # a library that may only be read works too: made each time
        file.parent.mkdir(exist_ok=True)
        head.save(file)
    return head


def _save_topics(session: Session, topics: Sequence[Topic]) -> None:
    rows = {
        hit.record.content_id: (topic.title, hit.score)
        for topic in topics
        for hit in topic.images
        if hit.record
    }
    session.catalog.save_labels(
        [(content, title, TOPIC_SOURCE, score) for content, (title, score) in rows.items()]
    )


def _count(count: int | str) -> int | None:
    if count == "auto":
        return None
    if isinstance(count, bool) or not isinstance(count, int):
        raise BadGrouping(f"{count!r} is no number of topics: give a number, or auto.")
    return count


def _is_weak(topic: Topic, chance: float) -> bool:
    return topic.separation is not None and topic.separation <= chance


def _by_name(topic: Topic) -> str:
    return topic.names[0]


def _by_event(topic: Topic) -> str:
    return event_title(topic.start, topic.end, topic.lat, topic.lon, topic.names[0])


def _add_titles(topics: Sequence[Topic], titles: Sequence[str]) -> list[Topic]:
    """Give topics their titles; those that would be the same are numbered: `beach`, `beach (2)`."""
    seen: Counter[str] = Counter()
    out = []
    for topic, title in zip(topics, titles, strict=True):
        seen[title] += 1
        number = f" ({seen[title]})" if seen[title] > 1 else ""
        out.append(replace(topic, title=title + number))
    return out
