"""Learn heads from labelled images, and say which images to label."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from clipsearch.calibration import fit as fitting
from clipsearch.calibration import to_json
from clipsearch.calibration.background import version
from clipsearch.calibration.fit import Fitted
from clipsearch.calibration.formulas import Calibration
from clipsearch.errors import LibraryError, TooFewExamples, TooFewLabels
from clipsearch.evaluation.ground_truth import read_truth
from clipsearch.fewshot.choose import Wanted
from clipsearch.fewshot.suggest import margins, suggest
from clipsearch.fewshot.task import Task, distinct
from clipsearch.heads.head import Head
from clipsearch.library.classify import LABEL_SOURCE, Classifying, Labels
from clipsearch.library.evaluate import spoken
from clipsearch.library.few_shot_result import Lesson, teach
from clipsearch.library.judging import calibration_key
from clipsearch.library.session import StrPath, Where, expanded
from clipsearch.types import NONE, LabelScore, Prediction, Results, Term

Examples = StrPath | Mapping[StrPath, str]
SAVED = "saved"
"""As examples: the labels saved in the library."""


class Learning(Classifying):
    """Few-shot learning on stored vectors."""

    def learn(
        self,
        examples: Examples,
        *,
        labels: Labels | None = None,
        templates: Sequence[str] | None = None,
        shots: int | None = None,
        method: Wanted = "auto",
        curve: bool = True,
        seed: int = 0,
    ) -> Lesson:
        """Learn a head from prompts and labelled images, and measure what the images bring.

        examples: a folder with one folder a label, a CSV `path,label`, a mapping of paths to labels,
        or "saved", the labels saved in the library. labels, templates: as of `head`; by default
        the labels are those of the examples, and images of other labels are left out. shots:
        learn from so many images a label at most, and test with the others. method: `auto` is
        the one that cross-validation prefers. curve: also learn from 1, 2, 4, 8 and 16 images a
        label. The head's probabilities are fitted to the images tested, and this library keeps
        that. Raises TooFewExamples, BadTruthFile, TooFewLabels, BadTemplate.

        >>> lesson = library.learn("birds/")
        >>> lesson.few_shot.value, lesson.zero_shot.value
        >>> library.classify(lesson.head)
        """
        if shots is not None and shots < 1:
            raise TooFewExamples(f"nothing is learned from {shots} images a label.")
        warned: list[str] = []
        given = self._examples(examples, warned)
        if not given:
            raise TooFewExamples(f"{examples}: no image with one label, so nothing to learn from.")
        named = labels or spoken(sorted(set(given.values())), templates)
        head = self.head(named, templates=templates, on_warning=warned.append)
        task = self._task(head, given, warned)
        lesson = teach(task, head, method, shots=shots, curve=curve, seed=seed)
        return replace(
            lesson, calibration=self._calibrated(lesson, task, warned), warnings=tuple(warned)
        )

    def suggest(
        self,
        n: int = 20,
        *,
        labels: Labels | Head,
        examples: Examples | None = None,
        where: Where | None = None,
        under: StrPath | None = None,
        seed: int = 0,
    ) -> Results[Prediction]:
        """Return the `n` images whose label would teach a head most, the least certain first.

        labels: what they are to be told apart by, words or a head. Left out are `examples`, and what
        has a saved label that is not a guess of `classify`. Raises TooFewLabels, BadFilter.
        """
        head = labels if isinstance(labels, Head) else self.head(labels)
        head.check(self._model()[1])
        if len(head.labels) < 2:
            raise TooFewLabels("suggestions need two labels at least, to be undecided between.")
        known = set() if examples is None else set(self._examples(examples, []))
        sure = {content for content, _, source in self._catalog.saved_labels() if _is_sure(source)}
        found = self.embeddings(where=where, under=under)
        asked = np.array(
            [r.path not in known and r.content_id not in sure for r in found.records], dtype=bool
        )
        records = [record for record, wanted in zip(found.records, asked, strict=True) if wanted]
        vectors = found.vectors[asked]
        scores = head.scores(vectors)
        chosen = suggest(vectors, margins(scores, head.logit_scale), n, seed=seed)
        predictions = (
            Prediction(records[i].path, _ordered(head, scores[i]), records[i])
            for i in chosen.tolist()
        )
        return Results(tuple(predictions), title="label these next")

    def _calibrated(self, lesson: Lesson, task: Task, warned: list[str]) -> Fitted | None:
        """Fit the probabilities of a learned head, and keep that; None with too few images.

        A head that moved gives other cosines than its text did. How high they are for images that
        it did not learn from is what cross-validation has seen.
        """
        trial = lesson.trial
        if trial is None:
            return None
        fingerprint = lesson.head.fingerprint
        own = np.eye(len(lesson.head.labels), dtype=bool)[trial.truth]
        try:
            found = fitting.fit(
                self.standings(lesson.head, trial.scores, task.vectors[trial.which]),
                own,
                lesson.head.labels,
                before=Calibration.of_model(fingerprint),
                background=version(),
            )
        except TooFewExamples:
            return None
        try:
            key = calibration_key(fingerprint, lesson.head)
            self._catalog.set_meta(key, to_json(found.calibration))
        except LibraryError as error:  # the head is good all the same
            warned.append(f"the probabilities of the head could not be kept: {error}")
        return found

    # --- examples ----------------------------------------------------------------------------

    def _examples(self, examples: Examples, warned: list[str]) -> dict[str, str]:
        """Return path -> label; what is no example of one label is left out, with a warning."""
        found: Mapping[str, Sequence[str]]
        if isinstance(examples, Mapping):
            found = {os.path.abspath(expanded(p)): (label,) for p, label in examples.items()}
        elif examples == SAVED:
            found = self._saved(warned)
        else:
            truth = read_truth(examples)
            warned += truth.warnings
            if not truth.labels:
                raise TooFewExamples(f"{examples} has captions, not labels: learn needs labels.")
            found = truth.labels
        # What `classify` says where no label holds is no label to learn.
        found = {path: labels for path, labels in found.items() if NONE not in labels}
        several = [path for path, labels in found.items() if len(labels) > 1]
        _warn(warned, several, "with several labels are left out")
        return {path: labels[0] for path, labels in found.items() if len(labels) == 1}

    def _saved(self, warned: list[str]) -> dict[str, list[str]]:
        """Return path -> saved labels; where somebody said better, the guesses do not count."""
        said: dict[int, dict[str, None]] = {}
        guessed: dict[int, dict[str, None]] = {}
        for content, name, source in self._catalog.saved_labels():
            (said if _is_sure(source) else guessed).setdefault(content, {})[name] = None
        if not (said or guessed):
            raise TooFewExamples(
                "the library has no saved labels: give examples as a folder or a CSV, "
                "or save labels with `clipsearch classify --save`."
            )
        if mere := guessed.keys() - said.keys():
            warned.append(
                f"{len(mere):,} labels are guesses that `classify --save` kept. A head that learns "
                "from its own guesses learns its own mistakes, and measures itself against them: "
                "look through them first."
            )
        kept = {**guessed, **said}
        records = self._catalog.records()
        return {r.path: list(kept[r.content_id]) for r in records if r.content_id in kept}

    def _task(self, head: Head, given: Mapping[str, str], warned: list[str]) -> Task:
        """Return the vectors of the examples with their labels as numbers. Raises TooFewExamples."""
        numbers = {label: j for j, label in enumerate(head.labels)}
        strange = Counter(label for label in given.values() if label not in numbers)
        if strange:
            names = ", ".join(map(repr, sorted(strange)[:5])) + ("..." if len(strange) > 5 else "")
            warned.append(f"{strange.total():,} images of other labels are left out: {names}.")
        # An image that a label is described by is in its row already.
        own = {p.value for ps in head.prompts for p in ps if isinstance(p, Term)}
        wanted = [p for p, label in given.items() if label in numbers and p not in own]
        paths, vectors, failures = self.embed(wanted)
        _warn(warned, [f"{f.path} ({f.reason})" for f in failures], "cannot be read")
        owners = np.array([numbers[given[path]] for path in paths], dtype=np.int64)
        kept, unclear = distinct(vectors, owners)
        if unclear:
            warned.append(f"{unclear:,} images are there with two labels and are left out.")
        if len(np.unique(owners[kept])) < 2:
            raise TooFewExamples(
                "examples are needed of two labels at least: add images of something else, "
                "if only under a label such as `other`."
            )
        return Task(vectors[kept], owners[kept], head.vectors, head.logit_scale)


def _is_sure(source: str) -> bool:
    """Say whether labels of this source were given, rather than guessed."""
    return source != LABEL_SOURCE


def _ordered(head: Head, scores: np.ndarray) -> tuple[LabelScore, ...]:
    """Return the labels of one image, best first; they share all probability among them."""
    odds = np.exp(head.logit_scale * (scores - scores.max()).astype(np.float64))
    shares = odds / odds.sum()
    order = np.argsort(-scores, kind="stable").tolist()
    return tuple(LabelScore(head.labels[j], float(shares[j]), float(scores[j])) for j in order)


def _warn(warned: list[str], things: Sequence[str], what: str) -> None:
    if things:
        more = f" and {len(things) - 1:,} more" if len(things) > 1 else ""
        warned.append(f"{things[0]}{more}: {what}.")
