"""Writers for programs: JSON, JSON lines, CSV, and lists of paths.

A writer takes a value of its kind, an open stream of text, and `WriteOptions`, of which it
uses what concerns it; it returns nothing and leaves the stream open.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TextIO

from clipsearch.output.formats import WriteOptions
from clipsearch.output.text import Items, describe_labels
from clipsearch.types import Embeddings, ImagePages, ImageRecord
from clipsearch.types.facts import FACTS, fact_as_json

if TYPE_CHECKING:
    from clipsearch.grouping.duplicates import Duplicates
    from clipsearch.grouping.topics import Topic
    from clipsearch.heads.explain import Explanation
    from clipsearch.library.matrix import Matrix

Images = Iterable[ImageRecord] | Embeddings
"""Images of a library, with or without their vectors; ImagePages may be either."""
_FORMULA_STARTS = frozenset("=+-@\t\r")
_MOST_INDENTED = 1_000
"""Items of the longest list whose items are indented."""
_PLAIN = frozenset((type(None), int, float))
_TEXTS = frozenset((type(None), str))
_LISTS = frozenset((list, tuple))
_GET_FACTS = attrgetter(*(fact.name for fact in FACTS))
_CONVERTED = [(i, fact) for i, fact in enumerate(FACTS) if fact.kind in ("date", "texts")]
"""Facts that JSON and CSV have in another form, with their places."""


# --- JSON ------------------------------------------------------------------------------------


def write_json(value: Any, stream: TextIO) -> None:
    """Write JSON for people and programs: indented, one line end at the end, no NaN.

    Of a long list each item is one line: to indent them Python takes ten times as long.
    """
    stream.writelines(_indented(value, "\n"))
    stream.write("\n")


_as_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=str).encode


def _indented(value: Any, line: str) -> Iterator[str]:
    """Yield the text of a value; line: the line end and the indent of the text around it."""
    inner = f"{line}  "
    if isinstance(value, dict) and value:
        start = "{"
        for key, part in value.items():
            yield f"{start}{inner}{_as_text(str(key))}: "
            yield from _indented(part, inner)
            start = ","
        yield line + "}"
    elif isinstance(value, (list, tuple)) and value:
        start = "["
        for part in value:
            yield start + inner
            if len(value) > _MOST_INDENTED:
                yield _as_text(part)
            else:
                yield from _indented(part, inner)
            start = ","
        yield line + "]"
    else:
        yield _as_text(value)


def json_document(value: Any, stream: TextIO, options: WriteOptions) -> None:
    """Write a value, or a sequence of values, as one JSON document."""
    write_json(_as_json_types(value), stream)


def json_lines(values: Iterable[Any], stream: TextIO, options: WriteOptions) -> None:
    """Write one JSON object per value, each on a line of its own."""
    for value in values:
        line = json.dumps(_as_json_types(value), ensure_ascii=False, allow_nan=False)
        stream.write(f"{line}\n")


def records_json(images: Images, stream: TextIO, options: WriteOptions) -> None:
    """Write images as one JSON array, without holding its text in memory."""
    start = "[\n"
    for image in _records_as_json(images):
        stream.write(f"{start}  {_as_text(image)}")
        start = ",\n"
    stream.write("[]\n" if start == "[\n" else "\n]\n")


def records_json_lines(images: Images, stream: TextIO, options: WriteOptions) -> None:
    """Write one JSON object per image, each on a line of its own."""
    json_lines(_records_as_json(images), stream, options)


def pages_of(images: Images) -> Iterable[Iterable[ImageRecord] | Embeddings]:
    """Return images in pages; a list in memory is one page."""
    return images.read() if isinstance(images, ImagePages) else [images]


def have_vectors(images: Images) -> bool:
    """Say whether images come with their vectors."""
    return images.vectors if isinstance(images, ImagePages) else isinstance(images, Embeddings)


def _records_as_json(images: Images) -> Iterator[dict[str, Any]]:
    for page in pages_of(images):
        if isinstance(page, Embeddings):
            for record, vector in zip(page.records, page.vectors, strict=True):
                yield {**record.to_dict(), "vector": vector.tolist()}
        else:
            yield from (record.to_dict() for record in page)


def _as_json_types(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return value if isinstance(value, dict | str) else [_as_json_types(one) for one in value]


# --- paths -----------------------------------------------------------------------------------


def paths_of_items(
    items: Items | Iterable[ImageRecord], stream: TextIO, options: WriteOptions
) -> None:
    """Write the path of each result."""
    paths = items.paths() if hasattr(items, "paths") else (item.path for item in items)
    _write_paths(paths, stream, options)


def paths_of_copies(groups: Sequence[Duplicates], stream: TextIO, options: WriteOptions) -> None:
    """Write the paths of all copies but the best, of groups from which copies may go."""
    others = (path for group in groups if group.safe for path in group.others)
    _write_paths(others, stream, options)


def _write_paths(paths: Iterable[str], stream: TextIO, options: WriteOptions) -> None:
    end = "\0" if options.null else "\n"
    stream.writelines(path + end for path in paths)


# --- CSV -------------------------------------------------------------------------------------


def fact_columns() -> list[str]:
    """Return the names of the columns of facts: those of FACTS, and what the catalog adds."""
    return ["bytes", *(fact.name for fact in FACTS), "labels", "sha256"]


def fact_values(record: ImageRecord | None) -> list[Any]:
    """Return the facts of an image in the order of `fact_columns`; None where not known."""
    if record is None:
        return [None] * (len(FACTS) + 3)
    facts = [*_GET_FACTS(record.facts)]
    for place, fact in _CONVERTED:
        facts[place] = fact_as_json(fact, facts[place])
    return [record.bytes, *facts, list(record.labels), record.sha256]


def spreadsheet_facts(records: Sequence[ImageRecord]) -> Iterable[tuple[Any, ...]]:
    """Return `spreadsheet_row` of `fact_values` of each record: columns at once are much quicker."""
    known = zip(*(_GET_FACTS(record.facts) for record in records), strict=True)
    facts = [*known] or [()] * len(FACTS)
    for place, fact in _CONVERTED:
        facts[place] = tuple(value and fact_as_json(fact, value) for value in facts[place])
    columns = (
        [record.bytes for record in records],
        *facts,
        [record.labels for record in records],
        [record.sha256 for record in records],
    )
    return zip(*map(spreadsheet_column, columns), strict=True)


def spreadsheet_column(values: Sequence[Any]) -> Sequence[Any]:
    """Return `spreadsheet_cell` of each value, looking at each only where one may change."""
    kinds = {type(value) for value in values}
    if kinds <= _PLAIN or (
        kinds <= _TEXTS and _FORMULA_STARTS.isdisjoint({value[:1] for value in values if value})
    ):
        return values
    if kinds <= _LISTS and not any(values):
        return ("",) * len(values)
    return [*map(spreadsheet_cell, values)]


Rows = tuple[list[str], Iterator[Sequence[Any]]]
"""The names of columns, and the rows, one value per column."""


def hits_csv(items: Items, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per hit: path, score and relevance, then its facts."""
    write_csv(*hit_rows(items), stream)


