"""Reports of evaluations: what they say (`content`), as Markdown and as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path

from clipsearch.errors import BadReportFile
from clipsearch.evaluation.results import Evaluation
from clipsearch.output.render import write_json
from clipsearch.output.report.content import blocks, summary
from clipsearch.output.report.markdown import markdown
from clipsearch.output.report.page import fragment as _fragment
from clipsearch.output.report.page import html

__all__ = ["SUFFIXES", "check_name", "fragment", "save", "summary"]

SUFFIXES = (".html", ".htm", ".md", ".json")


def save(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Write a report, as its suffix says. Raises BadReportFile for another one."""
    check_name(path)
    file = Path(path)
    if file.suffix.lower() == ".json":
        with file.open("w", encoding="utf-8") as stream:
            write_json(evaluation.to_dict(), stream)
        return
    content = list(blocks(evaluation))
    text = markdown(content) if file.suffix.lower() == ".md" else html(content)
    file.write_text(text, "utf-8", errors="surrogateescape")


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise BadReportFile unless `save` can write a file of this name: ask before long work."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise BadReportFile(path, SUFFIXES)


def fragment(evaluation: Evaluation) -> str:
    """Return the report as a part of a page with its own style, for a notebook's cell."""
    return _fragment(list(blocks(evaluation)))
