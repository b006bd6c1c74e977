"""`clipsearch tokens`: what a model reads of a text, and what does not fit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli.console import UsageError, say
from clipsearch.cli.options import LibraryOption, ModelOption, PlainFormatOption
from clipsearch.output.render import printable, table, write_json

if TYPE_CHECKING:
    from clipsearch.text.tokens import TokenTable

BUNDLED = "mini"


def tokens(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="A text, or several.")],
    model: ModelOption = None,
    format: PlainFormatOption = "table",
    library: LibraryOption = None,
) -> None:
    """Show the tokens that a model reads of a text.

    Also how many are left, and what of a long text would be cut. The model is the library's, or
    --model; without either the one that comes with clipsearch, whose tokens are those of CLIP.
    No weights are loaded.

    \b
    clipsearch tokens "an orange boy riding a blue horse"
    clipsearch tokens "$(cat story.txt)" --model multilingual
    """
    if model and library:
        raise UsageError("the tokens of a --model or of the model of a --library: name one.")
    found = _of_model(model, texts) if model else _of_library(library, texts)
    if format == "json":
        write_json([one.to_dict() for one in found], sys.stdout)
        return
    for number, one in enumerate(found):
        if number:
            print()
        _show(one)


def _of_model(model: str, texts: list[str]) -> list[TokenTable]:
    from clipsearch.encoders import load_tokenizer
    from clipsearch.encoders.registry import resolve
    from clipsearch.text.tokens import TokenTable

    tokenizer, name = load_tokenizer(model), resolve(model).name
    return [TokenTable.of(text, tokenizer, name) for text in texts]


def _of_library(library: Path | None, texts: list[str]) -> list[TokenTable]:
    from clipsearch.errors import LibraryNotFound
    from clipsearch.library import Library

    try:
        with Library.open(library) as lib:
            return lib.tokens(texts)
    except LibraryNotFound:
        if library:
            raise
    say(f"there is no library here: these are the tokens of {BUNDLED}, which are CLIP's own.")
    return _of_model(BUNDLED, texts)


def _show(found: TokenTable) -> None:
    reads = f"the {found.context_length} that {found.model} reads"
    fits = f"{found.count} of {reads}, with start and end: {found.left} are left."
    long = f"{found.count} tokens with start and end: {found.over} more than {reads}."
    print(f"{printable(found.text)}\n{long if found.over else fits}\n")
    table((">place", ">id", "piece", ""), _rows(found), sys.stdout)
    if found.over:
        print(f"\nIt is read in {len(found.pieces)} pieces, and their vectors averaged:\n")
        pieces = [(f"{p.tokens}", f"{100 * p.weight:.0f} %", p.text) for p in found.pieces]
        table((">tokens", ">weight", "piece"), pieces, sys.stdout)
        print(f"\nWith --truncate this would be cut: {printable(found.rest)}")


def _rows(found: TokenTable) -> list[tuple[str, str, str, str]]:
    """Return a row for each token, and one for all padding; what is cut has no place."""
    rows, place = [], 0
    for token in found.tokens:
        if token.kind == "last":
            rows += _padding(found, place)
            place += found.left
        shown = "" if token.kind == "cut" else f"{place}"
        kind = "" if token.kind == "text" else token.kind
        rows.append((shown, f"{token.id}", token.piece, kind))
        place += token.kind != "cut"
    return rows if found.tokens[-1].kind == "last" else [*rows, *_padding(found, place)]


def _padding(found: TokenTable, place: int) -> list[tuple[str, str, str, str]]:
    if not found.left:
        return []
    places = f"{place}-{place + found.left - 1}" if found.left > 1 else f"{place}"
    return [(places, f"{found.padding.id}", found.padding.piece, "padding")]
