"""`clipsearch serve`: run the HTTP server with the search page, or the MCP server."""

from __future__ import annotations

import os
import secrets
import signal
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.cli.console import UsageError, get_device, say
from clipsearch.cli.options import LibraryOption
from clipsearch.heads.head import Head
from clipsearch.library import Library
from clipsearch.serve import load_front_end

if TYPE_CHECKING:
    from clipsearch.serve.service import Service

PORT = 8417
TOKEN = "CLIPSEARCH_TOKEN"
SHORTEST_TOKEN = 16


def serve(
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Where to listen: this machine alone; 0.0.0.0 for all who can reach it, with a "
            "token.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one.")
    ] = PORT,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help=f"What requests have to bring; by default ${TOKEN}. Where others could reach the "
            "server and none is given, one is made.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        list[Path] | None,
        typer.Option(
            "--head",
            metavar="FILE",
            help="A head to serve under the name of its file (animals.head.json: animals). "
            "Repeatable.",
            show_default=False,
        ),
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Show the search page in the web browser.")
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Let the page ask about images, keep the answers in the library, and fit its "
            "probabilities to them. Without it nothing is written.",
        ),
    ] = False,
    mcp: Annotated[
        bool,
        typer.Option(
            "--mcp",
            help="Instead of HTTP, offer tools to an assistant that starts this command (MCP over "
            "stdin and stdout).",
        ),
    ] = False,
    library: LibraryOption = None,
) -> None:
    """Keep a library warm, with a search page and an HTTP API.

    The model is loaded once, and images indexed meanwhile are found at once. The page is at /, the
    questions are under /v1 (their description is /v1/openapi.json). Ends with Ctrl+C.

    \b
    clipsearch serve --open
    clipsearch serve -L photos --port 9000 --head animals.head.json
    clipsearch serve --calibrate --open
    curl "http://127.0.0.1:8417/v1/search?text=a+dog&k=3"
    """
    token = token or os.environ.get(TOKEN) or None
    if mcp and (token or open_ or calibrate):
        raise UsageError(
            "--mcp talks to the program that started it: leave out --token, --open and --calibrate."
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not _is_plain(token)):
        raise UsageError(
            f"a token has at least {SHORTEST_TOKEN} characters: letters, digits, '-' and '_'."
        )
    front_end = load_front_end("mcp" if mcp else "http")
    from clipsearch.serve.service import Service  # it imports pydantic, as both front-ends do

    # Servers end by themselves, after the requests under way; a second Ctrl-C ends them at once.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Library.open(library, device=get_device()) as lib:
        service = Service(lib, _heads(head or ()), calibrates=calibrate)
        if mcp:
            service.warm()
            with suppress(KeyboardInterrupt):
                front_end.serve_mcp(service)
            return
        with front_end.listen(host, port) as listening:
            where, number = listening.getsockname()[:2]
            if token is None and where not in ("127.0.0.1", "::1"):
                token = secrets.token_urlsafe(24)
            service.warm()
            _announce(service, where, number, token, open_)
            with suppress(KeyboardInterrupt):
                front_end.serve_http(service, listening, token=token)


def _announce(service: Service, host: str, port: int, token: str | None, show: bool) -> None:
    """Say where the server is, with what opens it."""
    wanted = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    address = f"http://{wanted}:{port}/" + (f"?token={token}" if token else "")
    status = service.library.status()
    say(f"{status.files:,} images of {status.path} ({status.model}) at {address}")
    say("Ctrl+C ends it.")
    if show and not webbrowser.open(address):
        say("no web browser could be started; open the address in one.")


def _heads(files: Sequence[Path]) -> dict[str, Head]:
    found = {file.name.partition(".")[0]: Head.load(file) for file in files}
    if len(found) < len(files):
        raise UsageError("two heads have one name: rename a file.")
    return found


def _is_plain(token: str) -> bool:
    return token.isascii() and token.replace("-", "").replace("_", "").isalnum()
