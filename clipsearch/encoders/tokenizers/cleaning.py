"""Cleans texts before they become tokens, as open_clip does, in three kinds."""

from __future__ import annotations

import re
import string
from typing import Literal

Cleaning = Literal["lower", "whitespace", "canonicalize"]
"""CLIP's own, in lower case; white space alone; or lower case without punctuation (SigLIP)."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)
# What ftfy and HTML leave alone: printable ASCII without `&`. Importing ftfy takes longer than
# the rest of a query's tokens.
_PLAIN = re.compile(r"[ -%'-~]*")


def clean(text: str, kind: Cleaning) -> str:
    """Mend wrongly decoded text, resolve HTML entities, collapse white space, and as `kind` says."""
    # Command lines can hold bytes that are no UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    if not _PLAIN.fullmatch(text):
        import html

        import ftfy

        # Twice, as CLIP does it: captions from the web were escaped twice.
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if kind == "canonicalize":
        text = text.replace("_", " ").translate(_PUNCTUATION)
    text = text if kind == "whitespace" else text.lower()
    return " ".join(text.split())
