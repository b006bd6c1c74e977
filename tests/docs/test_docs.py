"""Commands and Python of README.md and docs/ run, in order, in one folder per page."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

import clipsearch
from clipsearch.cli import app, main
from clipsearch.images import IMAGE_SUFFIXES
from clipsearch.images.ignore import IGNORE_FILE

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_RUNS = re.compile(r"^```(bash|console|python)$", re.MULTILINE)
RUNNING = [page for page in PAGES if _RUNS.search(page.read_text("utf-8"))]
RUN, SHOWN = {"bash", "console", "python"}, {"sh", "text"}

# The only commands that no test runs: they install, or need the network.
NOT_RUN = {
    "./scripts/bench/all",
    # A test runs them for a shorter time: tests/test_torture.py.
    "./scripts/torture --minutes 10",
    "./scripts/torture --only corruption --minutes 1 --seed 7",
    "./scripts/torture --self-test",
    "clipsearch demo",
    "pip install clipsearch",
    "python scripts/bench/codes.py",
    "python scripts/bench/codes.py --spectrum even",
    "python scripts/bench/text_recall.py FOLDER --sizes 3000 30000 100000",
    "python scripts/bench/text_recall.py --mini --sizes 10000 30000 100000",
    "python scripts/bench/encode.py --device cuda",
    # A test compares the page with what it writes: tests/docs/test_scale.py.
    "python scripts/bench/scale.py",
    # A test runs it for a small size: tests/docs/test_growth.py.
    "python scripts/bench/ten_million.py",
    # Tests run them on clusters and services of this machine: tests/distributed.
    "ray start --head                                   # on one machine",
    "ray start --address HEAD:6379                      # on the others",
    "clipsearch embed s3://bucket/photos --to s3://bucket/parts --ray HEAD:6379",
    # A test runs them on a service of this machine: tests/cli/test_index.py.
    "clipsearch index s3://bucket/photos",
    'clipsearch query "a cat on a chair" --under s3://bucket/photos/2024',
    # Tests run them on a server of this machine: tests/cli/test_copy.py.
    "pip install 'clipsearch[postgres]'",
    "clipsearch copy library postgresql://ann@photos.example/photos",
    'clipsearch query "a cat on a chair" -L postgresql://ann@photos.example/photos',
    "export CLIPSEARCH_LIBRARY='postgresql://ann@photos.example/photos?sslmode=verify-full'",
    "clipsearch index /mnt/photos",
    "clipsearch serve",
    # A test runs it with other folders: tests/catalog/test_mounts.py.
    "clipsearch --map /mnt/photos=/Volumes/photos index /Volumes/photos",
    "clipsearch index ~/Pictures -L photos",
    "clipsearch index ~/Pictures -L photos --model multilingual",
    "clipsearch use multilingual -L photos",
    "clipsearch use default -L photos",
    "clipsearch index ~/Pictures -L own --model ViT-B-32 --checkpoint weights.pt",
    "pip install 'clipsearch[serve]'",
    "pip install 'clipsearch[mcp]'",
    "clipsearch serve -L library --open",
    "clipsearch serve -L library --head animals.head.json",
    "clipsearch serve -L library --mcp",
    "clipsearch serve -L library --host 0.0.0.0 --port 9000",
}


def _name(page: Path) -> str:
    """Return the name of a page in the list of tests."""
    return page.relative_to(ROOT).with_suffix("").as_posix()


class Block(NamedTuple):
    language: str
    text: str


class Run(NamedTuple):
    code: int
    out: bytes
    err: str
    shown: str = ""
    """What a terminal shows: both streams, in the order of writing."""


def blocks(markdown: str) -> list[Block]:
    """Return the fenced blocks; one that is never closed swallows the rest."""
    fence = re.compile(r"^```([^\n]*)\n(.*?)(?:^```[ ]*$|\Z)", re.MULTILINE | re.DOTALL)
    return [Block(language.strip(), text) for language, text in fence.findall(markdown)]


def commands(block: Block) -> list[str]:
    """Return the lines to type, continued ones joined; in `console` those after a `$`."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def arguments(command: str) -> list[str]:
    """Return the arguments of a `clipsearch ...` command as a shell passes them on."""
    show = f"clipsearch() {{ printf '%s\\0' \"$@\"; }}; {command}"
    out = subprocess.run(["bash", "-c", show], capture_output=True, check=True).stdout
    return os.fsdecode(out).split("\0")[:-1]


class _Shown(io.BytesIO):
    """A stream that writes to a terminal as well."""

    def __init__(self, terminal: io.BytesIO) -> None:
        super().__init__()
        self.terminal = terminal

    def write(self, content: Any) -> int:
        self.terminal.write(content)
        return super().write(content)


