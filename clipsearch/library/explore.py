"""See what is in a library: topics, events and duplicates."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

import numpy as np

from clipsearch.errors import BadGrouping, BadLabelFile
from clipsearch.grouping.duplicates import SCENE_SCORE, TIERS, Duplicates, Tier
from clipsearch.grouping.events import GAP_HOURS, KILOMETRES, centre, event_title, events, span
from clipsearch.grouping.near_pairs import find
from clipsearch.grouping.topics import (
    VOCABULARY,
    Topic,
    clusters,
    distinct_names,
    name_scores,
    separations,
    typical,
    vocabulary,
)
from clipsearch.heads.head import Head
from clipsearch.library.classify import Classifying, Labels
from clipsearch.library.session import StrPath, Where
from clipsearch.types import Embeddings, Hit, Progress

Watch = Callable[[Progress], None]

TOPIC_SOURCE = "topics"
HEADS = "heads"
"""The folder in a library of heads that can be made anew: encoding all phrases takes a while."""


class Exploring(Classifying):
    """Topics, events and duplicates of a library."""

    def topics(
        self,
        count: int | Literal["auto"] = "auto",
        *,
        where: Where | None = None,
        under: StrPath | None = None,
        vocabulary: Head | Labels | StrPath | None = None,
        save: bool = False,
        seed: int = 0,
        on_progress: Watch | None = None,
    ) -> list[Topic]:
        """Group the images by what they show and name each group; the largest first.

        count: how many topics, at most one for each different image; "auto" chooses (see
        `clipsearch.grouping.topics.clusters`). vocabulary: the phrases to name them with, as labels, a file
        of labels or a head; by default several hundred that come with clipsearch. save: write the
        title of its topic into the catalog as a label of each image, in place of the one before.
        Raises BadGrouping, BadFilter, BadLabelFile, ModelMismatch.
        """
        found = self.embeddings(where=where, under=under)
        wanted = _count(count)
        groups = clusters(found.vectors, wanted, seed=seed, on_progress=on_progress or _quiet)
        made = self._topics(found, groups, vocabulary, seed=seed, titled=_by_name)
        if save:
            self._save_topics(made)
        return made

    def events(
        self,
        *,
        where: Where | None = None,
        under: StrPath | None = None,
        gap_hours: float = GAP_HOURS,
        kilometres: float = KILOMETRES,
        vocabulary: Head | Labels | StrPath | None = None,
        save: bool = False,
        seed: int = 0,
    ) -> list[Topic]:
        """Group the images by when and where they were taken; the earliest first.

        A new event begins after a gap in time or a jump in place (see `clipsearch.grouping.events.events`);
        images that do not say when they were taken come last, by themselves. The rest as in
        `topics`.
        """
        found = self.embeddings(where=where, under=under)
        facts = [record.facts for record in found.records]
        groups = events(facts, gap_hours=gap_hours, kilometres=kilometres)
        made = self._topics(found, groups, vocabulary, seed=seed, titled=_by_event)
        if save:
            self._save_topics(made)
        return made

    def dupes(
        self,
        tier: Tier | Literal["all"] = "all",
        *,
        where: Where | None = None,
        under: StrPath | None = None,
        min_score: float = SCENE_SCORE,
        on_progress: Watch | None = None,
    ) -> list[Duplicates]:
        """Find files that show the same, and say which copy of them is the best.

        Three tiers: "same-bytes"; "same-image", in another format, size or quality (pixels are
        compared); "same-scene", near in meaning (cosine of `min_score` and up) and alike in
        layout and colour. By tier, and in it those first that would save most. Nothing is
        deleted. Raises BadGrouping for an unknown tier, BadFilter.
        """
        if tier != "all" and tier not in TIERS:
            raise BadGrouping(f"there is no tier {tier!r}: choose from {', '.join(TIERS)}, all.")
        found = self.embeddings(where=where, under=under)
        tiers = TIERS if tier == "all" else (tier,)
        return find(
            found.records,
            found.vectors,
            tiers=tiers,
            scene_score=min_score,
            on_progress=on_progress or _quiet,
        )

    # --- inside ------------------------------------------------------------------------------

    def _topics(
        self,
        found: Embeddings,
        groups: np.ndarray,
        phrases: Head | Labels | StrPath | None,
        *,
        seed: int,
        titled: Callable[[Topic], str],
    ) -> list[Topic]:
        if not len(found):
            return []
        head = self._vocabulary(phrases)
        scores = name_scores(found.vectors, groups, head.vectors)
        apart = separations(found.vectors, groups, seed=seed)
        names = distinct_names(scores, head.labels)
        made = [
            _topic(found, np.flatnonzero(groups == number), names[number], apart[number])
            for number in range(len(names))
        ]
        return _titled(made, [titled(topic) for topic in made])

    def _vocabulary(self, phrases: Head | Labels | StrPath | None) -> Head:
        if isinstance(phrases, Head):
            phrases.check(self._model()[1])
            return phrases
        if phrases is None:
            return self._bundled_vocabulary()
        if isinstance(phrases, str | os.PathLike):
            phrases = vocabulary(phrases)
        return self.head(phrases, templates=["{}"])

    def _bundled_vocabulary(self) -> Head:
        """Return the head of the phrases that come with clipsearch, kept in the library."""
        _, info = self._model()
        key = hashlib.sha256(info.fingerprint.encode() + VOCABULARY.read_bytes()).hexdigest()[:16]
        file = self.path / HEADS / f"vocabulary-{key}.json"
        with suppress(BadLabelFile):  # not made yet, or damaged
            return Head.load(file)
        head = self.head(vocabulary(), templates=["{}"])
        with suppress(OSError):  # a library that may only be read works too, each time anew
            file.parent.mkdir(exist_ok=True)
            head.save(file)
        return head

    def _save_topics(self, topics: Sequence[Topic]) -> None:
        rows = {
            hit.record.content_id: (topic.title, hit.score)
            for topic in topics
            for hit in topic.images
            if hit.record
        }
        self._catalog.save_labels(
            [(content, title, TOPIC_SOURCE, score) for content, (title, score) in rows.items()]
        )


def _quiet(progress: Progress) -> None:
    """Take a report of progress that nobody asked for."""


def _count(count: int | str) -> int | None:
    if count == "auto":
        return None
    if not isinstance(count, int):
        raise BadGrouping(f"{count!r} is no number of topics: give a number, or auto.")
    return count


def _topic(
    found: Embeddings, rows: np.ndarray, names: tuple[str, ...], separation: float | None
) -> Topic:
    order, scores = typical(found.vectors[rows])
    records = [found.records[row] for row in rows[order]]
    facts = [record.facts for record in records]
    (start, end), (lat, lon) = span(facts), centre(facts)
    return Topic(
        title="",
        names=names,
        images=tuple(
            Hit(record.path, score, record)
            for record, score in zip(records, scores.tolist(), strict=True)
        ),
        separation=separation,
        start=start,
        end=end,
        lat=lat,
        lon=lon,
    )


def _by_name(topic: Topic) -> str:
    return topic.names[0]


def _by_event(topic: Topic) -> str:
    return event_title(topic.start, topic.end, topic.lat, topic.lon, topic.names[0])


def _titled(topics: Sequence[Topic], titles: Sequence[str]) -> list[Topic]:
    """Give topics their titles; those that would be the same are numbered: `beach`, `beach (2)`."""
    seen: Counter[str] = Counter()
    out = []
    for topic, title in zip(topics, titles, strict=True):
        seen[title] += 1
        number = f" ({seen[title]})" if seen[title] > 1 else ""
        out.append(replace(topic, title=title + number))
    return out
