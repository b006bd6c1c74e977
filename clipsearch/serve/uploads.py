"""Read posted requests: as JSON, or as a form that brings image files along."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Self

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from clipsearch._util import quote
from clipsearch._util.documents import BadDocument, parse_json
from clipsearch.errors import ImageError, QueryError
from clipsearch.serve.schemas import LibraryRequest, parse_form
from clipsearch.serve.service import Answer

_UPLOAD = "upload"  # the name of the field that holds files
_MAX_UPLOADS, _MAX_FIELDS = 16, 2000
_FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class PostedRequest:
    """A posted request, and the image files that came with it.

    Attributes
    ----------
    request
        Validated.
    uploads
        Paths of the files; they exist as long as the context of `read`.
    """

    request: LibraryRequest
    uploads: list[Path]

    @classmethod
    @asynccontextmanager
    async def read(cls, request: Request, model: type[LibraryRequest]) -> AsyncIterator[Self]:
        """Read a request from its body.

        Parameters
        ----------
        request
            Of Starlette.
        model
            The kind of request that is expected.

        Yields
        ------
        The request; its files are removed when the context ends.

        Raises
        ------
        pydantic.ValidationError
            An unknown field, or a value beyond the limits.
        QueryError
            The body can be read neither as JSON nor as a form.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _FORM_TYPES:
            yield cls(model.model_validate(_parse_json(await request.body())), [])
            return
        async with request.form(max_files=_MAX_UPLOADS, max_fields=_MAX_FIELDS) as form:
            with tempfile.TemporaryDirectory(prefix="clipsearch-") as folder:
                uploads = await _save_files(form, Path(folder))
                yield cls(parse_form(model, _text_fields(form)), uploads)

    def answer(self, ask: Callable[..., Answer]) -> Answer:
        """Ask the service, and name the uploaded images as their sender does.

        Parameters
        ----------
        ask
            A method of `Service` that takes the request and `uploads`.

        Returns
        -------
        The answer.

        Raises
        ------
        ClipsearchError
            What the service raises.
        """
        names = {str(path): path.name for path in self.uploads}
        try:
            answer = ask(self.request, uploads=self.uploads)
        except ImageError as error:
            if error.path not in names:
                raise
            raise type(error)(names[error.path], error.reason) from error
        for one in answer["results"]:
            one["path"] = names.get(one["path"], one["path"])
        for path, name in names.items():
            answer["warnings"] = [warning.replace(path, name) for warning in answer["warnings"]]
        return answer


def describe_body(model: type[LibraryRequest]) -> dict[str, Any]:
    """Describe the body of a posted request for OpenAPI.

    Parameters
    ----------
    model
        The kind of request.

    Returns
    -------
    The part `requestBody` of the description of a route.
    """
    schema = model.model_json_schema()
    file = {"type": "string", "format": "binary"}
    uploads = {_UPLOAD: {"type": "array", "items": file, "maxItems": _MAX_UPLOADS}}
    form = {**schema, "properties": {**schema["properties"], **uploads}}
    content = {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _parse_json(body: bytes) -> Any:
    try:
        return parse_json(body)
    except BadDocument as error:
        raise QueryError(
            f"the body is neither a form nor JSON ({error}): send it as application/json, or "
            "images as multipart/form-data."
        ) from error


def _text_fields(form: FormData) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if name != _UPLOAD:
            if isinstance(value, UploadFile):
                raise QueryError(
                    f"{quote(name)} holds a file: send images as {_UPLOAD!r}, "
                    f"`curl -F {_UPLOAD}=@image.jpg`."
                )
            fields.setdefault(name, []).append(value)
    return fields


async def _save_files(form: FormData, folder: Path) -> list[Path]:
    """Write the files of a form, each into a folder of its own: two may have one name."""
    paths = []
    for number, file in enumerate(form.getlist(_UPLOAD)):
        if not isinstance(file, UploadFile):
            raise QueryError(f"{_UPLOAD!r} has to be a file: `curl -F {_UPLOAD}=@image.jpg`.")
        # Only the last part of the name, whichever system it comes from.
        name = PurePath((file.filename or "").replace("\\", "/")).name.replace("\0", "")[-100:]
        path = folder / str(number) / (name if name.strip(".") else "image")
        path.parent.mkdir()
        path.write_bytes(await file.read())
        paths.append(path)
    return paths
