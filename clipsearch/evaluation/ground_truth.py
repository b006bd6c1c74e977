"""Read ground truth, labels or captions of images: CSV, folders per class, and files of other tools."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from clipsearch._util import absolute, existing_spelling, fold_label, quote
from clipsearch._util.documents import (
    CAPTION_COLUMNS,
    LABEL_COLUMNS,
    MANY_LABELS_COLUMNS,
    PATH_COLUMNS,
    BadDocument,
    fold_name,
    parse_table,
    read_document,
)
from clipsearch.errors import BadTruthFile
from clipsearch.evaluation.json_layouts import (
    TruthRow,
    rows_of_coco,
    rows_of_fiftyone,
    rows_of_label_studio,
)
from clipsearch.images import IMAGE_SUFFIXES
from clipsearch.images.walk import Walk

Layout = Literal["labels", "captions", "folders", "flickr8k", "coco", "label-studio", "fiftyone"]
_LAYOUTS: tuple[Layout, ...] = get_args(Layout)

_MOST_BYTES = 2_000_000_000  # COCO's own files have up to half of it
_PATH_LIKE_IDS = {"id", "image_id", "img_id", "file_id", "photo_id", "bild_id"}
_TOKEN_LINE = re.compile(r"(?P<name>.+)#\d+\t(?P<caption>.*)")
_CAPTION_WORDS = 4
"""Without a header, a second column with a median of this many words holds captions."""


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Labels, captions or both of images, by absolute path."""

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""
    """The file or folder that it was read from."""
    layout: Layout = "labels"
    warnings: tuple[str, ...] = ()
    """Why something was left out."""

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels of the images, sorted."""
        return tuple(sorted({label for labels in self.labels.values() for label in labels}))

    def spelled_as(self, labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the labels of images in the spelling of others, which may differ in case or space."""
        spellings = {fold_label(label): label for label in labels}
        return {
            path: tuple(dict.fromkeys(spellings.get(fold_label(one), one) for one in own))
            for path, own in self.labels.items()
        }

    @property
    def multi_label(self) -> bool:
        """Whether some image has several labels."""
        return any(len(labels) > 1 for labels in self.labels.values())


def read_ground_truth(
    path: str | os.PathLike[str],
    *,
    layout: Layout | None = None,
    images: str | os.PathLike[str] | None = None,
) -> GroundTruth:
    """Read the labels or captions of images.

    Layouts:

    - `labels`: CSV (also with `;` or tabs) `path,label[,label...]`, with or without a header
    - `captions`: CSV `path,caption`, one caption per row; a header may name more columns
    - `folders`: a folder with one folder per class, as torchvision's ImageFolder
    - `flickr8k`: lines `name.jpg#0<TAB>caption`
    - `coco`: JSON of captions, or of instances, whose categories are labels
    - `label-studio`: its export as JSON; of several annotations of an image the last one counts
    - `fiftyone`: labels.json of a FiftyOneImageClassificationDataset, with data.json or data/ beside it

    Parameters
    ----------
    path
        File, or folder of folders.
    layout
        By default detected from the content.
    images
        The folder that relative paths start from, by default the one of the file. The images are
        not opened.

    Raises
    ------
    BadTruthFile
        If the file cannot be read, or has another layout.
    """
    source = Path(os.path.abspath(os.path.expanduser(path)))
    source = Path(existing_spelling(str(source)))
    base = os.path.abspath(os.path.expanduser(images)) if images else str(source.parent)
    base = existing_spelling(base)
    warnings: list[str] = []
    if layout not in (None, *_LAYOUTS):
        raise BadTruthFile(f"unknown layout {layout!r}: choose from {', '.join(_LAYOUTS)}.")
    if source.is_dir():
        layout, rows = "folders", _from_folders(source, warnings)
    else:
        text = _text_of(source, warnings)
        layout = layout or _layout_of(text, source)
        rows = _READERS[layout](text, source, warnings)
    labels: dict[str, dict[str, None]] = {}
    captions: dict[str, dict[str, None]] = {}
    for name, own_labels, own_captions in rows:
        file = _locate(base, name)
        for found, texts in ((labels, own_labels), (captions, own_captions)):
            if kept := [t for text in texts if (t := " ".join(text.split()))]:
                found.setdefault(file, {}).update(dict.fromkeys(kept))
    if not (labels or captions):
        raise BadTruthFile(f"{source} holds no labels and no captions of images.")
    labels = _unite_spellings(labels, warnings)
    return GroundTruth(_freeze(labels), _freeze(captions), str(source), layout, tuple(warnings))


