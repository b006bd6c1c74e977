"""The HTTP front-end: the API under /v1, and the search page. The only door to FastAPI."""

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
from clipsearch.output.data import write_json
from clipsearch.serve.guard import LOOPBACK_HOSTS, Guard
from clipsearch.serve.schemas import (
    AnswersRequest,
    ClassifyRequest,
    KnownPathField,
    LibraryRequest,
    QuestionsRequest,
    SearchRequest,
    SimilarRequest,
    describe_faults,
)
from clipsearch.serve.service import Answer, Service
from clipsearch.serve.uploads import PostedRequest, describe_body

_PAGE = Path(__file__).with_name("page")
_PAGE_FILES = {
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "calibrate.js": "text/javascript",
}
_STATUSES: Mapping[type[Exception], int] = {
    errors.UnknownImage: 404,
    errors.NotAllowed: 403,
    errors.ImageTooLarge: 413,
    errors.ImageError: 422,
    errors.QueryError: 400,
    errors.LibraryLocked: 503,
    errors.ModelUnavailable: 503,
    ClipsearchError: 500,
    RequestValidationError: 422,
    ValidationError: 422,
}
"""The HTTP status of an error: that of its class, or of the nearest one above."""
_STATUS_NAMES = {404: "NotFound", 405: "MethodNotAllowed"}
_MEDIA_TYPES = {"HEIF": "image/heic", "JPEG2000": "image/jp2", "PPM": "image/x-portable-anymap"}
_ThumbnailSize = Annotated[
    int | None,
    Query(ge=16, le=2048, description="A JPEG that fits into this square; else the file itself."),
]

_api = APIRouter(prefix="/v1")
_pages = APIRouter(include_in_schema=False)


def _get_service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


_Served = Annotated[Service, Depends(_get_service)]


# --- the API -------------------------------------------------------------------------------


@_api.get("/search")
def get_search(asked: Annotated[SearchRequest, Query()], service: _Served) -> Response:
    """Find images by words, by images of the library, or both."""
    return _respond(service.search(asked))


@_api.post("/search", openapi_extra=describe_body(SearchRequest))
async def post_search(request: Request, service: _Served) -> Response:
    """Find images; as JSON, or as a form with images as files `upload`."""
    return await _respond_to_post(request, SearchRequest, service.search)


@_api.get("/similar")
def get_similar(asked: Annotated[SimilarRequest, Query()], service: _Served) -> Response:
    """Find the images nearest to one of the library."""
    return _respond(service.similar(asked))


@_api.post("/classify", openapi_extra=describe_body(ClassifyRequest))
async def post_classify(request: Request, service: _Served) -> Response:
    """Label images of the library, or those sent as files `upload`, with any labels."""
    return await _respond_to_post(request, ClassifyRequest, service.classify)


@_api.get("/questions")
def get_questions(asked: Annotated[QuestionsRequest, Query()], service: _Served) -> Response:
    """Choose images and labels whose answers tell most about probabilities."""
    return _respond(service.questions(asked))


@_api.post("/answers")
def post_answers(asked: AnswersRequest, service: _Served) -> Response:
    """Keep answers to questions; only with `serve --calibrate`."""
    return _respond(service.save_answers(asked))


@_api.post("/calibrate")
def post_calibrate(service: _Served) -> Response:
    """Fit probabilities to all answers; only with `serve --calibrate`."""
    return _respond(service.calibrate())


@_api.get("/status")
def get_status(service: _Served) -> Response:
    """Return what the library holds, which heads are served, and the calibration."""
    return _respond(service.status())


@_api.get("/models")
def get_models(service: _Served) -> Response:
    """List models: size, languages, licence."""
    return _respond(service.models())


@_api.get("/details")
def get_details(path: Annotated[KnownPathField, Query()], service: _Served) -> Response:
    """Return the facts of an image of the library as labels and texts with units."""
    return _respond(service.details(path))


