"""Writers of folders in layouts that other tools read: clip-retrieval, FiftyOne, Label Studio."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from clipsearch import types
from clipsearch._util import absolute, is_remote, warn
from clipsearch._util.arrays import HalfArray
from clipsearch.errors import CannotPlace
from clipsearch.output.data import Images, pages_of, write_json
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
    _check_new(folder)
    pages = (page for page in pages_of(images) if isinstance(page, Embeddings))
    for number, (records, vectors) in enumerate(_files(pages)):
        for name in ("img_emb", "metadata"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors)
        with (folder / "metadata" / f"metadata_{number}.parquet").open("wb") as stream:
            records_parquet(records, stream, options)


def _check_new(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise CannotPlace(folder, "it is not empty; name a new one")


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


# --- labels ----------------------------------------------------------------------------------

Labelled: TypeAlias = "Iterable[types.Prediction | ImageRecord]"
"""Predictions, or images of a library with the labels that it keeps."""
_LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves the files of its own machine, below its document root."""


class _Labels(NamedTuple):
    """The labels that hold of an image, best first, with their probabilities where they have one."""

    path: str
    held: list[tuple[str, float | None]]
    offered: list[str]
    """All that are known of it, held or not."""
    several: bool
    """Whether any number of labels may hold."""


def _read_labels(items: Labelled) -> Iterator[_Labels]:
    for item in items:
        if isinstance(item, ImageRecord):
            several = len(item.labels) > 1
            yield _Labels(item.path, [(n, None) for n in item.labels], [*item.labels], several)
            continue
        held: list[tuple[str, float | None]] = [
            (one.label, one.probability) for one in item.holding
        ]
        offered = [one.label for one in item.labels]
        yield _Labels(item.path, held, offered, item.mode == "multi")


def _all_labels(items: Labelled, images: Iterable[_Labels]) -> list[str]:
    """Return the labels of the head, as far as they are known, and those that images have."""
    others = sorted({label for image in images for label in image.offered})
    return list(dict.fromkeys([*getattr(items, "labels", ()), *others]))


def write_fiftyone(items: Labelled, folder: Path, options: WriteOptions) -> None:
    """Write data.json, id -> path, and labels.json: a FiftyOneImageClassificationDataset.

    The images stay where they are. An image of which no label holds has none; where several may
    hold, images have lists of labels.

    Raises
    ------
    CannotPlace
        The folder is there and not empty.
    """
    _check_new(folder)
    images = list(_read_labels(items))
    several = any(image.several for image in images)
    names = [f"{number:08}" for number in range(len(images))]
    labels = {}
    for name, image in zip(names, images, strict=True):
        held = [
            {"label": label} if sure is None else {"label": label, "confidence": sure}
            for label, sure in image.held
        ]
        labels[name] = held if several else held[0] if held else None
    paths = [absolute(image.path) for image in images]
    _write_json(dict(zip(names, paths, strict=True)), folder / "data.json")
    _write_json({"classes": _all_labels(items, images), "labels": labels}, folder / "labels.json")


def write_label_studio(items: Labelled, folder: Path, options: WriteOptions) -> None:
    """Write tasks.json, images with predictions, and config.xml, the labeling interface.

    A task has the URL of its image and its path; `options.urls` says how URLs come of paths. A
    warning says how many images lie elsewhere and are left out.

    Raises
    ------
    CannotPlace
        The folder is there and not empty.
    """
    _check_new(folder)
    images = list(_read_labels(items))
    urls = [_url(absolute(image.path), options.urls) for image in images]
    served = [(image, url) for image, url in zip(images, urls, strict=True) if url]
    _write_json([_task(image, url) for image, url in served], folder / "tasks.json")
    choice = "multiple" if any(image.several for image in images) else "single"
    choices = "".join(
        f"    <Choice value={quoteattr(name)}/>\n" for name in _all_labels(items, images)
    )
    (folder / "config.xml").write_text(
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="label" toName="image" choice="{choice}" showInline="true">\n'
        f"{choices}  </Choices>\n</View>\n",
        "utf-8",
    )
    if len(served) < len(images):
        missing = len(images) - len(served)
        where = options.urls[0] if options.urls else "here"
        warn(f"{missing:,} of {len(images):,} images are not in {where}: left out.")


def _url(path: str, urls: tuple[str, str] | None) -> str | None:
    """Return the URL of an image; None outside the folder that is served."""
    if is_remote(path):
        top = urls[0].rstrip("/") + "/" if urls else ""
        return urls[1] + quote(path[len(top) :]) if urls and path.startswith(top) else path
    pure = PurePath(path)
    folder, start = urls or (pure.anchor, _LOCAL_FILES)
    top = os.path.abspath(os.path.expanduser(folder))
    if not pure.is_relative_to(top):
        return None
    return start + quote(os.fsencode(pure.relative_to(top).as_posix()))


def _task(image: _Labels, url: str) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {"image": url, "path": absolute(image.path)}}
    if image.held:
        sure = image.held[0][1]
        names = [label for label, _ in image.held]
        about = {"from_name": "label", "to_name": "image", "type": "choices"}
        prediction = {
            "model_version": "clipsearch",
            **({} if sure is None else {"score": sure}),
            "result": [{**about, "value": {"choices": names}}],
        }
        task["predictions"] = [prediction]
    return task


def _write_json(value: Any, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", errors="surrogateescape") as stream:
        write_json(value, stream)
