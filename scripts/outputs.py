"""Run README.md and the pages of docs/ as the tests do, and write the outputs of `console` blocks.

An output that ends in a line `…` keeps its number of lines. Run it after a change of the bundled
model or of a format: `python scripts/outputs.py docs/guides/probabilities.md`, or without names for every page.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from docs import test_docs as docs  # the tests know how a page is run

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
CUT = "…"


def with_outputs(markdown: str) -> str:
    """Run a page in the current folder; return it with the outputs of today."""
    names: dict[str, Any] = {"__name__": "readme"}

    def block(found: re.Match[str]) -> str:
        language, text = found[1].strip(), found[2]
        if language == "python":
            with docs._captured():
                exec(compile(text, "page", "exec"), names)  # noqa: S102 - our own page
        elif language == "console":
            return f"```console\n{output(text)}```"
        elif language in docs.RUN:
            for command in docs.commands(docs.Block(language, text)):
                done(command)
        return found[0]

    return FENCE.sub(block, markdown)


def output(text: str) -> str:
    """Return a `console` block with what its commands print now."""
    parts = re.split(r"^(?=\$ )", text, flags=re.MULTILINE)
    lines: list[str] = []
    for part in filter(None, parts):
        (command,) = docs.commands(docs.Block("console", part))
        typed = part.count("\\\n") + 1
        shown = part.splitlines()
        result = done(command)
        printed = (result.shown or result.out.decode() + result.err).rstrip().splitlines()
        if shown[-1] == CUT:
            printed = [*printed[: len(shown) - typed - 1], CUT]
        lines += [*shown[:typed], *(line.rstrip() for line in printed)]
    return "\n".join(lines) + "\n"


def done(command: str) -> docs.Run:
    """Run a line; stop where it fails."""
    result = docs.run(command)
    if result.code:
        sys.exit(f"{command}\n{result.err}")
    return result


def main() -> None:
    pages = [Path(name).resolve() for name in sys.argv[1:]]
    for page in pages or [ROOT / "README.md", *docs.PAGES]:
        with tempfile.TemporaryDirectory() as name:
            shutil.copytree(ROOT / "clipsearch" / "samples", Path(name) / "images")
            os.environ |= {"XDG_DATA_HOME": f"{name}/data", "HF_HUB_OFFLINE": "1"}
            os.environ.pop("CLIPSEARCH_LIBRARY", None)
            os.chdir(name)
            text = page.read_text("utf-8")
            if (new := with_outputs(text)) != text:
                page.write_text(new, "utf-8")
                print(f"{page.name}: outputs written")
            os.chdir(ROOT)


if __name__ == "__main__":
    main()
