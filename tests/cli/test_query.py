"""A query in a fresh process: it imports what it needs and no more, and finds what others find."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import pytest
import typer.main
from catalog_rows import entry, model

from clipsearch.calibration import Context, label_probabilities
from clipsearch.catalog import Catalog, embeddings, selection
from clipsearch.catalog import records as images
from clipsearch.catalog.checksums import CHECKSUM_FUNCTIONS
from clipsearch.cli import app
from clipsearch.cli.commands import converter
from clipsearch.encoders import Encoder, load_encoder
from clipsearch.encoders.compiler.compile import compile_model
from clipsearch.library import Library
from clipsearch.vectors.ranking import is_in

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "clipsearch" / "samples"
FORBIDDEN = {
    "torch", "torchvision", "open_clip", "timm", "transformers", "sqlalchemy", "pandas", "faiss",
    "scipy", "sklearn", "matplotlib", "PIL", "pydantic", "rich", "filelock", "fastapi", "numpy.ma",
    "jinja2",
}  # fmt: skip
FORBIDDEN_IN_QUERIES = {
    "logging", "secrets", "hmac", "random", "concurrent.futures", "numpy.typing",
}  # fmt: skip
NOT_FOR_QUERIES = {
    "clipsearch.types.operations", "clipsearch.indexing", "clipsearch.images", "clipsearch.filters.parser",
    "clipsearch.library.classify", "clipsearch.library.collection", "clipsearch.calibration.fit",
}  # fmt: skip
ODD = (
    "naïve café Straße",
    "赤い馬に乗る少年",
    "🐎👍🏽 e\u0301",
    "&amp;amp; &lt;b&gt;",
    " a\t b\u00a0c ",
    "İ’s",
)


def fresh(*arguments: str) -> tuple[Any, set[str]]:
    """Run the command in a new process; return its JSON, and which forbidden modules it loaded."""
    out, loaded = run_command(*arguments)
    return (json.loads(out) if "json" in arguments else out), loaded & FORBIDDEN


def run_command(*arguments: str) -> tuple[str, set[str]]:
    """Run the command in a new process; return what it prints, and all modules that it loaded."""
    code = (
        "import sys; from clipsearch.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout, set(run.stderr.splitlines()[-1].split())


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of some samples, with the compiled model."""
    compile_model("mini", precision="fp32")
    folder = tmp_path_factory.mktemp("cold") / "library"
    images = sorted(SAMPLES.glob("*.webp"))[:40]
    with Library.open_or_create(folder, model="mini") as library:
        library.index(list(map(str, images)))
        library.search("a horse")  # encodes the background and keeps it
    return folder


def test_a_query_imports_nothing_heavy_and_finds_the_same_in_every_process(samples: Path) -> None:
    found, loaded = fresh("query", "a blue horse", "-k", "5", "-L", str(samples), "-f", "json")
    assert loaded == set()
    with Library.open(samples, encoder=load_encoder("mini", engine="torch")) as library:
        expected = library.search("a blue horse", k=40)
    scores = {hit.path: hit.score for hit in expected}
    assert len(found) == 5
    for hit, best in zip(found, expected, strict=False):
        assert hit["score"] == pytest.approx(scores[hit["path"]], abs=1e-4)
        assert hit["score"] == pytest.approx(best.score, abs=1e-4)


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "paths"])
def test_a_query_imports_few_modules(samples: Path, form: str) -> None:
    _, loaded = run_command("query", "a blue horse", "-L", str(samples), "-f", form)
    own = {name for name in loaded if name.partition(".")[0] == "clipsearch"}
    # 75 before hits were ordered by relevance, which takes a table of the cohort of images.
    # 76 before rows and files had checksums, which are compared as they are read.
    # 80 before what passes filters, and products with float16 rows, had modules of their own.
    # 82 before a snapshot could consist of segments, 83 before embeddings could come from elsewhere.
    assert len(own) <= 84
    assert loaded & FORBIDDEN_IN_QUERIES == set()
    assert own & NOT_FOR_QUERIES == set()


