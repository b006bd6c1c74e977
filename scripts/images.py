"""Draw docs/images/contact-sheet.png and matrix.png from the bundled scenes.

    python scripts/images.py

The contact sheet is a screenshot of the output of `clipsearch query -o`, by Chromium.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from clipsearch import Library
from clipsearch.cli import main as clipsearch

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
QUERY, HITS = "on the grass", 8
WIDTH = 1084


def contact_sheet(folder: Path) -> None:
    """Draw the sheet of a query whose hits and relevance can be checked by eye."""
    code = clipsearch(["query", QUERY, "-k", str(HITS), "-o", "sheet.html", "-L", "library"])
    if code:
        raise SystemExit(code)
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 700}, color_scheme="light")
        page.goto((folder / "sheet.html").as_uri())
        page.wait_for_load_state("networkidle")
        sheet = page.locator(".cs-sheet")
        sheet.screenshot(path=str(folder / "sheet.png"))
        browser.close()
    with Image.open(folder / "sheet.png") as image:
        # With a palette: a quarter of the size, and no visible difference.
        image.convert("RGB").quantize(128).save(IMAGES / "contact-sheet.png", optimize=True)


def matrix() -> None:
    """Draw the matrix of docs/guides/matrix.md, by the command that stands there."""
    from docs import test_docs as docs

    text = (ROOT / "docs/guides/matrix.md").read_text("utf-8")
    first, second = docs.commands(docs.blocks(text)[0])
    for command in (first, second):
        if docs.run(command).code:
            raise SystemExit(f"error: {command}")
    shutil.copy("matrix.png", IMAGES / "matrix.png")  # a palette would band its colour bar


def main() -> int:
    """Draw both."""
    sys.path.insert(0, str(ROOT / "tests"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        shutil.copytree(ROOT / "clipsearch" / "samples", folder / "images")
        os.chdir(folder)
        with Library.open_or_create("library", model="mini") as library:
            library.index(["images"])
        contact_sheet(folder)
        matrix()
        os.chdir(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