def _locate(base: str, name: str) -> str:
    """Return the absolute path of an image, its letters composed as those of the file."""
    if os.sep == "/" and "\\" in name and "/" not in name:  # written on Windows
        name = name.replace("\\", "/")
    return existing_spelling(absolute(os.path.expanduser(name), base))


def _unite_spellings(
    found: dict[str, dict[str, None]], warnings: list[str]
) -> dict[str, dict[str, None]]:
    """Take labels that differ in case or space as one, in the spelling that most images have."""
    counts = Counter(label for own in found.values() for label in own)
    chosen: dict[str, str] = {}
    for label, _ in counts.most_common():
        chosen.setdefault(fold_label(label), label)
    if len(chosen) == len(counts):
        return found
    other = next(label for label in counts if chosen[fold_label(label)] != label)
    warnings.append(
        f"{len(counts) - len(chosen):,} spellings of labels are taken for others: "
        f"{quote(other)} for {quote(chosen[fold_label(other)])}."
    )
    return {
        path: dict.fromkeys(chosen[fold_label(label)] for label in own)
        for path, own in found.items()
    }


def _freeze(found: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {path: tuple(texts) for path, texts in sorted(found.items())}


def _text_of(source: Path, warnings: list[str]) -> str:
    try:
        document = read_document(source, _MOST_BYTES)
    except BadDocument as error:
        raise BadTruthFile(f"{source} cannot be read: {error}.") from error
    if document.note:
        warnings.append(f"{source}: {document.note}.")
    return document.text


def _layout_of(text: str, source: Path) -> Layout:
    first = next(filter(str.strip, text.splitlines()), None)
    if first is None:
        raise BadTruthFile(f"{source} is empty: give one line per image, `path,label`.")
    if source.suffix.lower() == ".json" or first.lstrip().startswith("{"):
        if first.lstrip().startswith("["):
            return "label-studio"
        return "fiftyone" if '"labels"' in text and '"annotations"' not in text else "coco"
    if _TOKEN_LINE.fullmatch(first):
        return "flickr8k"
    header, rows, _ = _table(text, source)
    if header:
        labelled = "label" in header or "labels" in header
        return "captions" if "caption" in header and not labelled else "labels"
    lengths = sorted(len(row[1].split()) for _, row in rows if len(row) > 1)
    many = lengths and lengths[len(lengths) // 2] >= _CAPTION_WORDS
    return "captions" if many else "labels"


# --- tables --------------------------------------------------------------------------------


def _from_table(
    text: str, source: Path, warnings: list[str], *, kind: Literal["label", "caption"]
) -> Iterator[TruthRow]:
    header, rows, head = _table(text, source)
    columns = header or ["path", kind]
    if not {kind, f"{kind}s"} & {*columns}:
        raise _wrong_columns(source, head)
    bare = 0
    for line, cells in rows:
        name = cells[columns.index("path")].strip() if len(cells) > columns.index("path") else ""
        if not name:
            raise BadTruthFile(f"{source}, line {line}: no image is named.")
        found = _cells(columns, cells)
        labels, captions = [*found["label"], *found["labels"]], found["caption"]
        bare += not any(map(str.strip, [*labels, *captions]))
        yield name, labels, captions
    if bare:
        warnings.append(f"{source}: {bare:,} rows without a {kind} are left out.")


def _cells(columns: Sequence[str], cells: Sequence[str]) -> dict[str, list[str]]:
    """Sort the cells of a row by the kind of their column; cells past the last one go with it."""
    found: dict[str, list[str]] = {"path": [], "label": [], "labels": [], "caption": [], "": []}
    last = len(columns) - 1
    if columns[last] == "caption":
        # A comma in a caption that nobody quoted.
        cells = [*cells[:last], ",".join(cells[last:])]
    for number, cell in enumerate(cells):
        kind = columns[min(number, last)]
        found[kind] += cell.split(";") if kind == "labels" else [cell]
    return found


def _table(text: str, source: Path) -> tuple[list[str], list[tuple[int, list[str]]], list[str]]:
    """Return the kinds of the columns (none without a header), rows by line, and the first row."""
    try:
        rows = [(row.line, row.cells) for row in parse_table(text)]
    except BadDocument as error:
        raise BadTruthFile(f"{source}, {error}.") from error
    if not rows:
        raise BadTruthFile(f"{source} is empty: give one line per image, `path,label`.")
    head = rows[0][1]
    if _is_header(head):
        return _columns(head), rows[1:], head
    if not _names_image(head[0]) or len(head) < 2:
        raise _wrong_columns(source, head)
    return [], rows, head


def _columns(head: Sequence[str]) -> list[str]:
    """Return the kind of each column: path, label, labels (split at `;`), caption or unknown."""
    names = [fold_name(name) for name in head]
    # What `classify -f csv` wrote has guesses and saved labels too; `label` is the column to
    # correct.
    guessed = "probability" in names
    kinds = [_kind(name if guessed else re.sub(r"_?\d+$", "", name)) for name in names]
    path = kinds.index("path") if "path" in kinds else kinds.index("id")
    return [
        "path" if i == path else "" if k in ("path", "id") or (k == "labels" and guessed) else k
        for i, k in enumerate(kinds)
    ]


def _kind(name: str) -> str:
    known = {
        "path": PATH_COLUMNS,
        "label": LABEL_COLUMNS,
        "labels": MANY_LABELS_COLUMNS,
        "caption": CAPTION_COLUMNS,
        "id": _PATH_LIKE_IDS,
    }
    return next((kind for kind, names in known.items() if name in names), "")


def _is_header(row: Sequence[str]) -> bool:
    """Tell whether a first row names columns: one of paths, or one of ids beside one of labels."""
    kinds = {_kind(fold_name(cell)) for cell in row}
    return "path" in kinds or ("id" in kinds and len(kinds & {"label", "labels", "caption"}) > 0)


def _names_image(cell: str) -> bool:
    return os.path.splitext(cell.strip())[1].lower() in IMAGE_SUFFIXES


def _wrong_columns(source: Path, head: Sequence[str]) -> BadTruthFile:
    return BadTruthFile(
        f"{source} has the columns {', '.join(head)}: needed are the path of an image "
        "and its labels or its caption. Name them in a first row, `path,label` or `path,caption`."
    )


# --- other layouts -------------------------------------------------------------------------


def _from_folders(source: Path, warnings: list[str]) -> Iterator[TruthRow]:
    names = sorted(entry.name for entry in source.iterdir() if entry.is_dir())
    classes = [name for name in names if not name.startswith(".")]
    if not classes:
        raise BadTruthFile(f"{source} has no folders in it: put the images of a class in one.")
    for name in classes:
        walk = Walk([source / name])
        found = [(file.path, [name], ()) for file in walk]
        if not found:
            warnings.append(f"{source / name} holds no images: the class is left out.")
        yield from found
        warnings += [f"{problem.path}: {problem.reason}" for problem in walk.problems]
    if loose := sum(_names_image(entry.name) for entry in source.iterdir()):
        warnings.append(f"{source}: {loose:,} images lie in no class's folder and are left out.")


def _from_token_lines(text: str, source: Path, warnings: list[str]) -> Iterator[TruthRow]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found = _TOKEN_LINE.fullmatch(line)
        if not found:
            raise BadTruthFile(
                f"{source}, line {number}: not `name.jpg#0`, a tab and a caption: {line[:60]!r}."
            )
        yield found["name"], (), [found["caption"]]


_READERS: Mapping[Layout, Callable[[str, Path, list[str]], Iterator[TruthRow]]] = {
    "labels": partial(_from_table, kind="label"),
    "captions": partial(_from_table, kind="caption"),
    "flickr8k": _from_token_lines,
    "coco": rows_of_coco,
    "label-studio": rows_of_label_studio,
    "fiftyone": rows_of_fiftyone,
}
