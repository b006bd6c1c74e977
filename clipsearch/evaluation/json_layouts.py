"""Labels and captions in the JSON of other tools: COCO, Label Studio and FiftyOne."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from clipsearch._util import absolute, is_remote, quote
from clipsearch._util.documents import BadDocument, parse_json, read_document
from clipsearch.errors import BadTruthFile

TruthRow = tuple[str, Sequence[str], Sequence[str]]
"""Path as the file has it, labels, captions."""
_MOST_BYTES = 2_000_000_000
_LOCAL_FILES = "/data/local-files/"
"""Where Label Studio serves the files of its own machine: their paths are in the query."""


def _parse(text: str, source: Path) -> Any:
    try:
        return parse_json(text)
    except BadDocument as error:
        raise BadTruthFile(f"{source} cannot be read: {error}.") from error


# --- COCO --------------------------------------------------------------------------------------


def rows_of_coco(text: str, source: Path, warnings: list[str]) -> Iterator[TruthRow]:
    """Yield captions of images, or categories as labels, of COCO's JSON. Raises BadTruthFile."""
    data = _parse(text, source)
    try:
        files = {image["id"]: str(image["file_name"]) for image in data["images"]}
        names = {c["id"]: str(c["name"]) for c in data.get("categories", ())}
        for note in data["annotations"]:
            yield _coco_row(note, files[note["image_id"]], names)
    except (KeyError, TypeError, AttributeError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BadTruthFile(
            f"{source} is not COCO's JSON (images, annotations with captions or categories): "
            f"{said}."
        ) from error


def _coco_row(note: Mapping[str, Any], file: str, names: Mapping[int, str]) -> TruthRow:
    if "caption" in note:
        return file, (), [str(note["caption"])]
    return file, [names[note["category_id"]]], ()


# --- Label Studio ------------------------------------------------------------------------------


def rows_of_label_studio(text: str, source: Path, warnings: list[str]) -> Iterator[TruthRow]:
    """Yield the choices of images, as Label Studio exports them as JSON. Raises BadTruthFile.

    The path of an image is what `clipsearch classify -f label-studio` wrote beside its URL, else it
    is that of the URL, from the folder of the images.
    """
    data = _parse(text, source)
    bare = 0
    try:
        for task in data:
            given = [one for one in task["annotations"] if not one.get("was_cancelled")]
            last: Mapping[str, Any] = max(
                given, key=lambda one: str(one.get("updated_at", "")), default={}
            )
            choices = [
                str(choice)
                for result in last.get("result", ())
                for choice in _as_list(result["value"].get("choices", ()))
            ]
            bare += not choices
            yield _path_of_task(task["data"]), choices, ()
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BadTruthFile(
            f"{source} is not what Label Studio exports as JSON, which is not JSON-MIN: {said}."
        ) from error
    if bare:
        warnings.append(f"{source}: {bare:,} tasks without a choice are left out.")


def _as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _path_of_task(data: Mapping[str, Any]) -> str:
    if path := data.get("path"):
        return str(path)
    given = str(data["image"])
    if is_remote(given) and not given.startswith(("http://", "https://")):
        return given
    url = urlsplit(given)
    path = url.query.removeprefix("d=") if url.path == _LOCAL_FILES else url.path
    return unquote(path).lstrip("/")


# --- FiftyOne ----------------------------------------------------------------------------------


def rows_of_fiftyone(text: str, source: Path, warnings: list[str]) -> Iterator[TruthRow]:
    """Yield the labels of images in a FiftyOneImageClassificationDataset. Raises BadTruthFile.

    Their paths are in data.json beside the file, or they lie in data/.
    """
    data = _parse(text, source)
    paths = _fiftyone_paths(source)
    bare = 0
    try:
        classes = data.get("classes")
        for name, target in data["labels"].items():
            targets = target if isinstance(target, list) else [target]
            labels = [_fiftyone_label(one, classes) for one in targets if one is not None]
            bare += not labels
            yield paths[name], labels, ()
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise BadTruthFile(
            f"{source} is not labels.json of a FiftyOneImageClassificationDataset, with data.json or "
            f"the images in data/ beside it: {said}."
        ) from error
    if bare:
        warnings.append(f"{source}: {bare:,} images without a label are left out.")


def _fiftyone_paths(source: Path) -> dict[str, str]:
    """Return the absolute path of each image by its name in labels.json."""
    folder = source.parent
    manifest = folder / "data.json"
    if manifest.exists():
        try:
            found = _parse(read_document(manifest, _MOST_BYTES).text, manifest)
        except BadDocument as error:
            raise BadTruthFile(f"{manifest} cannot be read: {error}.") from error
        if not isinstance(found, dict):
            raise BadTruthFile(f"{manifest} is not a table of paths by id.")
        return {name: absolute(str(path), folder) for name, path in found.items()}
    files = (path for path in (folder / "data").rglob("*") if path.is_file())
    return {
        path.relative_to(folder / "data").with_suffix("").as_posix(): str(path) for path in files
    }


def _fiftyone_label(target: Any, classes: Sequence[str] | None) -> str:
    label = target["label"] if isinstance(target, dict) else target
    if isinstance(label, bool) or not isinstance(label, str | int) or label in (-1, ""):
        raise TypeError(f"{quote(label)} is no label")
    return str(classes[label] if isinstance(label, int) and classes else label)
