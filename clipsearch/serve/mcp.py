"""The MCP front-end: search and classification as tools for assistants. The only door to mcp.

The program that wants the tools starts `clipsearch serve --mcp` and talks over its stdin and stdout
(Model Context Protocol). Fields and limits are those of the HTTP API.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from clipsearch import __version__
from clipsearch.errors import ClipsearchError
from clipsearch.serve import schemas
from clipsearch.serve.schemas import ClassifyRequest, SearchRequest, SimilarRequest
from clipsearch.serve.service import Answer, Service
from clipsearch.types import Mode

_INSTRUCTIONS = (
    "Searches and classifies the user's own images by what they show. Results name files by their "
    "path, best first. `relevance` is how likely it is that an image is what was asked for; below "
    "0.5 it probably is not. `score` is a cosine and only orders the images."
)
# Images that a classification lists: assistants pay for every word, the counts are of all.
_LISTED = 50


@dataclass(frozen=True, slots=True)
class AssistantTools:
    """The tools; their docstrings are written for the assistant that calls them."""

    service: Service

    def search_images(
        self,
        text: schemas.SearchTextsField,
        exclude: schemas.ExcludedField | None = None,
        image: schemas.ImageTermsField | None = None,
        k: schemas.CountField = None,
        where: schemas.WhereField = None,
        under: schemas.UnderField = None,
        relevant: schemas.RelevantField = False,
    ) -> Answer:
        """Find images by a description of what they show, in plain words.

        `where` filters by facts, e.g. `taken >= 2024-01 and camera like "%Pixel%"`,
        `label = "cat"`, `near(48.85, 2.35, 10)`.
        """
        request = SearchRequest(
            text=text,
            exclude=exclude or [],
            image=image or [],
            k=k,
            where=where,
            under=under,
            relevant=relevant,
        )
        return _refuse_by_tool_error(lambda: self.service.search(request))

    def similar_images(
        self,
        path: schemas.KnownPathField,
        k: schemas.CountField = None,
        where: schemas.WhereField = None,
        under: schemas.UnderField = None,
    ) -> Answer:
        """Find the images that look most like an image of the library."""
        request = SimilarRequest(path=path, k=k, where=where, under=under)
        return _refuse_by_tool_error(lambda: self.service.similar(request))

    def classify_images(
        self,
        labels: schemas.LabelsField,
        path: schemas.KnownPathField | None = None,
        where: schemas.WhereField = None,
        under: schemas.UnderField = None,
        mode: Mode = "open",
        k: Annotated[
            int, Field(ge=1, le=schemas.MAX_RESULTS, description="How many to list.")
        ] = _LISTED,
    ) -> Answer:
        """Say for every image, or the one at `path`, which of the labels fits, or none of them.

        `counts` counts all images by their label, `results` lists the first ones by path.
        """
        request = ClassifyRequest(
            labels=labels, path=path, where=where, under=under, mode=mode, k=k
        )
        return _refuse_by_tool_error(lambda: self.service.classify(request))

    def library_status(self) -> Answer:
        """Say how many images there are, in which folders, with which model and labels."""
        return _refuse_by_tool_error(self.service.status)


def make_mcp_server(service: Service) -> MCPServer[Any]:
    """Make the server with its tools.

    Parameters
    ----------
    service
        Answers the calls.
    """
    server: MCPServer[Any] = MCPServer(
        "clipsearch", version=__version__, instructions=_INSTRUCTIONS, log_level="WARNING"
    )
    tools = AssistantTools(service)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    for tool in (
        tools.search_images,
        tools.similar_images,
        tools.classify_images,
        tools.library_status,
    ):
        server.add_tool(tool, annotations=reads)
    return server


def serve_mcp(service: Service) -> None:
    """Serve over stdin and stdout until they are closed.

    Parameters
    ----------
    service
        Answers the calls.
    """
    make_mcp_server(service).run("stdio")


def _refuse_by_tool_error(ask: Callable[[], Answer]) -> Answer:
    """Pass the message of an error of ours on to the assistant, which can ask better then."""
    try:
        return ask()
    except ClipsearchError as error:
        raise ToolError(str(error)) from error
