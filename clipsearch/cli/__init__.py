"""The `clipsearch` command: parse, make one call of the Library, render.

Results go to stdout; progress and messages to stderr. Exit codes: 0 done, 1 could not, 2 usage,
3 some files failed under `--strict`, 130 interrupted. Heavy modules (torch, faiss, sqlalchemy)
are imported inside the commands, so that `clipsearch --help` is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Annotated

import typer
from typer.core import TyperCommand

from clipsearch import __version__
from clipsearch.cli import console
from clipsearch.cli.calibrate import calibrate
from clipsearch.cli.classify import classify
from clipsearch.cli.compile import compile
from clipsearch.cli.demo import demo
from clipsearch.cli.dupes import dupes
from clipsearch.cli.eval import eval
from clipsearch.cli.index import errors, index, remove
from clipsearch.cli.learn import learn
from clipsearch.cli.library import check, rebuild, status, use
from clipsearch.cli.many import taking_many
from clipsearch.cli.matrix import matrix
from clipsearch.cli.models import models
from clipsearch.cli.query import SignedTerms, query, similar
from clipsearch.cli.tokens import tokens
from clipsearch.cli.topics import topics
from clipsearch.errors import ClipsearchError

app = typer.Typer(
    name="clipsearch",
    no_args_is_help=True,
    # Plain help: it reads the same on a terminal, in a pipe and in the README.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(
        index,
        query,
        similar,
        classify,
        matrix,
        learn,
        eval,
        calibrate,
        topics,
        dupes,
        status,
        errors,
        remove,
        check,
        rebuild,
        models,
        compile,
        use,
        demo,
    ),
    tokens,
)
PARSERS: dict[Callable[..., None], type[TyperCommand]] = {
    classify: taking_many(images="a file or a folder"),
    matrix: taking_many(texts="a text"),
    query: SignedTerms,
}
for command in COMMANDS:
    app.command(cls=PARSERS.get(command))(command)


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
) -> None:
    """Search and classify your pictures by what they show, on your own machine.

    \b
    clipsearch index ~/Pictures
    clipsearch query "a dog on the beach"
    clipsearch classify cat dog horse
    """
    if device:
        os.environ["CLIPSEARCH_DEVICE"] = device


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: the only place where errors become text."""
    _write_utf8(sys.stdout, sys.stderr)
    console.show_own_warnings()
    try:
        app(arguments if arguments is None else list(arguments), prog_name="clipsearch")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    except ClipsearchError as error:
        console.say(f"error: {error}")
    except OSError as error:
        console.say(
            f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        )
    except Exception as error:  # a defect of ours: say so, keep the traceback for who asks for it
        if os.environ.get("CLIPSEARCH_DEBUG"):
            raise
        console.say(
            f"error: {type(error).__name__}: {error}\n"
            "This is a defect in clipsearch. Set CLIPSEARCH_DEBUG=1 to see where it happened."
        )
    return 1


def _write_utf8(*streams: object) -> None:
    """Write UTF-8 whatever the locale, and file names byte for byte as the system has them."""
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
