"""What `clipsearch classify --explain` writes: labels, and under each its prompts with their scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from clipsearch.cli.console import UsageError
from clipsearch.output.render import Format, shown_path, spreadsheet_safe, table, write_json
from clipsearch.types import NONE

if TYPE_CHECKING:
    from clipsearch.heads.explain import Explanation, PromptScore

    Row = tuple[str, float, float | None, tuple[PromptScore, ...]]

FORMATS = ("table", "json", "jsonl", "csv")
COLUMNS = ("path", "label", "probability", "score", "kind", "prompt", "prompt_score", "weight")


def check_format(format: Format) -> None:
    """Raise UsageError for a form that has no room for explanations."""
    if format not in FORMATS:
        raise UsageError(f"--explain writes {', '.join(FORMATS)}, not {format}.")


def write(explanations: Sequence[Explanation], format: Format, stream: TextIO) -> None:
    """Write explanations in one of FORMATS."""
    if format == "json":
        write_json([one.to_dict() for one in explanations], stream)
    elif format == "jsonl":
        lines = (json.dumps(one.to_dict(), ensure_ascii=False) for one in explanations)
        stream.writelines(f"{line}\n" for line in lines)
    elif format == "csv":
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([spreadsheet_safe(v) for v in row] for row in _rows(explanations))
    else:
        heads = ("image", "label", ">probability", ">score", "prompt", ">cosine", ">weight")
        table(heads, _shown(explanations), stream)


def _rows(explanations: Sequence[Explanation]) -> Iterator[tuple[object, ...]]:
    """Yield one row a prompt, and one for a label without prompts."""
    for one in explanations:
        for name, probability, score, prompts in _labels(one):
            about = (one.path, name, probability, score)
            for p in prompts:
                yield *about, p.kind, p.prompt, p.score, p.weight
            if not prompts:
                yield *about, None, None, None, None


def _shown(explanations: Sequence[Explanation]) -> Iterator[list[str]]:
    """Yield the rows of the table; what is as in the row above is left out."""
    for one in explanations:
        path = shown_path(one.path)
        for name, probability, score, prompts in _labels(one):
            cosine = "" if score is None else f"{score:.3f}"
            about = [path, name, f"{100 * probability:.1f} %", cosine]
            for prompt in prompts or (None,):
                yield [*about, *_told(prompt)]
                about = [""] * len(about)
            path = ""


def _labels(one: Explanation) -> list[Row]:
    """Return the labels and, where it was asked, that none holds; first what the image got."""
    rows: list[Row] = [(x.label, x.probability, x.score, x.prompts) for x in one.labels]
    if one.none is not None:
        place = 0 if one.label == NONE else len(rows)
        rows.insert(place, (NONE, one.none, None, ()))
    return rows


def _told(prompt: PromptScore | None) -> list[str]:
    if prompt is None:
        return ["", "", ""]
    said = prompt.prompt if prompt.kind == "text" else shown_path(prompt.prompt)
    return [said, f"{prompt.score:.3f}", f"{prompt.weight:.2f}"]
