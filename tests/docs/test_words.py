"""Words that the glossary replaced are gone from code, documentation and messages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GONE = {
    "image": r"pictures?",
    "again, rebuild": r"anew",
    "repair": r"mend(?:s|ed|ing)?",
    "match": r"fulfil(?:s|led)?",
    "this many": r"so many",
    "skip": r"(?<!one )pass over|pass(?:es|ed) over",
    "of your own": r"one's own",
    "margin sampling": r"waver\w*",
    "few-shot result, fit": r"lessons?|teach(?:es|ing)?|taught",
    "cohort-normalised score": r"standings?",
    "genericity penalty": r"vagueness",
    "candidates": r"proposals?|propos(?:e|es|ed|ing)",
    "whoever": r"whoever",
    # The questions of readers may stay: they begin and end on a line of a table or in italics.
    "the thing itself": r"what is(?![^|*?]*\?)|what's",
}
WORDS = {
    word: re.compile(rf"(?<![\w/~<])(?:{pattern})(?![\w>])", re.IGNORECASE)
    for word, pattern in GONE.items()
}
# Technical cases: templates and columns that other tools write, HTML's element, this table.
ALLOWED = {
    "clipsearch/heads/prompts.py": {"image"},
    "clipsearch/_util/documents.py": {"image"},
    "clipsearch/cli/commands.py": {"few-shot result, fit"},  # what people may type instead
    "clipsearch/text/language.py": {"cohort-normalised score", "image"},  # words of English
    "docs/glossary.md": {"image"},
}
PAGES = [
    # The reference of commands is the help of the code.
    *(page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md"),
    *(path for path in ROOT.glob("*.md")),
    ROOT / "requirements/README.md",
]
CODE = sorted((ROOT / "clipsearch").rglob("*.py"))
SERVED = sorted(
    path
    for path in (ROOT / "clipsearch/serve").rglob("*")
    if path.suffix in (".js", ".html", ".css")
)


def gone(text: str, name: str) -> list[str]:
    """Return `line: word: say this` for each word that went."""
    return [
        f"{name}:{number}: {found[0]}: say {word}"
        for number, line in enumerate(text.splitlines(), 1)
        for word, pattern in WORDS.items()
        if word not in ALLOWED.get(name, ())
        for found in [pattern.search(line)]
        if found
    ]


def _all_gone(paths: list[Path]) -> list[str]:
    return [
        line
        for path in paths
        for line in gone(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    ]


def test_the_code_uses_the_words_of_the_glossary() -> None:
    assert _all_gone(CODE) == []


def test_the_page_uses_the_words_of_the_glossary() -> None:
    assert {path.suffix for path in SERVED} == {".js", ".html", ".css"}
    assert _all_gone(SERVED) == []


def test_calibration_uses_the_words_of_its_formula() -> None:
    """Elsewhere a level is one of grey, of a log, of a heading."""
    gone_here = re.compile(
        r"(?<![A-Za-z])(?:levels?|standings?|vagueness)(?![A-Za-z])", re.IGNORECASE
    )
    folders = ("clipsearch/calibration", "scripts/calibration", "tests/calibration")
    files = [file for folder in folders for file in (ROOT / folder).glob("*.*")]
    assert len(files) > 10
    found = [
        f"{file.relative_to(ROOT)}:{number}: {word[0]}"
        for file in files
        if file.suffix in (".py", ".md")
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        # The name of a file in a library stays.
        for word in gone_here.finditer(line.replace('"levels"', ""))
    ]
    assert found == []


def test_the_documentation_uses_the_words_of_the_glossary() -> None:
    assert _all_gone(PAGES) == []


_TWICE = re.compile(r"(?<![-\w./*])([A-Za-z]{2,}) \1(?![-\w./])")


def test_no_word_stands_twice_in_a_row() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {twice[0]}"
        for path in (*CODE, *PAGES)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for twice in [_TWICE.search(line)]
        if twice
    ]
    assert found == []
    assert _TWICE.search("of the the image") and not _TWICE.search("--curve curve.png")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Write the pictures anew.", 2),
        ("index ~/Pictures and <picture>", 0),
        ("recommended, a mention, mended", 1),
        ("Of so many images", 1),
        ("def _standings(scores):", 0),
        ("the standing of a label", 1),
        ("not outstanding", 0),
        ("Return what is left.", 1),
        ("| What is 77? May I search? | [tokens](tokens.md) |", 0),
        ("*Which words? What is in this folder?*", 0),
    ],
)
def test_the_search_finds_words_and_not_parts_of_words(line: str, found: int) -> None:
    assert len(gone(line, "x.py")) == found
