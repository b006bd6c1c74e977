"""The HTTP front: questions under /v1, and the search page. The only door to FastAPI."""

from __future__ import annotations

import hashlib
import io
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from clipsearch import __version__, errors
from clipsearch.errors import CannotServe, ClipsearchError
from clipsearch.output.render import write_json
from clipsearch.serve.asked import Asked, ClassifyAsked, KnownPath, SearchAsked, SimilarAsked
from clipsearch.serve.guard import LOOPBACK, Guard
from clipsearch.serve.posted import Posted, body_schema
from clipsearch.serve.service import Answer, Service

PAGE = Path(__file__).with_name("page")
STATUSES: Mapping[type[ClipsearchError], int] = {
    errors.UnknownImage: 404,
    errors.ImageTooLarge: 413,
    errors.ImageError: 422,
    errors.QueryError: 400,
    errors.LibraryLocked: 503,
    errors.ModelUnavailable: 503,
}
"""What an error means to HTTP: that of its class or the nearest one above, else 500."""
MEDIA_TYPES = {"HEIF": "image/heic", "JPEG2000": "image/jp2", "PPM": "image/x-portable-anymap"}
THUMBNAILS = Annotated[
    int | None,
    Query(ge=16, le=2048, description="A JPEG that fits into this square; else the file itself."),
]

api = APIRouter(prefix="/v1")
pages = APIRouter(include_in_schema=False)


def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


Asking = Annotated[Service, Depends(_service)]


# --- questions -----------------------------------------------------------------------------


@api.get("/search")
def search(asked: Annotated[SearchAsked, Query()], service: Asking) -> Response:
    """Find images by words, by images of the library, or both."""
    return _json(service.search(**asked.given()))


@api.post("/search", openapi_extra=body_schema(SearchAsked))
async def search_posted(request: Request, service: Asking) -> Response:
    """Find images; as JSON, or as a form with images of one's own as files `upload`."""
    return await _posted(request, SearchAsked, service.search)


@api.get("/similar")
def similar(asked: Annotated[SimilarAsked, Query()], service: Asking) -> Response:
    """Find the images nearest to one of the library."""
    return _json(service.similar(**asked.given()))


@api.post("/classify", openapi_extra=body_schema(ClassifyAsked))
async def classify(request: Request, service: Asking) -> Response:
    """Label images of the library, or those sent as files `upload`, with words of one's own."""
    return await _posted(request, ClassifyAsked, service.classify)


@api.get("/status")
def status(service: Asking) -> Response:
    """Say what the library holds, and which heads are served."""
    return _json(service.status())


@api.get("/models")
def models(service: Asking) -> Response:
    """List models: size, languages, licence."""
    return _json(service.models())


@api.get("/image", response_class=Response)
def image(
    path: Annotated[KnownPath, Query()],
    service: Asking,
    size: THUMBNAILS = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return an image of the library: its file as it was indexed, or a thumbnail."""
    if size is not None:
        return _file(service.thumbnail(path, size), "image/jpeg", if_none_match)
    data, record = service.original(path)
    format_ = record.facts.format
    return _file(data, MEDIA_TYPES.get(format_, f"image/{format_.lower()}"), if_none_match)


async def _posted(request: Request, model: type[Asked], ask: Callable[..., Answer]) -> Response:
    async with Posted.read(request, model) as posted:
        return _json(await run_in_threadpool(posted.answered, ask))


# --- the page ------------------------------------------------------------------------------


@pages.get("/")
def page(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return the search page."""
    return _file((PAGE / "index.html").read_bytes(), "text/html; charset=utf-8", if_none_match)


@pages.get("/page.css")
def style(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return how the page looks."""
    return _file((PAGE / "page.css").read_bytes(), "text/css; charset=utf-8", if_none_match)


@pages.get("/page.js")
def script(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Return what the page does."""
    kind = "text/javascript; charset=utf-8"
    return _file((PAGE / "page.js").read_bytes(), kind, if_none_match)


@pages.get("/healthz")
def healthz() -> Response:
    """Say that the server is up."""
    return Response(status_code=204)


# --- answers -------------------------------------------------------------------------------


def _json(value: Any, status: int = 200) -> Response:
    stream = io.StringIO()
    write_json(value, stream)
    return Response(
        stream.getvalue(),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _file(data: bytes, media_type: str, if_none_match: str | None) -> Response:
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if if_none_match is not None and tag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


def _failed(_: Request, error: Exception) -> Response:
    """Answer with the name and the message of an error of ours."""
    kinds = [STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES]
    value = {"error": type(error).__name__, "message": str(error)}
    return _json(value, next(iter(kinds), 500))


def _misread(_: Request, error: Exception) -> Response:
    """Answer to words that are not understood, or beyond the limits."""
    assert isinstance(error, RequestValidationError | ValidationError)
    told = [
        f"{'.'.join(str(part) for part in found['loc'] if part != 'query')}: {found['msg']}"
        for found in error.errors()[:5]
    ]
    return _json({"error": "BadRequest", "message": "; ".join(told)}, 422)


def _unknown(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name = {404: "NotFound", 405: "MethodNotAllowed"}.get(error.status_code, "BadRequest")
    return _json({"error": name, "message": str(error.detail)}, error.status_code)


def _defect(_: Request, error: Exception) -> Response:
    """Answer to what should not happen; the traceback is in the server's log."""
    message = f"{type(error).__name__}: this is a defect in clipsearch; the server's log has more."
    return _json({"error": "Defect", "message": message}, 500)


# --- the server ----------------------------------------------------------------------------


def application(service: Service) -> FastAPI:
    """Return the application (ASGI), without the guard before it."""
    # Without FastAPI's own pages of documentation, which load scripts from other servers.
    made = FastAPI(
        title="clipsearch",
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    made.state.service = service
    made.include_router(api)
    made.include_router(pages)
    for kind, handler in (
        (ClipsearchError, _failed),
        (RequestValidationError, _misread),
        (ValidationError, _misread),
        (HTTPException, _unknown),
        (Exception, _defect),
    ):
        made.add_exception_handler(kind, handler)
    return made


def listen(host: str, port: int) -> socket.socket:
    """Return the socket to serve on; port 0 takes a free one. Raises CannotServe."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotServe(
            f"cannot listen on {host}, port {port}: {reason}. Choose others with --host and --port."
        ) from error


def server(
    service: Service, listening: socket.socket, *, token: str | None = None
) -> uvicorn.Server:
    """Return the server for a socket of `listen`.

    Raises CannotServe for a place that others reach without a token.
    """
    host, port = listening.getsockname()[:2]
    if token is None and host not in LOOPBACK:
        raise CannotServe(f"{host} can be reached from other machines: give the server a token.")
    guarded = Guard(application(service), token=token, cookie=f"clipsearch-{port}")
    config = uvicorn.Config(
        guarded,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def run(service: Service, listening: socket.socket, *, token: str | None = None) -> None:
    """Serve until interrupted. Raises what `server` does."""
    server(service, listening, token=token).run(sockets=[listening])
