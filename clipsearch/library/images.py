"""`LibraryImages`: the images of a library, and its upkeep. Users meet it as `Library`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clipsearch._util.arrays import FloatArray
from clipsearch.library import parts
from clipsearch.library.locate import known_path, select
from clipsearch.library.open_library import OpenLibrary
from clipsearch.library.session import Filter
from clipsearch.types import (
    Embeddings,
    ImageRecord,
    OnProgress,
    Paths,
    StrPath,
    ignore_progress,
)
from clipsearch.types.options import as_texts


class LibraryImages(OpenLibrary):
    """Adding images, reading their records, and looking after catalog and index."""

    # --- images ----------------------------------------------------------------------------

    def index(
        self,
        paths: Paths,
        *,
        model: str | None = None,
        exclude: str | Sequence[str] = (),
        hidden: bool = False,
        dry_run: bool = False,
        retry_failed: bool = False,
        fast: bool = False,
        engine: str = "auto",
        precision: str = "auto",
        batch_size: int = 32,
        workers: int | None = None,
        memory: int | None = None,
        default_ignores: bool = True,
        moved: Mapping[str, str] | None = None,
        on_moved: Callable[[parts.MovedFolder], bool] | None = None,
        on_progress: OnProgress | None = None,
    ) -> parts.IndexReport:
        """Add images, and bring the library up to date with files and folders.

        An unchanged file costs a stat; equal bytes are embedded once; files gone from a folder
        that could be read are forgotten. One bad file never raises: see `IndexReport.failures`.

        Parameters
        ----------
        paths
            A file or a folder, or several.
        model
            Embed with this one, beside the current one.
        exclude, hidden, dry_run, retry_failed, fast, engine, precision, batch_size, workers
            See `IndexOptions`.
        memory, default_ignores
            See `IndexOptions`.
        moved
            Old folder -> new folder, to be taken as moved before, as `relocate` does; one that was
            taken so by a run before, as one that was interrupted, stays as it is.
        on_moved
            Is asked whether a folder was moved that seems to have been; by default it is not, and
            a warning says so.
        on_progress
            Is told of the progress.

        Returns
        -------
        What was added, removed and left as it was, and what failed.

        Raises
        ------
        LibraryLocked, UnknownModel, ModelUnavailable, QueryError
        """
        patterns = tuple(as_texts(exclude, "exclude"))
        options = parts.IndexOptions(
            patterns,
            *(hidden, dry_run, retry_failed, fast, engine, precision, batch_size, workers),
            memory=memory,
            default_ignores=default_ignores,
        )
        for old, new in (moved or {}).items():
            if not parts.relocate.was_relocated(self._session, old, new):
                self.relocate(old, new)
        return parts.collection.index_files(
            self._session,
            paths,
            options,
            model=model,
            on_progress=on_progress or ignore_progress,
            on_moved=on_moved,
        )

    def relocate(self, old: StrPath, new: StrPath) -> parts.MovedFolder:
        """Take a folder as moved: its images keep their vectors and labels under new paths.

        Parameters
        ----------
        old
            A folder that the library knows images of; it need not exist on this machine.
        new
            Where they are now.

        Returns
        -------
        How many images the library knew in the old folder, and how many are in the new one.

        Raises
        ------
        CannotRelocate, LibraryLocked
        """
        return parts.relocate.relocate_folder(self._session, old, new)

    def remove(self, paths: Paths) -> int:
        """Forget files, or all files below folders; the files themselves stay.

        Parameters
        ----------
        paths
            Files and folders.

        Returns
        -------
        How many files were forgotten.
        """
        return parts.collection.forget_files(self._session, paths)

    def record(self, path: StrPath) -> ImageRecord | None:
        """Return what the catalog knows of a file.

        Parameters
        ----------
        path
            The file.

        Returns
        -------
        Its record; None if the catalog does not know it.
        """
        return self._session.catalog.record(known_path(self._session, path))

    def records(
        self, *, where: Filter | None = None, under: StrPath | None = None
    ) -> list[ImageRecord]:
        """Return what the catalog knows of the images of the library, by path.

        Parameters
        ----------
        where, under
            Only images that match a filter, or lie below a folder.

        Returns
        -------
        A record for each image, by path.

        Raises
        ------
        BadFilter
        """
        chosen = select(self._session, where, under)
        return self._session.catalog.records(where=chosen.where, under=chosen.under)

    def embeddings(
        self,
        *,
        where: Filter | None = None,
        under: StrPath | None = None,
        paths: Paths | None = None,
    ) -> Embeddings:
        """Return images of the library, by path, each with its stored unit vector.

        Parameters
        ----------
        where, under
            Only images that match a filter, or lie below a folder.
        paths
            Only these files.

        Returns
        -------
        Records and unit vectors float32 (n, dim), by path.

        Raises
        ------
        BadFilter
        """
        return parts.collection.stored_embeddings(
            self._session, select(self._session, where, under), paths
        )

    def classify_pages(
        self,
        head: parts.Head,
        *,
        where: Filter | None = None,
        under: StrPath | None = None,
        save: bool = False,
        **options: Any,
    ) -> parts.PredictionPages:
        """Do what `classify` does with images of the library, in pages read while they are used.

        Parameters
        ----------
        head, where, under, save
            As for `classify`.
        options
            Further fields of `ClassifyOptions`.

        Returns
        -------
        Pages of arrays; iterated over, predictions by path.

        Raises
        ------
        UnknownLabel, BadFilter, QueryError, ModelMismatch
        """
        chosen = parts.ClassifyOptions(select(self._session, where, under), **options)
        return parts.classify.predict_pages(self._session, head, chosen, save=save)

    def embed(self, paths: Paths) -> tuple[list[str], FloatArray, list[parts.Failure]]:
        """Return the vectors of files.

        Parameters
        ----------
        paths
            Files and folders, in the library or not; what the library knows is not encoded again.

        Returns
        -------
        Paths; their unit vectors float32 (n, dim); what could not be read. By path.
        """
        return parts.collection.encode_paths(self._session, paths)

    # --- answers about images ----------------------------------------------------------------

    def save_answers(self, answers: Sequence[parts.LabelAnswer]) -> None:
        """Keep answers to `calibration_questions`, and a yes as a label of the image too.

        Parameters
        ----------
        answers
            A later one about the same image and label replaces an earlier one.

        Raises
        ------
        UnknownImage, LibraryError
        """
        parts.calibrate.save_answers(self._session, answers)

    def answers(self) -> list[parts.LabelAnswer]:
        """Return the answers that were kept, about images that still have a file.

        Returns
        -------
        Answers, by path and label.
        """
        return parts.calibrate.stored_answers(self._session)

    # --- upkeep ----------------------------------------------------------------------------

    def status(self) -> parts.Status:
        """Return what the library holds, and the state of its vector index.

        Returns
        -------
        Numbers of images and files, models, and the index of each.
        """
        return parts.collection.library_status(self._session)

    def errors(self) -> list[parts.Failure]:
        """Return what could not be indexed, and why: files, dead links, folders.

        Returns
        -------
        A failure for each file, by path.
        """
        return self._session.catalog.errors()

    def notes(self) -> list[parts.Failure]:
        """Return the images that are damaged or made their decoder complain, and are searchable.

        Returns
        -------
        A path and what the image lacks, or what was complained of, by path.
        """
        return self._session.catalog.notes()

    def check(self, *, repair: bool = False, deep: bool = True) -> list[parts.Finding]:
        """Look for damage in the catalog and the snapshots, and for files that are not there.

        Parameters
        ----------
        repair
            Repair what can be repaired, without losing anything.
        deep
            Compare whole snapshot files with their checksums.

        Returns
        -------
        What was found; nothing if all is well.
        """
        return parts.repair.check_library(self._session, repair=repair, deep=deep)

    def rebuild(self, *, kind: str | None = None, recall: float | None = None) -> parts.Status:
        """Rebuild the vector index of every model from the catalog.

        Parameters
        ----------
        kind
            `exact`, `compressed`, `ivf`, or `auto` by size; None keeps what was last asked for.
        recall
            The share of the ten nearest that an approximate index is to find for texts, between 0
            and 1; it is tuned for that. None keeps what was last asked for, at first 0.99.

        Returns
        -------
        The status afterwards.

        Raises
        ------
        UnknownVectorIndex, VectorIndexError, LibraryLocked
        """
        return parts.collection.rebuild_index(self._session, kind, recall)