@contextmanager
def _captured(
    terminal: io.BytesIO | None = None,
) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    terminal = terminal or io.BytesIO()
    out, err = (
        io.TextIOWrapper(_Shown(terminal), encoding="utf-8", write_through=True) for _ in range(2)
    )
    with redirect_stdout(out), redirect_stderr(err):
        yield out, err


def _written(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue()


def run(command: str) -> Run:
    """Run one line: clipsearch in this process, so that torch is loaded once; the rest by bash."""
    ours, _, others = command.partition(" | ")
    if not ours.startswith("clipsearch "):
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
        return Run(done.returncode, done.stdout, done.stderr.decode())
    terminal = io.BytesIO()
    with _captured(terminal) as (out, err):
        code = main(arguments(ours))
    found = Run(code, _written(out), _written(err).decode(), terminal.getvalue().decode())
    if code or not others:
        return found
    done = subprocess.run(["bash", "-c", others], input=found.out, capture_output=True, check=False)
    return Run(done.returncode, done.stdout, found.err + done.stderr.decode())


def run_all(markdown: str) -> dict[str, Run]:
    """Run every command and every block of Python in order; fail at the first that does not work."""
    done: dict[str, Run] = {}
    names: dict[str, Any] = {"__name__": "readme"}
    for block in blocks(markdown):
        if block.language == "python":
            with _captured() as (out, _):
                exec(compile(block.text, "README.md", "exec"), names)  # noqa: S102 - our own README
            done[block.text] = Run(0, _written(out), "")
        elif block.language in RUN:
            for command in commands(block):
                done[command] = run(command)
                assert done[command].code == 0, f"{command}\n{done[command].err}"
    return done


# What a user's process shows as a line on stderr is no error here.
SHOWS_WARNINGS = pytest.mark.filterwarnings("default::UserWarning")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with the bundled images in `images`, and no library anywhere."""
    shutil.copytree(Path(clipsearch.__file__).with_name("samples"), tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLIPSEARCH_LIBRARY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@SHOWS_WARNINGS
@pytest.mark.slow
def test_every_example_of_the_readme_runs(folder: Path) -> None:
    images = len(list((folder / "images").glob("*.webp")))
    done = run_all(README)
    index = done["clipsearch index images --model mini -L index"]
    assert re.search(rf"\b{images}\s+added", index.out.decode())
    assert done['clipsearch query "orange boy riding a blue horse" --relevant'].out.strip()
    assert (folder / "similar.html").read_text("utf-8").startswith("<!doctype html>")
    (python,) = (result for block, result in done.items() if block.startswith("from clipsearch"))
    assert len(python.out.splitlines()) == 3


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 8192


@SHOWS_WARNINGS
@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNING, ids=_name)
def test_every_example_of_a_page_runs(folder: Path, page: Path) -> None:
    done = run_all(page.read_text("utf-8"))
    assert done
    if page.stem != "search":
        return
    assert b'"score"' in done['clipsearch query "a dog" -f json'].out
    assert len(list((folder / "best").iterdir())) == 3
    assert (folder / "dogs.html").read_text("utf-8").startswith("<!doctype html>")
    assert len((folder / "dogs.csv").read_text("utf-8").splitlines()) == 101
    for command, result in done.items():
        if command.startswith(("clipsearch query", "clipsearch similar")) and "-o" not in command:
            assert "Pixel" in command or "| xargs" in command or result.out.strip(), command


@pytest.mark.parametrize(
    "broken",
    [
        "```bash\nclipsearch status\n```",  # there is no library here
        "```bash\nclipsearch query --no-such-option x\n```",
        "```console\n$ clipsearch nonsense\noutput\n```",
        "```bash\nclipsearch models -f json | grep -q no-such-model\n```",
        "```bash\nls no-such-file\n```",
    ],
)
def test_a_command_that_breaks_is_found(folder: Path, broken: str) -> None:
    with pytest.raises(AssertionError):
        run_all(broken)


def test_python_that_breaks_is_found(folder: Path) -> None:
    with pytest.raises(ImportError):
        run_all("```python\nfrom clipsearch import NoSuchName\n```")


def test_lines_are_read_as_a_shell_reads_them() -> None:
    block = Block("console", "$ clipsearch query 'a  b' \\\n  --where \"x = 'y'\"\nits output\n")
    (command,) = commands(block)
    assert arguments(command) == ["query", "a  b", "--where", "x = 'y'"]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=_name)
def test_every_block_says_whether_it_is_run(page: Path) -> None:
    text = page.read_text("utf-8")
    assert {block.language for block in blocks(text)} <= RUN | SHOWN
    assert len(re.findall("^```", text, re.MULTILINE)) == 2 * len(blocks(text))


def test_only_a_few_known_commands_are_not_run() -> None:
    written = [page for page in PAGES if page != DOCS / "reference/cli.md"]  # that is help
    texts = [README, *(page.read_text("utf-8") for page in written)]
    untested = [block for text in texts for block in blocks(text) if block.language in SHOWN]
    found = [c for b in untested if b.language == "sh" for c in commands(b)]
    assert set(found) == NOT_RUN
    shown = "".join(block.text for block in untested if block.language == "text")
    # A synopsis, with brackets around what may be left out, is no command.
    assert not re.search(r"^\W*(clipsearch|pip|import|from) [^\[\n]*$", shown, re.MULTILINE)


def test_commands_that_are_not_run_can_be_read() -> None:
    group: Any = typer.main.get_command(app)
    for command in NOT_RUN:
        name, *rest = shlex.split(command)
        if name == "clipsearch":
            # Options of all commands stand before its name, each with a value.
            before, after = (rest[:2], rest[2:]) if rest[0].startswith("-") else ([], rest)
            group.make_context("clipsearch", [*before, after[0]])
            group.commands[after[0]].make_context(after[0], after[1:])
        elif name.startswith("./"):
            assert os.access(ROOT / name, os.X_OK)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=_name)
def test_every_command_and_option_that_the_text_names_exists(page: Path) -> None:
    group: Any = typer.main.get_command(app)
    params = [p for c in (group, *group.commands.values()) for p in c.params]
    options = {o for p in params for o in (*p.opts, *p.secondary_opts)} | {"--", "--help"}
    text = page.read_text("utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", prose)
    named = {span.split()[1] for span in spans if span.startswith("clipsearch ")}
    assert named <= {*group.commands, "--device", "COMMAND"}
    ours = [span for span in spans if not span.startswith(("python ", "scripts/"))]
    given = {word for span in ours for word in span.split() if word.startswith("--")}
    assert given <= options


def test_every_command_is_shown() -> None:
    group: Any = typer.main.get_command(app)
    texts = [README, *(page.read_text("utf-8") for page in PAGES)]
    shown = {name for text in texts for name in re.findall(r"clipsearch ([a-z]+)", text)}
    assert set(group.commands) - shown == set()


def test_the_table_of_formats_is_that_of_the_code() -> None:
    text = (DOCS / "reference/formats.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ((?:`\.\w+` ?)+)\|", text, re.MULTILINE)
    assert {
        s: name for name, cells in rows for s in re.findall(r"`(\.\w+)`", cells)
    } == IMAGE_SUFFIXES
    assert IGNORE_FILE in (DOCS / "guides/indexing.md").read_text("utf-8")


def test_the_table_of_presets_is_that_of_the_code() -> None:
    from clipsearch.encoders.registry import PRESETS

    text = (DOCS / "guides/models.md").read_text("utf-8")
    for preset in PRESETS.values():
        (row,) = re.findall(rf"^\| `{preset.name}` \|.*$", text, re.MULTILINE)
        size = f"{preset.size_mb:,} MB" if preset.repo else "none"
        assert [cell.strip() for cell in row.split("|")[3:6]] == [
            *(size, preset.languages, preset.licence)
        ]
        assert not preset.repo or preset.spec in row


def test_every_field_of_filters_is_documented() -> None:
    from clipsearch.filters.fields import FIELDS

    text = (DOCS / "reference/filters.md").read_text("utf-8")
    table = text.partition("| field | kind | is |")[2].partition("\n\n")[0]
    first = "".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 2)
    assert set(re.findall(r"`(\w+)`", first)) == set(FIELDS)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not _leads_somewhere(link, page)] == []


def _leads_somewhere(link: str, page: Path) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in _anchors(target.read_text("utf-8")))


def _anchors(markdown: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", markdown), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


# --- the site --------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r"[\w/-]+\.md", text.partition("nav:")[2]))
    assert named == {page.relative_to(DOCS).as_posix() for page in PAGES}


def test_the_map_of_packages_is_that_of_the_layers() -> None:
    from test_layers import DOORS, ORDER

    text = (DOCS / "explanation/architecture.md").read_text("utf-8")
    table = text.partition("| packages, top to bottom |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [set(re.findall(r"`(\w+)`", cells[0])) for cells in rows] == [set(row) for row in ORDER]
    heavy = {
        name: row for row, cells in zip(ORDER, rows, strict=True) for name in cells[2].split(", ")
    }
    doors = {("Pillow" if name == "PIL" else name): room for name, room in DOORS.items()}
    shown = {name: doors[name] for name in heavy if name}
    assert all(room in heavy[name] for name, room in shown.items())


@pytest.mark.slow
def test_the_reference_of_commands_is_their_help() -> None:
    script = [sys.executable, "scripts/cli_reference.py", "--check"]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
