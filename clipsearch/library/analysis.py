"""`LibraryAnalysis`: learn, measure and explore. Users meet it as `Library`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from clipsearch._util import warn
from clipsearch.library import parts
from clipsearch.library.locate import select
from clipsearch.library.session import Filter
from clipsearch.library.transfer import LibraryTransfer
from clipsearch.types import Labels, OnProgress, Results, StrPath, as_path, ignore_progress


class LibraryAnalysis(LibraryTransfer):
    """Heads learned from examples, evaluation, calibration, topics, events and duplicates."""

    # --- learning and measuring ------------------------------------------------------------

    def learn(
        self,
        examples: parts.Examples,
        *,
        labels: Labels | None = None,
        templates: str | Sequence[str] | None = None,
        shots: int | None = None,
        method: parts.MethodChoice = "auto",
        curve: bool = True,
        seed: int = 0,
    ) -> parts.FewShotResult:
        """Learn a head from prompts and labelled images, and measure what the images bring.

        The probabilities of the head are fitted to the images tested; the library stores that.

        Parameters
        ----------
        examples
            A folder with a folder per label, a CSV `path,label`, a mapping of paths to labels, or
            "saved", the labels saved in the library.
        labels, templates
            As for `head`; by default the labels are those of the examples.
        shots, method, curve, seed
            See `clipsearch.library.learn.LearnOptions`.

        Returns
        -------
        The head, and how well it did on images that it was not learned from.

        Raises
        ------
        TooFewExamples, BadTruthFile, TooFewLabels, BadTemplate

        Examples
        --------
        >>> result = library.learn("birds/")
        >>> result.few_shot.value, result.zero_shot.value
        >>> library.classify(result.head)
        """
        options = parts.learn.LearnOptions(shots, method, curve, seed)
        return parts.learn.learn_head(self._session, examples, labels, templates, options)

    def suggest(
        self,
        n: int = 20,
        *,
        labels: Labels | parts.Head,
        examples: parts.Examples | None = None,
        where: Filter | None = None,
        under: StrPath | None = None,
        seed: int = 0,
    ) -> Results[parts.Prediction]:
        """Return the `n` images whose label would help a head most, the least certain first.

        Parameters
        ----------
        n
            The largest number of images.
        labels
            What the images are to be told apart by, words or a head.
        examples
            Left out, like images with a saved label that is not a guess of `classify`.
        where, under
            As for `search`.
        seed
            Of the order of images that are equally uncertain.

        Returns
        -------
        Predictions, the least certain first.

        Raises
        ------
        TooFewLabels, BadFilter
        """
        return parts.learn.suggest_images(
            self._session,
            n,
            labels
            if isinstance(labels, parts.Head)
            else parts.classify.make_head(self._session, labels, on_warning=warn),
            examples=examples,
            selection=select(self._session, where, under),
            seed=seed,
        )

    def evaluate(
        self,
        truth: StrPath | parts.GroundTruth,
        *,
        models: str | Sequence[str] = (),
        labels: Labels | None = None,
        templates: str | Sequence[str] | None = None,
        head: parts.Head | None = None,
        truncate: bool = False,
        open_set: bool = False,
        layout: parts.Layout | None = None,
        images: StrPath | None = None,
        mistakes: int = 12,
        resamples: int = 1000,
        seed: int = 0,
    ) -> parts.Evaluation:
        """Compare what models say of images with the ground truth: labels, captions or both.

        Parameters
        ----------
        truth, layout, images
            See `read_ground_truth`; the images need not be in the library.
        models
            Some of the library's; by default the current one.
        labels, templates, head, truncate, open_set, mistakes, resamples, seed
            See `clipsearch.library.evaluate.EvaluationOptions`.

        Returns
        -------
        The figures of each model, with their confidence intervals.

        Raises
        ------
        BadTruthFile, TooFewLabels, UnknownModel, ModelMismatch, BadTemplate
        """
        options = parts.evaluate.EvaluationOptions(
            labels, templates, head, truncate, open_set, mistakes, resamples, seed
        )
        if not isinstance(truth, parts.GroundTruth):
            truth = parts.ground_truth.read_ground_truth(
                as_path(truth, "truth"), layout=layout, images=images
            )
        return parts.evaluate.evaluate_models(self._session, truth, models, options)

    def calibrate(
        self,
        truth: StrPath | parts.GroundTruth | Sequence[parts.LabelAnswer],
        *,
        head: parts.Head | None = None,
        formula: str = "cohort",
        templates: str | Sequence[str] | None = None,
        dry_run: bool = False,
        seed: int = 0,
    ) -> parts.Fitted:
        """Fit the probabilities of the current model to images whose labels are known.

        Parameters
        ----------
        truth
            See `read_ground_truth`: at least 20 images; the other labels of the file are the wrong
            cases. Or at least 10 answers to `calibration_questions`, for example `answers()`.
        head
            Fit those of this head alone, not of the model.
        formula, templates, dry_run, seed
            See `clipsearch.library.calibrate.CalibrationOptions`.

        Returns
        -------
        The calibration, and how reliable probabilities are before and after it; `classify` and
        `search` use it from then on.

        Raises
        ------
        BadTruthFile, TooFewExamples, ModelMismatch, BadTemplate
        """
        options = parts.calibrate.CalibrationOptions(formula, templates, dry_run, seed)
        if isinstance(truth, Sequence) and not isinstance(truth, str):
            return parts.calibrate.calibrate_answers(self._session, truth, head, options)
        if not isinstance(truth, parts.GroundTruth):
            truth = parts.ground_truth.read_ground_truth(as_path(truth, "truth"))
        return parts.calibrate.calibrate_labels(self._session, truth, head, options)

    def calibration_questions(
        self,
        labels: str | Sequence[str] | parts.Head = (),
        n: int = 20,
        *,
        templates: str | Sequence[str] | None = None,
        where: Filter | None = None,
        under: StrPath | None = None,
        seed: int = 0,
    ) -> list[parts.LabelQuestion]:
        """Choose images and labels to ask somebody about, so that `calibrate` learns most.

        Parameters
        ----------
        labels, n, templates, seed
            See `clipsearch.library.calibrate.draw_questions`.
        where, under
            As for `search`.

        Returns
        -------
        Questions, each about another image, that `answers()` does not have yet.

        Examples
        --------
        >>> questions = library.calibration_questions(["cat", "dog"])
        >>> library.save_answers([one.answer(input(f"{one.path}: a {one.label}?") == "y")
        ...                       for one in questions])
        >>> library.calibrate(library.answers())
        """
        return parts.calibrate.draw_questions(
            self._session,
            [labels] if isinstance(labels, str) else labels,
            n,
            selection=select(self._session, where, under),
            templates=templates,
            seed=seed,
        )

    # --- exploring -------------------------------------------------------------------------

    def topics(
        self,
        count: int | Literal["auto"] = "auto",
        *,
        where: Filter | None = None,
        under: StrPath | None = None,
        vocabulary: parts.Head | Labels | StrPath | None = None,
        save: bool = False,
        seed: int = 0,
        on_progress: OnProgress | None = None,
    ) -> list[parts.Topic]:
        """Group images by what they show and name each group; the largest first.

        Parameters
        ----------
        count
            How many topics, at most one for each different image; "auto" chooses.
        vocabulary
            The phrases to name them with, as labels, a file of labels or a head; by default
            several hundred that come with clipsearch.
        save
            Write the title of its topic into the catalog as a label of each image.
        where, under, on_progress
            As for `search` and `index`.
        seed
            Of the random numbers of the grouping.

        Returns
        -------
        Topics, the largest first.

        Raises
        ------
        BadGrouping, BadFilter, BadLabelFile, ModelMismatch
        """
        naming = parts.explore.NamingOptions(vocabulary, save, seed)
        return parts.explore.group_by_topic(
            self._session,
            select(self._session, where, under),
            count,
            naming,
            on_progress=on_progress or ignore_progress,
        )

    def events(
        self,
        *,
        where: Filter | None = None,
        under: StrPath | None = None,
        gap_hours: float = 6.0,
        kilometres: float = 50.0,
        vocabulary: parts.Head | Labels | StrPath | None = None,
        save: bool = False,
        seed: int = 0,
    ) -> list[parts.Topic]:
        """Group images by when and where they were taken; the earliest first.

        Images that do not say when they were taken come last, by themselves.

        Parameters
        ----------
        gap_hours, kilometres
            A longer pause, or a longer way from image to image, begins a new event.
        where, under, vocabulary, save, seed
            As for `topics`.

        Returns
        -------
        Events, the earliest first.

        Raises
        ------
        BadFilter, BadLabelFile, ModelMismatch
        """
        naming = parts.explore.NamingOptions(vocabulary, save, seed)
        return parts.explore.group_by_event(
            self._session,
            select(self._session, where, under),
            naming,
            gap_hours=gap_hours,
            kilometres=kilometres,
        )

    def dupes(
        self,
        tier: parts.Tier | Literal["all"] = "all",
        *,
        where: Filter | None = None,
        under: StrPath | None = None,
        min_score: float = 0.85,
        on_progress: OnProgress | None = None,
    ) -> list[parts.Duplicates]:
        """Find files that show the same, and say which copy of them is the best; nothing is deleted.

        Parameters
        ----------
        tier
            "same-bytes"; "same-image", in another format, size or quality (pixels are compared);
            "same-scene", near in meaning and alike in layout and colour.
        min_score
            The smallest cosine of the same scene.
        where, under, on_progress
            As for `topics`.

        Returns
        -------
        Groups by tier, and in it those first that would save most.

        Raises
        ------
        BadGrouping, BadFilter
        """
        return parts.explore.find_duplicates(
            self._session,
            select(self._session, where, under),
            tier,
            min_score,
            on_progress=on_progress or ignore_progress,
        )
