"""`clipsearch copy`: move a library between a folder and PostgreSQL."""

from __future__ import annotations

from typing import Annotated

import typer

from clipsearch._util import plural
from clipsearch.cli.console import progress, say, without_password
from clipsearch.library.copy_library import copy_library


def copy(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM", callback=without_password, help="A library: a folder or an address."
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO",
            callback=without_password,
            help="A folder or an address, postgresql://USER@HOST/DATABASE, without one.",
        ),
    ],
) -> None:
    """Copy a library to another place.

    A folder, or a schema of a PostgreSQL with pgvector that several machines share.
    All rows are compared afterwards.
    A copy that was interrupted goes on where it ended.

    \b
    clipsearch copy index postgresql://ann@photos.example/library
    clipsearch copy 'postgresql://ann@photos.example/library?schema=animals' animals
    """
    with progress() as on_progress:
        counts = copy_library(source, target, on_progress=on_progress)
    say(
        f"copied and compared: {plural(counts['file'], 'file')}, {plural(counts['content'], 'image')}, "
        f"{plural(counts['embedding'], 'vector')}, {plural(counts['label'], 'label')}."
    )
