"""Write docs/reference/cli.md from the help of every command.

    python scripts/cli_reference.py [--check]

With --check nothing is written, and the exit code is 1 if the page is out of date.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "cli.md"
HEAD = """\
# Commands

<!-- Written by scripts/cli_reference.py from the help of the commands. -->

`clipsearch COMMAND --help` prints the same. [Formats](formats.md) has the exit codes.
"""


def page() -> str:
    """Return the page: the help of `clipsearch`, then of each command in its order."""
    from clipsearch.cli import app

    # Help is wrapped to the terminal.
    os.environ |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    commands = list(get_command(app).commands)  # type: ignore[attr-defined]
    parts = [HEAD, _section("clipsearch", [])]
    parts += [_section(f"clipsearch {name}", [name]) for name in commands]
    return "\n".join(parts)


def _section(title: str, arguments: list[str]) -> str:
    from clipsearch.cli import app

    result = CliRunner().invoke(app, [*arguments, "--help"], prog_name="clipsearch")
    if result.exit_code:
        raise SystemExit(f"error: {title} --help failed: {result.output}")
    text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
    return f"## {title}\n\n```text\n{text}\n```\n"


def main() -> int:
    """Write or check the page."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), "utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text("utf-8") == page():
        return 0
    print(
        "docs/reference/cli.md is out of date: run python scripts/cli_reference.py", file=sys.stderr
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
