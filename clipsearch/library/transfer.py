"""`LibraryTransfer`: embeddings that come from elsewhere. Users meet it as `Library`."""

from __future__ import annotations

from clipsearch.library import parts
from clipsearch.library.images import LibraryImages
from clipsearch.types import OnProgress, Paths, StrPath, ignore_progress


class LibraryTransfer(LibraryImages):
    """Taking in embeddings that were made elsewhere."""

    def ingest(
        self,
        sources: Paths,
        *,
        model: str | None = None,
        root: StrPath | None = None,
        on_progress: OnProgress | None = None,
    ) -> parts.IndexReport:
        """Add images by embeddings that were made elsewhere; the same ones are added once.

        Parameters
        ----------
        sources
            Parquet and .npz files, folders of these, and folders in the layout of clip-retrieval.
        model
            The model that made them; by default the library's.
        root
            Folder that relative paths are below; by default the current one.
        on_progress
            Is told of the progress.

        Returns
        -------
        What was added, and what failed.

        Raises
        ------
        BadParts, MissingDependency, ModelMismatch, LibraryLocked
        """
        return parts.ingest.ingest_parts(
            self._session,
            sources,
            model=model,
            root=root,
            on_progress=on_progress or ignore_progress,
        )
