"""Images of a library as documents for LangChain: `pip install langchain-core clipsearch`."""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from clipsearch import Hit, Library


class ImageRetriever(BaseRetriever):
    """Finds images by text in an open library; `invoke`, `batch` and chains work as with any other."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    library: Library
    k: int = 4
    where: str | None = None
    """A filter, such as `taken >= 2024 and width > 2000`."""
    under: str | None = None
    """Only images in this folder and below."""
    relevant: bool = False
    """Leave out images that are probably not what was asked for."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        found = self.library.search(
            query, k=self.k, where=self.where, under=self.under, relevant=self.relevant
        )
        return [as_document(hit) for hit in found]


def as_document(hit: Hit) -> Document:
    """Return a hit as a document: its title, caption or name as text, path, score and facts beside."""
    facts = hit.record.facts if hit.record else None
    text = (facts and (facts.title or facts.description)) or Path(hit.path).stem
    return Document(page_content=text, metadata=hit.to_dict(), id=hit.path)


if __name__ == "__main__":
    with Library.open(sys.argv[1]) as library:
        for document in ImageRetriever(library=library).invoke(" ".join(sys.argv[2:])):
            print(f"{document.metadata['relevance']:.2f}  {document.metadata['path']}")
