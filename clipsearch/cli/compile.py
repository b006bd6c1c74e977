"""`clipsearch compile`: make a model several times faster on a CPU, once."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clipsearch.cli.console import UsageError, get_device, progress, say
from clipsearch.cli.options import LibraryOption, PlainFormatOption
from clipsearch.errors import LibraryNotFound, UnknownModel
from clipsearch.output.render import table, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clipsearch.encoders.compiler.compile import Compilation
    from clipsearch.types import OnProgress

WAYS = {"written": "written by hand", "exported": "exported by torch"}


def compile(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="As for `index --model`: by default that of the library, else `default`.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights for an architecture.", show_default=False),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "int8"],
        typer.Option(help="fp32 is exact; auto and int8: int8 if its vectors are near enough."),
    ] = "auto",
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Compare int8 with fp32 on up to 256 of these images too: by default the "
            "folders of the library. Repeatable.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even if it is compiled already.")] = False,
    format: PlainFormatOption = "table",
    library: LibraryOption = None,
) -> None:
    """Make a model several times faster on a CPU.

    Queries then need no torch, and start in a fraction of the time. It is done once a model and
    used from then on; the files lie in your cache folder ($CLIPSEARCH_CACHE). On a graphics card
    torch is faster, and stays in use.

    \b
    clipsearch compile
    clipsearch compile mini --precision fp32
    clipsearch compile ViT-B-32/openai --images ~/Pictures
    """
    if checkpoint and not model:
        raise UsageError("--checkpoint needs a MODEL: which architecture is it?")
    from clipsearch.encoders.compiler.compile import compile_model

    own_model, folders = _of_library(library)
    start = monotonic()
    with progress() as draw:
        made = compile_model(
            model or own_model or "default",
            checkpoint=checkpoint,
            precision=precision,
            images=folders if images is None else images,
            force=force,
            progress=draw,
        )
    if format == "json":
        write_json(made.to_dict(), sys.stdout)
        return
    table(("model", made.name), _rows(made), sys.stdout)
    if made.fresh:
        say(f"compiled in {monotonic() - start:,.0f} s.")
    else:
        say("compiled already; --force does it anew.")


def compile_at_first(
    model: str | None,
    images: Sequence[Path],
    library: Path | None,
    draw: OnProgress | None,
    precision: str = "auto",
) -> None:
    """Compile the model that indexes these images, if it never was; say so if it cannot be.

    A name that is mistyped does not wait for that; fp16 and bf16 are for torch.
    """
    if precision not in ("auto", "fp32", "int8") or not any(
        path.expanduser().exists() for path in images
    ):
        return
    from clipsearch.encoders import compile_once
    from clipsearch.library import Library

    if model is None:
        # A library that is about to be made has none yet.
        with suppress(LibraryNotFound, UnknownModel), Library.open(library) as found:
            model = found.models()[0].spec
    name = model or "default"
    reason = compile_once(
        name, device=get_device(), precision=precision, images=images, progress=draw
    )
    if reason:
        say(reason)


def _of_library(path: Path | None) -> tuple[str | None, list[Path]]:
    """Return the model and the folders of the library; nothing if there is none."""
    from clipsearch.library import Library

    try:
        with Library.open(path) as found:
            status = found.status()
    except LibraryNotFound:
        if path is not None:  # one that was named has to be there
            raise
        return None, []
    return status.model, [Path(root) for root in status.roots]


def _rows(made: Compilation) -> list[tuple[str, str]]:
    measured = made.manifest.gate
    rows = [
        ("precision", made.manifest.precision),
        ("image tower", WAYS[made.manifest.ways["image"]]),
        ("text tower", f"{WAYS[made.manifest.ways['text']]}, in fp32"),
    ]
    if measured:
        rows += [
            ("int8 compared", f"with fp32 on {measured.images} images"),
            ("mean cosine", f"{measured.cosine:.5f} (the least {measured.worst:.5f})"),
            ("nearest ten", f"{100 * measured.overlap:.1f} % the same"),
        ]
    if made.reason:
        rows.append(("fp32, since", made.reason))
    return [*rows, ("on disk", f"{made.bytes / 1e6:,.1f} MB"), ("folder", str(made.folder))]
