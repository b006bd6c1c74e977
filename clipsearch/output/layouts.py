"""Writers of folders in layouts that other tools read: clip-retrieval's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from clipsearch._util.arrays import HalfArray
from clipsearch.errors import CannotPlace
from clipsearch.output.data import Images, pages_of
from clipsearch.output.exchange import records_parquet
from clipsearch.output.formats import WriteOptions
from clipsearch.types import Embeddings, ImageRecord
from clipsearch.vectors.storage.float16 import to_float16

_ROWS = 1_000_000
"""Rows of a file, as clip-retrieval writes them."""


def records_clip_retrieval(images: Images, folder: Path, options: WriteOptions) -> None:
    """Write img_emb/img_emb_N.npy, float16 (n, dim), and metadata/metadata_N.parquet beside them.

    The metadata have the columns of `export`, and `image_path`, which clip-retrieval shows.

    Raises
    ------
    CannotPlace
        The folder is there and not empty: what it holds would be mixed with these.
    MissingDependency
    """
    if folder.exists() and any(folder.iterdir()):
        raise CannotPlace(folder, "it is not empty; name a new one")
    pages = (page for page in pages_of(images) if isinstance(page, Embeddings))
    for number, (records, vectors) in enumerate(_files(pages)):
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors)
        with (folder / "metadata" / f"metadata_{number}.parquet").open("wb") as stream:
            records_parquet(records, stream, options)


def _files(pages: Iterable[Embeddings]) -> Iterator[tuple[Sequence[ImageRecord], HalfArray]]:
    """Yield the records and the stored numbers of each file."""
    rows = (
        (record, vector)
        for page in pages
        for record, vector in zip(page.records, to_float16(page.vectors)[0], strict=True)
    )
    while some := list(islice(rows, _ROWS)):
        records, vectors = zip(*some, strict=True)
        yield records, np.stack(vectors)
