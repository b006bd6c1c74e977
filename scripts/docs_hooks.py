"""Hook of MkDocs: links from a page to a file outside docs/ lead to the repository."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\]\((\.\./[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the page with its links that leave docs/ as addresses in the repository."""
    folder = posixpath.dirname(posixpath.join("docs", page.file.src_uri))

    def address(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        if target.startswith("docs/"):
            return match[0]
        return f"]({config.repo_url.rstrip('/')}/blob/main/{target})"

    return _LINK.sub(address, markdown)