@_api.get("/image", response_class=Response)
def get_image(
    path: Annotated[KnownPathField, Query()],
    service: _Served,
    size: _ThumbnailSize = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Return an image of the library: its file as it was indexed, or a thumbnail."""
    if size is not None:
        return _respond_file(service.thumbnail(path, size), "image/jpeg", if_none_match)
    data, record = service.read_original(path)
    format_ = record.facts.format
    media_type = _MEDIA_TYPES.get(format_, f"image/{format_.lower()}")
    return _respond_file(data, media_type, if_none_match)


async def _respond_to_post(
    request: Request, model: type[LibraryRequest], ask: Callable[..., Answer]
) -> Response:
    async with PostedRequest.read(request, model) as posted:
        return _respond(await run_in_threadpool(posted.answer, ask))


# --- the page ------------------------------------------------------------------------------


@_pages.get("/")
@_pages.get("/{name}.css")
@_pages.get("/{name}.js")
def get_page_file(
    request: Request, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Return the search page, or a style sheet or script of it."""
    name = request.url.path.removeprefix("/") or "index.html"
    if name not in _PAGE_FILES:
        raise HTTPException(404, f"there is no {name} here.")
    media_type = f"{_PAGE_FILES[name]}; charset=utf-8"
    return _respond_file((_PAGE / name).read_bytes(), media_type, if_none_match)


@_pages.get("/healthz")
def get_health() -> Response:
    """Answer with 204: the server is up."""
    return Response(status_code=204)


# --- responses -----------------------------------------------------------------------------


def _respond(value: Any, status: int = 200) -> Response:
    stream = io.StringIO()
    write_json(value, stream)
    return Response(
        stream.getvalue(),
        status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _respond_file(data: bytes, media_type: str, if_none_match: str | None) -> Response:
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if if_none_match is not None and tag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


def _respond_error(_: Request, error: Exception) -> Response:
    """Answer an error of the table with its name and message."""
    status = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    if isinstance(error, RequestValidationError | ValidationError):
        return _respond({"error": "BadRequest", "message": describe_faults(error.errors())}, status)
    return _respond({"error": type(error).__name__, "message": str(error)}, status)


def _respond_http_error(_: Request, error: Exception) -> Response:
    """Answer what FastAPI refuses: unknown addresses and methods."""
    assert isinstance(error, HTTPException)
    name = _STATUS_NAMES.get(error.status_code, "BadRequest")
    return _respond({"error": name, "message": str(error.detail)}, error.status_code)


def _respond_defect(_: Request, error: Exception) -> Response:
    """Answer an error that should not happen; the traceback is in the server's log."""
    message = f"{type(error).__name__}: this is a defect in clipsearch; the server's log has more."
    return _respond({"error": "Defect", "message": message}, 500)


# --- the server ----------------------------------------------------------------------------


def make_application(service: Service) -> FastAPI:
    """Make the ASGI application, without the guard before it.

    Parameters
    ----------
    service
        Answers the requests.
    """
    # Without FastAPI's own pages of documentation, which load scripts from other servers.
    application = FastAPI(
        title="clipsearch",
        version=__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    application.state.service = service
    application.include_router(_api)
    application.include_router(_pages)
    for kind in (ClipsearchError, RequestValidationError, ValidationError):
        application.add_exception_handler(kind, _respond_error)
    application.add_exception_handler(HTTPException, _respond_http_error)
    application.add_exception_handler(Exception, _respond_defect)
    return application


def listen(host: str, port: int) -> socket.socket:
    """Open the socket to serve on.

    Parameters
    ----------
    host
        A name or an address of this machine.
    port
        0 takes a free one.

    Raises
    ------
    CannotServe
        The address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotServe(
            f"cannot listen on {host}, port {port}: {reason}. Choose others with --host and --port."
        ) from error


def make_http_server(
    service: Service, listening: socket.socket, *, token: str | None = None
) -> uvicorn.Server:
    """Make the server, guard included.

    Parameters
    ----------
    service
        Answers the requests.
    listening
        From `listen`.
    token
        What clients have to send; None where only this machine can reach the server.

    Raises
    ------
    CannotServe
        Other machines reach the server, and there is no token.
    """
    host, port = listening.getsockname()[:2]
    if token is None and host not in LOOPBACK_HOSTS:
        raise CannotServe(f"{host} can be reached from other machines: give the server a token.")
    guarded = Guard(make_application(service), token=token, cookie=f"clipsearch-{port}")
    config = uvicorn.Config(
        guarded,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


def serve_http(service: Service, listening: socket.socket, *, token: str | None = None) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    service, listening, token
        As for `make_http_server`.

    Raises
    ------
    CannotServe
        As `make_http_server` does.
    """
    make_http_server(service, listening, token=token).run(sockets=[listening])
