"""`Library`: everything that is asked of a library of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from clipsearch.library import parts
from clipsearch.library.open_library import OpenLibrary
from clipsearch.library.session import Filter, select
from clipsearch.text.encode import warn
from clipsearch.types import (
    HOLDS_FROM,
    ClassifyOptions,
    Hit,
    Labels,
    Mode,
    OnProgress,
    OnWarning,
    Paths,
    Prediction,
    Results,
    SearchOptions,
    StrPath,
    Term,
    Thresholds,
    ignore_progress,
)


class Library(OpenLibrary):
    """A searchable collection of images.

    In all methods `where` and `under` choose images: those that match a filter (see
    `clipsearch.filters`), and those that lie below a folder.

    Examples
    --------
    >>> with Library.open_or_create("index", model="mini") as library:
    ...     library.index("~/Pictures")
    ...     for hit in library.search("orange boy riding a blue horse", k=3):
    ...         print(hit.score, hit.path)
    """

    # --- searching -------------------------------------------------------------------------

    def search(
        self,
        query: parts.Query = (),
        *,
        images: StrPath | Term | Sequence[StrPath | Term] = (),
        exclude: str | Term | Sequence[str | Term] = (),
        label: str | None = None,
        k: int | None = 10,
        where: Filter | None = None,
        under: StrPath | None = None,
        min_score: float | None = None,
        relevant: bool = False,
        truncate: bool = False,
    ) -> Results[Hit]:
        """Find the `k` images nearest to words, images, a head or a vector; best first.

        Parameters
        ----------
        query
            Terms of the grammar in `clipsearch.heads.query` (`"2:horse"` counts double), a Head,
            or a vector (dim,).
        images
            Image files as further terms.
        exclude
            Texts to keep away from.
        label
            The label of the head to look for; by default the best of all.
        k, min_score, relevant, truncate
            See `SearchOptions`.
        where, under
            Applied before the search, so that `k` hits come back whenever `k` images match.

        Returns
        -------
        Hits, how many of all images searched are relevant, and warnings.

        Raises
        ------
        EmptyQuery, BadTerm, BadFilter, QueryError, ModelMismatch

        Examples
        --------
        >>> library.search("2:horse", exclude="rain", where="taken >= 2024", k=20)
        """
        terms = parts.query_heads.Terms(query, images, exclude)
        options = SearchOptions(k, select(where, under), min_score, relevant, truncate)
        head = parts.query_heads.query_head(self._session, terms, label=label, truncate=truncate)
        return parts.search.find_hits(self._session, head, options)

    def similar(
        self,
        path: StrPath,
        *,
        k: int | None = 10,
        where: Filter | None = None,
        under: StrPath | None = None,
        relevant: bool = False,
    ) -> Results[Hit]:
        """Find the images nearest to an image file, in the library or not; itself left out."""
        options = SearchOptions(k, select(where, under), relevant=relevant)
        return parts.search.find_similar(self._session, path, options)

    # --- classifying -----------------------------------------------------------------------

    def head(
        self,
        labels: Labels,
        *,
        templates: str | Sequence[str] | None = None,
        truncate: bool = False,
        on_warning: OnWarning = warn,
    ) -> parts.Head:
        """Make a zero-shot head of labels; a mapping gives each label its own prompts.

        Parameters
        ----------
        labels
            A prompt is a text or an image (`Term.image(path)`), also both in one label.
        templates
            Prompts with `{}` for labels without prompts; by default a small set.
        truncate
            Cut texts that are too long for the model instead of reading them in pieces.
        on_warning
            Is told of such texts; by default a Python warning is given.

        Raises
        ------
        TooFewLabels, BadTemplate, UnreadableImage
        """
        return parts.classify.make_head(
            self._session, labels, templates=templates, truncate=truncate, on_warning=on_warning
        )

    def classify(
        self,
        head: parts.Head | Labels,
        *,
        images: Paths | None = None,
        top: int | None = None,
        where: Filter | None = None,
        under: StrPath | None = None,
        mode: Mode = "open",
        threshold: Thresholds = HOLDS_FROM,
        min_probability: float | None = None,
        save: bool = False,
        truncate: bool = False,
    ) -> Results[Prediction]:
        """Label the images of the library, or image files; a prediction per file, by path.

        Parameters
        ----------
        head
            A head, or labels to make one of.
        images
            Files and folders to label instead of the library.
        top, mode, threshold, min_probability
            See `ClassifyOptions`; how probabilities come about: `clipsearch.calibration`.
        save
            Write the labels that hold into the catalog.
        truncate
            As for `head`, which makes one of labels.

        Raises
        ------
        TooFewLabels, UnknownLabel, BadFilter, QueryError, ModelMismatch

        Examples
        --------
        >>> library.classify(["cat", "dog"], images="scene.webp")[0].label
        'dog'
        """
        options = ClassifyOptions(select(where, under), mode, threshold, top, min_probability)
        notes: list[str] = []
        if not isinstance(head, parts.Head):
            head = self.head(head, truncate=truncate, on_warning=notes.append)
        if images is not None:
            return parts.classify.predict_files(self._session, head, images, options).with_warnings(
                notes
            )
        found = parts.classify.predict_labels(self._session, head, options, save=save)
        return found.with_warnings(notes)

    def save_labels(self, predictions: Iterable[Prediction], *, source: str = "classify") -> int:
        """Write the labels that hold into the catalog, and return how many.

        The labels that the same source gave those images before are replaced.
        """
        return parts.classify.save_predictions(self._session, list(predictions), source=source)

    def explain(
        self,
        head: parts.Head | Labels,
        predictions: Iterable[Prediction],
        *,
        truncate: bool = False,
    ) -> list[parts.Explanation]:
        """Return how well the single prompts of each label of each prediction fit the image.

        Parameters
        ----------
        head
            What `classify` made the predictions with.
        predictions
            A warning tells of labels that are more than their prompts, as learned ones are.
        truncate
            Whether texts were cut for the head.
        """
        made = head if isinstance(head, parts.Head) else self.head(head)
        return parts.matrix.explain_predictions(self._session, made, predictions, truncate=truncate)

    def matrix(
        self,
        images: Paths | None,
        texts: parts.Head | Labels,
        *,
        templates: str | Sequence[str] | None = None,
        query: parts.Query | None = None,
        k: int = 8,
        where: Filter | None = None,
        under: StrPath | None = None,
        truncate: bool = False,
    ) -> parts.Matrix:
        """Compare images with texts, each with each.

        Parameters
        ----------
        images
            Files and folders, in the library or not. None compares images of the library: the `k`
            that a `query` finds, best first, or those that `where` and `under` choose.
        texts
            As they are, or filled into `templates`; a mapping gives labels with prompts of their
            own, a Head is taken as it is.
        truncate
            As for `head`.

        Returns
        -------
        A matrix; what cannot be read is listed in its `failures`.

        Raises
        ------
        EmptyQuery
            There is no image to compare.
        """
        compared = parts.matrix.Compared(images, query, k, select(where, under))
        head = parts.matrix.head_of_texts(
            self._session, texts, templates, truncate=truncate, on_warning=warn
        )
        return parts.matrix.compare_images(self._session, compared, head, on_warning=warn)

    # --- learning and measuring ------------------------------------------------------------

    def learn(
        self,
        examples: parts.Examples,
        *,
        labels: Labels | None = None,
        templates: str | Sequence[str] | None = None,
        shots: int | None = None,
        method: parts.Wanted = "auto",
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
    ) -> Results[Prediction]:
        """Return the `n` images whose label would teach a head most, the least certain first.

        Parameters
        ----------
        labels
            What the images are to be told apart by, words or a head.
        examples
            Left out, like images with a saved label that is not a guess of `classify`.

        Raises
        ------
        TooFewLabels, BadFilter
        """
        return parts.learn.suggest_images(
            self._session,
            n,
            labels if isinstance(labels, parts.Head) else self.head(labels),
            examples=examples,
            selection=select(where, under),
            seed=seed,
        )

    def evaluate(
        self,
        truth: StrPath | parts.Truth,
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
            See `read_truth`; the images need not be in the library.
        models
            Some of the library's; by default the current one.
        labels, templates, head, truncate, open_set, mistakes, resamples, seed
            See `clipsearch.library.evaluate.EvaluationOptions`.

        Raises
        ------
        BadTruthFile, TooFewLabels, UnknownModel, ModelMismatch, BadTemplate
        """
        options = parts.evaluate.EvaluationOptions(
            labels, templates, head, truncate, open_set, mistakes, resamples, seed
        )
        if not isinstance(truth, parts.Truth):
            truth = parts.ground_truth.read_truth(truth, layout=layout, images=images)
        return parts.evaluate.evaluate_models(self._session, truth, models, options)

    def calibrate(
        self,
        truth: StrPath | parts.Truth,
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
            See `read_truth`; the other labels of the file are the wrong cases.
        head
            Fit those of this head alone, not of the model.
        formula
            One of `clipsearch.calibration.FORMULAS`.
        templates
            As for `head`.
        dry_run
            Measure, and store nothing; else `classify` and `search` use the result from then on.

        Raises
        ------
        BadTruthFile, TooFewExamples, ModelMismatch, BadTemplate
        """
        known = truth if isinstance(truth, parts.Truth) else parts.ground_truth.read_truth(truth)
        return parts.evaluate.calibrate_labels(
            self._session,
            known,
            head,
            formula_name=formula,
            templates=templates,
            dry_run=dry_run,
            seed=seed,
        )

    def calibration(self, head: parts.Head | None = None) -> parts.Calibration:
        """Return the calibration in use for a head: its own, else the model's, else the shipped."""
        return parts.label_scores.calibration_of(self._session, head)

    def reset_calibration(self, head: parts.Head | None = None) -> bool:
        """Drop what `calibrate` stored for a head, or the model; return whether there was any."""
        return parts.evaluate.drop_calibration(self._session, head)

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

        Raises
        ------
        BadGrouping, BadFilter, BadLabelFile, ModelMismatch
        """
        naming = parts.explore.NamingOptions(vocabulary, save, seed)
        return parts.explore.group_by_topic(
            self._session,
            select(where, under),
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
        vocabulary, save
            As for `topics`.
        """
        naming = parts.explore.NamingOptions(vocabulary, save, seed)
        return parts.explore.group_by_event(
            self._session,
            select(where, under),
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

        Returns
        -------
        Groups by tier, and in it those first that would save most.

        Raises
        ------
        BadGrouping, BadFilter
        """
        return parts.explore.find_duplicates(
            self._session,
            select(where, under),
            tier,
            min_score,
            on_progress=on_progress or ignore_progress,
        )