def records_csv(images: Images, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per image: its path and facts, and its vector as numbers with spaces."""
    columns, rows = record_rows(images)
    if have_vectors(images):
        rows = ([*row[:-1], " ".join(map(str, row[-1].tolist()))] for row in rows)
    write_csv(columns, rows, stream)


def hit_rows(items: Items) -> Rows:
    """Return path, score, relevance and facts of hits, as columns and rows."""
    rows = (
        [item.path, item.score, getattr(item, "relevance", None), *fact_values(item.record)]
        for item in items
    )
    return ["path", "score", "relevance", *fact_columns()], rows


def record_rows(images: Images) -> Rows:
    """Return path and facts of images, and their vectors where they are given."""
    columns = ["path", *fact_columns(), *(["vector"] if have_vectors(images) else [])]
    return columns, (row for page in pages_of(images) for row in _page_rows(page))


def _page_rows(page: Iterable[ImageRecord] | Embeddings) -> Iterator[list[Any]]:
    if isinstance(page, Embeddings):
        for record, vector in zip(page.records, page.vectors, strict=True):
            yield [record.path, *fact_values(record), vector]
    else:
        yield from ([record.path, *fact_values(record)] for record in page)


def topics_csv(topics: Sequence[Topic], stream: TextIO, options: WriteOptions) -> None:
    """Write one row per image with the topic that it belongs to."""
    names = ("taken_at", "lat", "lon")
    rows = (
        [hit.path, topic.title, hit.score, *(_facts(hit.record).get(name) for name in names)]
        for topic in topics
        for hit in topic.images
    )
    write_csv(["path", "topic", "score", *names], rows, stream)


def duplicates_csv(groups: Sequence[Duplicates], stream: TextIO, options: WriteOptions) -> None:
    """Write one row per file with the group that it belongs to."""
    rows = (
        [
            *(number, group.tier, "yes" if record.path == group.best else "no"),
            *(record.path, score, record.facts.width, record.facts.height, record.bytes),
        ]
        for number, group in enumerate(groups, start=1)
        for record, score in zip(group.records, group.scores, strict=True)
    )
    columns = ["group", "tier", "best", "path", "similarity", "width", "height", "bytes"]
    write_csv(columns, rows, stream)


def matrix_csv(found: Matrix, stream: TextIO, options: WriteOptions) -> None:
    """Write one row per image and one column per text."""
    values = found.probabilities if options.probabilities else found.scores
    rows = ([path, *row] for path, row in zip(found.paths, values.tolist(), strict=True))
    write_csv(["path", *found.texts], rows, stream)


def explanations_csv(
    explanations: Sequence[Explanation], stream: TextIO, options: WriteOptions
) -> None:
    """Write one row per prompt of each label, and one for a label without prompts."""
    columns = ("path", "label", "probability", "score", "kind", "prompt", "prompt_score", "weight")
    write_csv(columns, _explanation_rows(explanations), stream)


def _explanation_rows(explanations: Sequence[Explanation]) -> Iterator[Sequence[Any]]:
    for one in explanations:
        for name, probability, score, prompts in describe_labels(one):
            about = (one.path, name, probability, score)
            for p in prompts:
                yield *about, p.kind, p.prompt, p.score, p.weight
            if not prompts:
                yield *about, None, None, None, None


def _facts(record: ImageRecord | None) -> dict[str, Any]:
    return record.to_dict() if record else {}


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]], stream: TextIO) -> None:
    """Write rows below the names of their columns, safe for spreadsheets."""
    writer = csv.writer(stream)
    writer.writerow(map(spreadsheet_cell, columns))
    writer.writerows(spreadsheet_row(row) for row in rows)


def spreadsheet_row(row: Iterable[Any]) -> list[Any]:
    """Apply `spreadsheet_cell` where it may change something."""
    return [cell if type(cell) in _PLAIN else spreadsheet_cell(cell) for cell in row]


def spreadsheet_cell(value: Any) -> Any:
    """Join lists, and quote a text that a spreadsheet would run as a formula (OWASP)."""
    if isinstance(value, list | tuple):
        value = "; ".join(map(str, value))
    risky = isinstance(value, str) and value[:1] in _FORMULA_STARTS
    return f"'{value}" if risky else value