@pytest.mark.slow
def test_a_query_makes_few_dataclasses(samples: Path) -> None:
    # Python writes and compiles the methods of each: a third of a millisecond, ten times an import
    # of a small module. A named tuple takes a quarter of that.
    code = (
        "import sys; from clipsearch.cli import main; main(sys.argv[1:]); "
        "print(*{value.__qualname__ for name, module in list(sys.modules.items()) "
        "if name.startswith('clipsearch') for value in vars(module).values() "
        "if isinstance(value, type) and hasattr(value, '__dataclass_fields__')}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "query", "a blue horse", "-L", str(samples)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    made = run.stderr.splitlines()[-1].split()
    assert {"Hit", "Head"} <= {*made} and len(made) <= 28, sorted(made)


def test_a_search_from_python_imports_no_more_than_the_command_does(samples: Path) -> None:
    code = (
        "import sys; from clipsearch import Library; library = Library.open(sys.argv[1]); "
        "library.search('a blue horse', k=5); print(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(samples)], capture_output=True, text=True, check=True
    )
    python = set(run.stdout.split())
    _, command = run_command("query", "a blue horse", "-k", "5", "-L", str(samples), "-f", "json")
    assert "clipsearch.library.search" in python and "clipsearch.library.explore" not in python
    assert {name for name in python - command if name.startswith("clipsearch")} == set()
    assert python & FORBIDDEN == set()
    assert len(python) <= len(command)


@pytest.mark.parametrize("arguments", [("--version",), ("status",), ("tokens", "a horse")])
def test_small_commands_import_nothing_heavy(samples: Path, arguments: tuple[str, ...]) -> None:
    library = () if arguments == ("--version",) else ("-L", str(samples))
    assert fresh(*arguments, *library)[1] == set()


def test_every_text_finds_what_open_clips_own_encoder_finds(samples: Path) -> None:
    torch = load_encoder("mini", engine="torch")
    with Library.open(samples) as compiled, Library.open(samples, encoder=torch) as reference:
        for text in ODD:
            found, expected = (
                {hit.path: hit.score for hit in library.search(text, k=None)}
                for library in (compiled, reference)
            )
            assert found.keys() == expected.keys() and len(found) == 40
            for path, score in found.items():
                assert score == pytest.approx(expected[path], abs=1e-4)


# --- what is relevant, counted by one product -----------------------------------------------


@pytest.fixture
def library(
    tmp_path: Path, toy_encoder: Encoder, make_images: Callable[..., list[Path]]
) -> Library:
    made = Library.create(tmp_path / "library", encoder=toy_encoder)
    made.index([str(make_images(50)[0].parent)])
    return made


@pytest.mark.parametrize("query", [("tree",), ("tree", "rain"), ("2:red", "-1:car")])
def test_the_count_is_that_of_judging_every_image(library: Library, query: tuple[str]) -> None:
    found = library.search(query, k=3)
    every = library.search(query, k=None)
    assert list(found) == list(every)[:3]
    assert found.relevant == every.relevant == sum((h.relevance or 0) >= 0.5 for h in every)
    if query == ("tree",):
        rows = library.encoder.encode_texts(["tree"])
        stored = library.embeddings()
        background = library._session.background()
        plain = Context(("",), library.encoder.info.logit_scale)
        context = background.with_cohort(plain, rows, background.log_mean_exp(stored.vectors))
        logits = library.calibration().logits(stored.vectors @ rows.T, context)
        likely = label_probabilities(logits, 0.1)[:, 0]
        assert found.relevant == int((likely >= 0.5).sum())


def test_an_image_as_query_is_counted_as_when_all_are_ranked(library: Library) -> None:
    file = next(iter(library.search("tree", k=1))).path
    found = library.similar(file, k=2)
    every = library.similar(file, k=None)
    assert (found.relevant, found.searched) == (every.relevant, every.searched)
    assert list(found) == list(every)[:2]


# --- live vectors ----------------------------------------------------------------------------


class Explaining:
    """A connection that notes how SQLite goes about each statement."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.plans: list[str] = []

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        plan = self.connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        self.plans += [row[3] for row in plan]
        return self.connection.execute(sql, values)

    def executemany(self, sql: str, rows: Any, /) -> sqlite3.Cursor:
        raise AssertionError("a search writes nothing")


def test_what_a_search_asks_of_the_catalog_is_looked_up_and_not_scanned(tmp_path: Path) -> None:
    with Catalog.create(tmp_path) as catalog:
        first = catalog.add_model(model())
        catalog.commit([entry(f"/{number}") for number in range(20)], first)
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as raw:
        for name, (count, function) in CHECKSUM_FUNCTIONS.items():
            raw.create_function(name, count, function)
        asking = Explaining(raw)
        assert embeddings.vectors(asking, first, ids=[7, 3])[0].tolist() == [3, 7]
        assert sorted(images.hits(asking, [3, 7])) == [3, 7]
        assert selection.live_ids(asking, [7, 99]).tolist() == [7]
        assert embeddings.max_id(asking, first) == 20
    scanned = re.compile(r"SCAN (embedding|file|content)|id>\?")
    assert [plan for plan in asking.plans if scanned.search(plan)] == []


@pytest.mark.parametrize("size", [0, 1, 7])
def test_what_is_among_others_is_what_numpy_says(size: int) -> None:
    rng = np.random.default_rng(size)
    among = rng.choice(20, size, replace=False).astype(np.int64)
    ids = rng.integers(0, 20, (3, 8))
    assert np.array_equal(is_in(ids, among), np.isin(ids, among))


# --- options ---------------------------------------------------------------------------------

GIVEN = (
    "",
    "a",
    "7",
    "0",
    "-3",
    "007",
    "1_0",
    "+5",
    "2.5",
    "1e3",
    "nan",
    "table",
    "Table",
    "٣",
    "70000",
)


def test_options_are_read_as_typer_reads_them() -> None:
    group: Any = typer.main.get_command(app)
    for command in group.commands.values():
        hints = get_type_hints(command.callback, include_extras=True)
        for param in command.params:
            several = param.multiple or param.nargs == -1
            for text in GIVEN:
                try:
                    plain = converter(hints[param.name])(text)
                except (TypeError, ValueError):
                    continue  # typer is asked
                value = (text,) if several else text
                judged = param.process_value(None, value)
                assert (list(judged) if several else judged) == ([plain] if several else plain)
                assert type(judged[0] if several else judged) is type(plain)


def test_what_is_not_plain_is_left_to_typer() -> None:
    assert converter(int)("12") == 12 and converter(float)("0.5") == 0.5
    for hint, text in ((int, "1.0"), (int, "x"), (float, "nan"), (Literal["a"], "b"), (bool, "1")):
        with pytest.raises((TypeError, ValueError)):
            converter(hint)(text)
