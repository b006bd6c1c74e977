"""Questions that are posted: as JSON, or as a form that brings images along."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Self

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from clipsearch.errors import ImageError, QueryError
from clipsearch.serve.asked import Asked, from_fields
from clipsearch.serve.service import Answer

UPLOAD = "upload"
MOST_UPLOADS, MOST_FIELDS = 16, 2000
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True)
class Posted:
    """One question, and the image files that came with it."""

    asked: Asked
    uploads: list[Path]

    @classmethod
    @asynccontextmanager
    async def read(cls, request: Request, model: type[Asked]) -> AsyncIterator[Self]:
        """Read a request; its files are there until the context ends.

        Raises pydantic's ValidationError, or QueryError for a body that cannot be read.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in FORMS:
            yield cls(model.model_validate(_parsed(await request.body())), [])
            return
        async with request.form(max_files=MOST_UPLOADS, max_fields=MOST_FIELDS) as form:
            with tempfile.TemporaryDirectory(prefix="clipsearch-") as folder:
                uploads = await _saved(form, Path(folder))
                yield cls(model.model_validate(from_fields(model, _fields(form))), uploads)

    def answered(self, ask: Callable[..., Answer]) -> Answer:
        """Ask, and name the images that came along as their sender does."""
        names = {str(path): path.name for path in self.uploads}
        try:
            answer = ask(**self.asked.given(), uploads=self.uploads)
        except ImageError as error:
            if error.path not in names:
                raise
            raise type(error)(names[error.path], error.reason) from error
        for one in answer["results"]:
            one["path"] = names.get(one["path"], one["path"])
        for path, name in names.items():
            answer["warnings"] = [said.replace(path, name) for said in answer["warnings"]]
        return answer


def body_schema(model: type[Asked]) -> dict[str, Any]:
    """Return what OpenAPI says of a posted question."""
    schema = model.model_json_schema()
    file = {"type": "string", "format": "binary"}
    uploads = {UPLOAD: {"type": "array", "items": file, "maxItems": MOST_UPLOADS}}
    form = {**schema, "properties": {**schema["properties"], **uploads}}
    content = {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise QueryError(
            f"the body is neither a form nor JSON ({error}): send it as application/json, or "
            "images as multipart/form-data."
        ) from error


def _fields(form: FormData) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if name != UPLOAD:
            found.setdefault(name, []).append(str(value))
    return found


async def _saved(form: FormData, folder: Path) -> list[Path]:
    """Write the files of a form, each into a folder of its own: two may have one name."""
    paths = []
    for number, file in enumerate(form.getlist(UPLOAD)):
        if not isinstance(file, UploadFile):
            raise QueryError(f"{UPLOAD!r} is to be a file: `curl -F {UPLOAD}=@image.jpg`.")
        # Only the last part of the name, whichever system it comes from.
        name = PurePath((file.filename or "").replace("\\", "/")).name.replace("\0", "")[-100:]
        path = folder / str(number) / (name if name.strip(".") else "image")
        path.parent.mkdir()
        path.write_bytes(await file.read())
        paths.append(path)
    return paths
