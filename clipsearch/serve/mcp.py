"""The MCP front: a library's questions as tools for assistants. The only door to mcp.

The program that wants the tools starts `clipsearch serve --mcp` and talks over its stdin and stdout
(Model Context Protocol). What may be said, and within which limits, is as over HTTP.
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
from clipsearch.serve import asked
from clipsearch.serve.service import Answer, Service
from clipsearch.types import Mode

INSTRUCTIONS = (
    "Searches and classifies the user's own images by what they show. Results name files by their "
    "path, best first. `relevance` is how likely it is that an image is what was asked for; below "
    "0.5 it probably is not. `score` is a cosine and only orders the images."
)
FEW = 50
"""Images that a classification lists: assistants pay for every word, the counts are of all."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools; what they say of themselves is written for who calls them."""

    service: Service

    def search_images(
        self,
        text: asked.SearchTexts,
        exclude: asked.Excluded | None = None,
        image: asked.Images | None = None,
        k: asked.Count = None,
        where: asked.Where = None,
        under: asked.Under = None,
        relevant: asked.Relevant = False,
    ) -> Answer:
        """Find images by a description of what they show, in plain words.

        `where` filters by facts, e.g. `taken >= 2024-01 and camera like "%Pixel%"`,
        `label = "cat"`, `near(48.85, 2.35, 10)`.
        """
        return _told(
            self.service.search,
            text=text,
            exclude=exclude or [],
            image=image or [],
            k=k,
            where=where,
            under=under,
            relevant=relevant,
        )

    def similar_images(
        self,
        path: asked.KnownPath,
        k: asked.Count = None,
        where: asked.Where = None,
        under: asked.Under = None,
    ) -> Answer:
        """Find the images that look most like an image of the library."""
        return _told(self.service.similar, path=path, k=k, where=where, under=under)

    def classify_images(
        self,
        labels: asked.Labels,
        path: asked.KnownPath | None = None,
        where: asked.Where = None,
        under: asked.Under = None,
        mode: Mode = "open",
        k: Annotated[int, Field(ge=1, le=asked.MOST, description="How many to list.")] = FEW,
    ) -> Answer:
        """Say for every image, or the one at `path`, which of the labels fits, or none of them.

        `counts` counts all images by their label, `results` lists the first ones by path.
        """
        return _told(
            self.service.classify,
            labels=labels,
            path=path,
            where=where,
            under=under,
            mode=mode,
            k=k,
        )

    def library_status(self) -> Answer:
        """Say how many images there are, in which folders, with which model and labels."""
        return _told(self.service.status)


def server(service: Service) -> MCPServer[Any]:
    """Return the server with its tools."""
    made: MCPServer[Any] = MCPServer(
        "clipsearch", version=__version__, instructions=INSTRUCTIONS, log_level="WARNING"
    )
    tools = Tools(service)
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    for tool in (
        tools.search_images,
        tools.similar_images,
        tools.classify_images,
        tools.library_status,
    ):
        made.add_tool(tool, annotations=reads)
    return made


def run(service: Service) -> None:
    """Serve over stdin and stdout until they are closed."""
    server(service).run("stdio")


def _told(ask: Callable[..., Answer], **question: Any) -> Answer:
    """Ask; what clipsearch refuses is told to the assistant, which can ask better then."""
    try:
        return ask(**question)
    except ClipsearchError as error:
        raise ToolError(str(error)) from error
