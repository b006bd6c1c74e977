"""`clipsearch status`, `check`, `rebuild` and `use`: the library as a whole."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from clipsearch.cli.console import say
from clipsearch.cli.options import LibraryOption, PlainFormatOption
from clipsearch.output.render import table, write_json
from clipsearch.types import Status


def status(format: PlainFormatOption = "table", library: LibraryOption = None) -> None:
    """Say what the library holds, and where."""
    from clipsearch.library import Library

    with Library.open(library) as lib:
        found = lib.status()
    if format == "json":
        write_json(found.to_dict(), sys.stdout)
    else:
        table(("library", found.path), _rows(found), sys.stdout)


def _rows(status: Status) -> list[tuple[str, str]]:
    models = [f"{name} ({count:,} vectors)" for name, count in status.models.items()]
    labels = [f"{name} ({count:,})" for name, count in status.labels.items()]
    vectors = f"{status.indexed:,} in the {status.index_kind} index, {status.tail:,} beside it"
    index = _index(status) if status.index_kind else []
    return [
        ("images", f"{status.files:,} files, {status.contents:,} different"),
        ("failed", f"{status.failed:,}" + (" (see `clipsearch errors`)" if status.failed else "")),
        ("model", status.model or "none yet"),
        *[("models", line) for line in models if len(models) > 1],
        ("vectors", vectors if status.index_kind else f"{status.tail:,} in the catalog"),
        *index,
        ("stale", f"{status.stale:,}"),
        *[("folder", root) for root in status.roots],
        *[("label", line) for line in labels],
        ("last indexed", f"{status.last_scan:%Y-%m-%d %H:%M}" if status.last_scan else "never"),
        ("on disk", _megabytes(status.bytes_on_disk)),
        ("format", str(status.format)),
    ]


def _index(status: Status) -> list[tuple[str, str]]:
    recall = "not known"
    if status.index_recall is not None:
        of = {"texts": " of the nearest, for texts", "simulated": " of the nearest, simulated"}
        recall = f"{status.index_recall:.1%}" + of.get(status.index_queries, ": it compares all")
    tuned = ", ".join(f"{name} {value:,}" for name, value in status.index_tuned.items())
    return [
        ("recall", recall + (f" ({tuned})" if tuned else "")),
        (
            "index",
            f"{_megabytes(status.index_memory)} in memory, {_megabytes(status.index_bytes)} on disk",
        ),
    ]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what can be, without losing anything.")
    ] = False,
    format: PlainFormatOption = "table",
    library: LibraryOption = None,
) -> None:
    """Look for damage in the library.

    Exits with 0 if there is none, or if all of it could be repaired.
    """
    from clipsearch.library import Library

    with Library.open(library) as lib:
        findings = lib.check(repair=repair)
    if format == "json":
        write_json([finding.to_dict() for finding in findings], sys.stdout)
    elif findings:
        rows = [(f.kind, f.message, "repaired" if f.repaired else f.remedy) for f in findings]
        table(("finding", "what", "remedy"), rows, sys.stdout)
    else:
        say("no damage found.")
    if not all(finding.repaired for finding in findings):
        raise typer.Exit(1)


def rebuild(
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="The kind of vector index: exact, compressed, ivf, or auto, by size.",
            show_default=False,
        ),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Tune it to find this share of the ten nearest for texts; at first 0.99.",
            show_default=False,
        ),
    ] = None,
    format: PlainFormatOption = "table",
    library: LibraryOption = None,
) -> None:
    """Write the vector index anew, and say how well it finds.

    It is made from the catalog: always safe, and nothing is embedded again. Kind and recall hold
    for later ones too.
    """
    from clipsearch.library import Library

    with Library.open(library) as lib:
        found = lib.rebuild(kind=kind, recall=recall)
    if format == "json":
        write_json(found.to_dict(), sys.stdout)
        return
    say(f"{found.indexed:,} vectors in the {found.index_kind} index of {found.path}.")
    for name, value in _index(found) if found.index_kind else []:
        say(f"{name}: {value}")


def use(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model that the library has vectors of.")
    ],
    library: LibraryOption = None,
) -> None:
    """Switch to another model of the library.

    Add one with `clipsearch index PATH... --model MODEL`.
    """
    from clipsearch.library import Library

    with Library.open(library) as lib:
        lib.use(model)
        found = lib.status()
    say(f"{found.path} now searches with {found.model}.")
