"""The `clipsearch` command: parse arguments, call one method of Library, write its results.

Results go to stdout; progress and messages to stderr. Exit codes: 0 done, 1 could not, 2 usage,
3 some files failed under `--strict`, 130 interrupted. The module of a command is imported when the
command is called. None of them imports torch, faiss or sqlalchemy at its top, so that a query
starts in a fraction of a second and `--help`, which imports all of them, stays quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from clipsearch import __version__
from clipsearch._util import watch_first_steps
from clipsearch.catalog.address import MAP_VARIABLE, READ_VARIABLE
from clipsearch.cli import console
from clipsearch.cli.commands import Commands, group_of
from clipsearch.errors import ClipsearchError

COMMANDS = {
    "index": "index",
    "embed": "embed",
    "ingest": "ingest",
    "query": "query",
    "similar": "query",
    "classify": "classify",
    "matrix": "classify",
    "learn": "learn",
    "eval": "evaluate",
    "calibrate": "evaluate",
    "topics": "grouping",
    "dupes": "grouping",
    "status": "library",
    "export": "library",
    "copy": "copy",
    "errors": "library:list_errors",
    "remove": "library",
    "relocate": "index",
    "check": "library",
    "rebuild": "library",
    "models": "models:show_models",
    "compile": "models",
    "use": "models",
    "serve": "serve",
    "demo": "demo",
    "tokens": "models",
}
"""Command -> the module of this package, and its function where it has another name, in the order of the help."""
SETTINGS: dict[str, Any] = {
    # Plain help: it reads the same on a terminal, in a pipe and in the README.
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
}
app = typer.Typer(
    name="clipsearch",
    no_args_is_help=True,
    cls=group_of(
        Commands({name: f"{__name__}.{file}" for name, file in COMMANDS.items()}, SETTINGS)
    ),
    **SETTINGS,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"clipsearch {__version__}")
        raise typer.Exit


@app.callback()
def clipsearch(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What models run on: cpu, cuda, cuda:1, mps; by default $CLIPSEARCH_DEVICE, "
            "else the fastest there is.",
            show_default=False,
        ),
    ] = None,
    read_url: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            callback=console.without_password,
            help="A replica of the server of a shared library, which is read until something is "
            "written; by default $CLIPSEARCH_READ_URL.",
            show_default=False,
        ),
    ] = None,
    mapped: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="STORED=HERE",
            help="A folder as a shared library has it, and where it is on this machine. Repeatable; by "
            "default $CLIPSEARCH_MAP, with ; between two.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search and classify your images by what they show, on your own machine.

    \b
    clipsearch index ~/Pictures
    clipsearch query "a dog on the beach"
    clipsearch classify cat dog horse
    """
    console.set_device(device)
    if read_url:
        os.environ[READ_VARIABLE] = read_url
    if mapped:
        os.environ[MAP_VARIABLE] = ";".join(mapped)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: the only place where errors become text."""
    _write_utf8(sys.stdout, sys.stderr)
    console.show_own_warnings()
    watch_first_steps(console.announce)
    try:
        app(arguments if arguments is None else list(arguments), prog_name="clipsearch")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    except Exception as error:
        if console.was_interrupted():
            return console.INTERRUPTED
        if isinstance(error, ClipsearchError):
            console.say_error(error)
        elif isinstance(error, OSError):
            where = f": {error.filename}" if error.filename else ""
            console.say(f"error: {error.strerror or error}{where}")
        elif os.environ.get("CLIPSEARCH_DEBUG"):
            raise
        else:  # a defect of ours: the traceback is for who asks for it
            console.say(
                f"error: {type(error).__name__}: {error}",
                "This is a defect in clipsearch. Set CLIPSEARCH_DEBUG=1 to see where it happened.",
            )
    return 1


def _write_utf8(*streams: object) -> None:
    """Write UTF-8 whatever the locale, and file names byte for byte as the system has them."""
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
