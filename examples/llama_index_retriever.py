"""Images of a library as nodes for LlamaIndex: `pip install llama-index-core clipsearch`."""

from __future__ import annotations

import sys
from pathlib import Path

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle

from clipsearch import Hit, Library


class ImageRetriever(BaseRetriever):
    """Finds images by text in an open library; query engines take it as any other retriever.

    `where` is a filter, such as `taken >= 2024 and width > 2000`; `under` names a folder; `relevant`
    leaves out images that are probably not what was asked for.
    """

    def __init__(
        self,
        library: Library,
        *,
        k: int = 4,
        where: str | None = None,
        under: str | None = None,
        relevant: bool = False,
    ) -> None:
        super().__init__()
        self._search = lambda text: library.search(
            text, k=k, where=where, under=under, relevant=relevant
        )

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [as_node(hit) for hit in self._search(query_bundle.query_str)]


def as_node(hit: Hit) -> NodeWithScore:
    """Return a hit as a node of its file; its score is the relevance, where that was judged."""
    facts = hit.record.facts if hit.record else None
    text = (facts and (facts.title or facts.description)) or Path(hit.path).stem
    node = ImageNode(id_=hit.path, text=text, image_path=hit.path, metadata=hit.to_dict())
    return NodeWithScore(node=node, score=hit.score if hit.relevance is None else hit.relevance)


if __name__ == "__main__":
    with Library.open(sys.argv[1]) as library:
        for found in ImageRetriever(library).retrieve(" ".join(sys.argv[2:])):
            print(f"{found.score:.3f}  {found.metadata['path']}")
