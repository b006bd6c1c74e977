"""A library: a folder that images are indexed into, searched and classified in.

Here `Library` searches, classifies and compares; it inherits everything else that a library does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from clipsearch._util import warn
from clipsearch.library import parts
from clipsearch.library.analysis import LibraryAnalysis
from clipsearch.library.locate import ENVIRONMENT, select
from clipsearch.library.session import Filter
from clipsearch.types import (
    HOLDS_FROM,
    Hit,
    Labels,
    Mode,
    OnWarning,
    Paths,
    Results,
    SearchOptions,
    StrPath,
    Term,
    Thresholds,
)

__all__ = ["ENVIRONMENT", "Library"]


class Library(LibraryAnalysis):
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
        missing: bool = False,
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
        k, min_score, relevant, truncate, missing
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
        chosen = select(self._session, where, under)
        options = SearchOptions(k, chosen, min_score, relevant, truncate, missing)
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
        missing: bool = False,
    ) -> Results[Hit]:
        """Find the images nearest to an image file, in the library or not; itself left out.

        Parameters
        ----------
        path
            The file.
        k, where, under, relevant, missing
            As for `search`.

        Returns
        -------
        Hits, best first.

        Raises
        ------
        UnreadableImage, BadFilter, QueryError, ModelMismatch
        """
        chosen = select(self._session, where, under)
        options = SearchOptions(k, chosen, relevant=relevant, missing=missing)
        return parts.search.find_similar(self._session, path, options)

    # --- reading in pages ------------------------------------------------------------------

    def pages(
        self, *, where: Filter | None = None, under: StrPath | None = None, vectors: bool = False
    ) -> parts.ImagePages:
        """Return the images of the library, by path, read in pages while they are iterated over.

        What `records` and `embeddings` hold in memory as a whole.

        Parameters
        ----------
        where, under
            Only images that match a filter, or lie below a folder.
        vectors
            The pages have the stored vector of each image.

        Returns
        -------
        An iterable of pages.
        """
        return parts.collection.image_pages(
            self._session, select(self._session, where, under), vectors=vectors
        )

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

        Returns
        -------
        The head, with a row for each prompt.

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
        inductive: bool = False,
        save: bool = False,
        truncate: bool = False,
    ) -> Results[parts.Prediction]:
        """Label the images of the library, or image files; a prediction per file, by path.

        Parameters
        ----------
        head
            A head, or labels to make one of.
        images
            Files and folders to label instead of the library.
        top, mode, threshold, min_probability, inductive
            See `ClassifyOptions`; how probabilities come about: `clipsearch.calibration`.
        save
            Write the labels that hold into the catalog.
        truncate
            As for `head`, which makes one of labels.
        where, under
            As for `search`.

        Returns
        -------
        Predictions, by path, and warnings.

        Raises
        ------
        TooFewLabels, UnknownLabel, BadFilter, QueryError, ModelMismatch

        Examples
        --------
        >>> library.classify(["cat", "dog"], images="scene.webp")[0].label
        'dog'
        """
        options = parts.ClassifyOptions(
            select(self._session, where, under), mode, threshold, top, min_probability, inductive
        )
        notes: list[str] = []
        if not isinstance(head, parts.Head):
            head = self.head(head, truncate=truncate, on_warning=notes.append)
        if images is not None:
            return parts.classify.predict_files(self._session, head, images, options).with_warnings(
                notes
            )
        found = parts.classify.predict_labels(self._session, head, options, save=save)
        return found.with_warnings(notes)

    def save_labels(
        self, predictions: Iterable[parts.Prediction], *, source: str = "classify"
    ) -> int:
        """Write the labels that hold into the catalog.

        Parameters
        ----------
        predictions
            Of images of the library; others are left out.
        source
            Who gives the labels: those that it gave these images before are replaced.

        Returns
        -------
        How many were written.
        """
        return parts.classify.save_predictions(self._session, list(predictions), source=source)

    def explain(
        self,
        head: parts.Head | Labels,
        predictions: Iterable[parts.Prediction],
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

        Returns
        -------
        An explanation for each prediction.
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
            Files and folders, in the library or not; None compares images of the library.
        texts
            A mapping gives labels with prompts of their own, a Head is taken as it is.
        templates, truncate
            As for `head`; without templates texts are taken as they are.
        query, k, where, under
            Which images of the library: the `k` that a query finds, best first, or all chosen.

        Returns
        -------
        A matrix; what cannot be read is listed in its `failures`.

        Raises
        ------
        EmptyQuery
            There is no image to compare.
        """
        compared = parts.matrix.Compared(images, query, k, select(self._session, where, under))
        head = parts.matrix.head_of_texts(
            self._session, texts, templates, truncate=truncate, on_warning=warn
        )
        return parts.matrix.compare_images(self._session, compared, head, on_warning=warn)
