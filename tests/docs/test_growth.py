"""Growth is measured right, and what it stands on: fabricated libraries, and rclip itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bench_runs import BENCH, run
from postgres_server import server

from clipsearch.types import ModelInfo


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """Let the scripts' files be imported, as they import each other."""
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


# --- growth ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_operations_are_measured_at_every_size_and_recall_is_compared(cache: Path) -> None:
    chosen = ("search", "search, where 1 %", "search, under a folder", "query", "check", "status")
    found = run("growth", cache, "--sizes", "300", "1100", "--operations", *chosen)
    seconds, memory, small, large = found["tables"]
    assert seconds["columns"] == memory["columns"] == ["operation", "300", "1,100"]
    assert [row[0] for row in seconds["rows"]] == [*chosen]
    assert all(cell > 0 for table in (seconds, memory) for row in table["rows"] for cell in row[1:])
    for table in (small, large):
        assert [row[0] for row in table["rows"]] == [*chosen, "the yardstick"]
        assert all(row[2] > 0 and 10 < row[3] < 2000 for row in table["rows"])
    recalls = {claim["what"]: claim["value"] for claim in found["claims"]}
    errors = [recalls.pop(what) for what in [*recalls] if "error of the number" in what]
    assert len(recalls) == 8 and min(recalls.values()) >= 0.99
    assert len(errors) == 2 and max(errors) < 0.1
    # Files of the images are there, so that hits are not left out as missing.
    assert len(list((cache / "stores").glob("*-300/images/000000/*.jpg"))) == 300


def test_an_operation_that_is_not_known_is_refused(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from growth import main

    assert main(["--quick", "--cache", str(cache), "--operations", "serach"]) == 2
    assert "choose operations from: search, " in capsys.readouterr().err


def test_what_takes_too_long_is_ended_and_said(tmp_path: Path) -> None:
    from growth import Measured, _round
    from operations import Operation

    took = Measured()
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    _round(Operation("x", timeout=0.5), took, [sys.executable, "-c", child], tmp_path)
    assert took.stopped == took.cell == "> 0" and took.first is None
    failing = Measured()
    _round(Operation("x"), failing, [sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    assert failing.stopped == "failed (3)"


def test_figures_are_compared_with_those_before_by_the_yardstick() -> None:
    from common import Options, Report
    from growth import YARD, Measured, tell
    from operations import YARDSTICK_BEFORE, Operation

    one = Operation("query", ("query",), before={10: 4.0}, goals={10: 1.5}, goals_mb={10: 90})
    warm = Operation("search", goals={10: 0.004})
    found = {
        "query": Measured([2.0, 2.0, 3.0], [2.0] * 3, [50.0, 80.0, 100.0], 9.0),
        "search": Measured([0.002], [0.002], [50.0], 0.003),
        # This machine takes twice as long for the same.
        YARD.name: Measured([2 * YARDSTICK_BEFORE], [1.0], [60.0], 1.0),
    }
    report = Report.begin("growth", Options.parse("", []))
    tell(report, 10, [warm, one], found)
    (table,) = report.tables
    row = table.rows[1]
    assert row == ["query", 2.0, 2.0, 100.0, 9.0, 4.0, "2.00×", "4.00×", 1.5]
    claims = {claim.what: claim for claim in report.claims}
    assert claims["10 images: query"].value == 2.0 and not claims["10 images: query"].holds
    assert not claims["10 images: query: most memory"].holds
    assert claims["10 images: query, over the one before, by the yardstick"].value == 4.0
    assert claims["10 images: search"].value == 2.0 and claims["10 images: search"].unit == "ms"


def test_memory_and_time_may_not_grow_where_they_must_not() -> None:
    from growth import Measured, _growth
    from operations import Operation

    def took(seconds: float, peak: float) -> Measured:
        return Measured([seconds], [seconds], [peak], seconds)

    one = Operation("x", ("x",), steady=True, growth=(10_000, 100_000, 15.0))
    sound = _growth(one, {1_000: took(1, 1), 10_000: took(1, 100), 100_000: took(14, 140)})
    assert len(sound) == 2 and all(claim.holds for claim in sound)
    late = _growth(one, {10_000: took(1, 100), 100_000: took(16, 160)})
    assert len(late) == 2 and not any(claim.holds for claim in late)
    assert _growth(one, {10_000: took(1, 100), 100_000: Measured(stopped="> 150")}) == []


@pytest.mark.slow
def test_the_first_minute_is_measured_with_a_model_compiled_anew(cache: Path) -> None:
    import first_minute
    from common import Options, Report

    options = Options.parse("", ["--quick", "--cache", str(cache)])
    report = Report.begin("growth", options)
    cache.mkdir(exist_ok=True)
    first_minute.measure(report, options)
    (table,) = report.tables
    assert [row[0] for row in table.rows] == [
        *("compile", "index, 4 images", "first query", "second query", "first topics"),
        "index of tiny files, 200 images",
    ]
    assert all(float(row[1] or 0) > 0 and float(row[3] or 0) > 20 for row in table.rows)
    assert len(report.claims) == 5 and all(claim.required for claim in report.claims)


def test_growth_has_a_section_of_its_own(tmp_path: Path) -> None:
    from common import Options, Report, Table
    from growth import SECONDS
    from tables import filled, read

    options = Options.parse("", ["--results", str(tmp_path)])
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- speed -->\nold\n<!-- /speed -->\n<!-- speed: growth -->\nas it was\n<!-- /speed -->\n",
        "utf-8",
    )
    index = Report.begin("index", options)
    index.tables.append(Table("Indexing, 1 MP", ["way", "a second"], [["naive", 3.0]]))
    index.save(options)
    text = filled(page, read(tmp_path))
    assert "| naive | 3.00 |" in text and "as it was" in text
    growth = Report.begin("growth", options)
    growth.tables += [
        Table(SECONDS, ["operation", "1,000"], [["query", 0.25]]),
        Table("1,000 images", ["operation", "s"], [["query", 0.251]]),
    ]
    growth.save(options)
    first, second = filled(page, read(tmp_path)).split("<!-- speed: growth -->")
    assert "| naive | 3.00 |" in first and "| query |" not in first
    assert "| query | 0.250 |" in second and "0.251" not in second and "naive" not in second


# --- fabricated libraries --------------------------------------------------------------------


def _info(dim: int = 32) -> ModelInfo:
    return ModelInfo("made-up", dim, 100.0, None, fingerprint="f" * 64, spec="made-up")


def test_a_library_grows_as_if_it_had_been_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fabricate

    from clipsearch.catalog import Catalog

    monkeypatch.setattr(fabricate, "BATCH", 64)
    told: list[str] = []
    whole = fabricate.fabricate(tmp_path / "whole", 300, _info(), tell=told.append)
    assert told[-2].startswith("300 of 300 images, ") and told[-2].endswith("0:00:00 left")
    assert told[-1] == "writing the snapshot"
    grown = tmp_path / "grown"

    def killed(message: str) -> None:
        if message.startswith("128 of"):
            raise KeyboardInterrupt

    monkeypatch.setattr(fabricate, "TELL_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fabricate.fabricate(grown, 300, _info(), tell=killed)
    for rows in (130, 300, 300):
        fabricate.fabricate(grown, rows, _info())
    found = []
    for folder in (whole, grown):
        with Catalog.open(folder) as catalog:
            (model_id,) = catalog.models()
            records = catalog.records()
            ids, vectors = catalog.vectors(model_id)
            found.append((records, ids.tolist(), vectors.tobytes()))
            # What is whole is not written again.
            assert len(catalog.snapshots(model_id)) == 1
    assert len(found[0][0]) == 300 and found[0] == found[1]


def test_made_up_images_can_be_files_that_index_finds_unchanged(tmp_path: Path) -> None:
    import fabricate

    from clipsearch import Library, load_encoder

    info = load_encoder("mini").info
    images = tmp_path / "images"
    fabricate.fabricate(tmp_path / "library", 40, info, files=images)
    with Library.open(tmp_path / "library") as library:
        report = library.index([images])
    assert (report.unchanged, report.added, report.updated, report.removed) == (40, 0, 0, 0)


# --- rclip itself ----------------------------------------------------------------------------


def test_rclips_database_gets_the_vectors_of_a_library(tmp_path: Path) -> None:
    import sqlite3

    from fabricate import path_of
    from real_rclip import fill, hits_of
    from stores import blocks

    database = tmp_path / "db.sqlite3"
    with sqlite3.connect(database) as made:
        made.execute(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, deleted BOOLEAN, filepath TEXT NOT NULL "
            "UNIQUE, modified_at DATETIME NOT NULL, size INTEGER NOT NULL, vector BLOB NOT NULL, "
            "indexing BOOLEAN, hash TEXT)"
        )
    fill(database, 16, 50, "/some/where")
    with sqlite3.connect(database) as filled:
        rows = filled.execute("SELECT filepath, vector FROM images ORDER BY id").fetchall()
    ((paths, vectors),) = blocks(16, 50, "/some/where")
    assert [path for path, _ in rows] == paths and paths[49] == path_of(49, "/some/where")
    stored = np.stack([np.frombuffer(vector, np.float32) for _, vector in rows])
    assert (stored == vectors).all()
    assert hits_of('score\tfilepath\n0.312\t"/a/b c.jpg"\n') == [("/a/b c.jpg", 0.312)]


def test_a_graph_gets_the_name_of_its_input_that_rclip_knows(tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from real_rclip import _rename_input

    number = onnx.TensorProto.FLOAT
    given, out = (onnx.helper.make_tensor_value_info(name, number, [2]) for name in "xy")
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    graph = onnx.helper.make_graph([node], "twice", [given], [out])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "x.onnx")
    _rename_input(tmp_path / "x.onnx", tmp_path / "input.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "input.onnx")
    (twice,) = session.run(None, {"input": np.array([1, 2], np.float32)})
    assert twice.tolist() == [2, 4]


def test_rclip_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from real_rclip import main

    assert main(["--quick", "--rclip", str(tmp_path / "rclip")]) == 1
    assert "cannot be run" in capsys.readouterr().err


def test_the_names_of_operations_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    from growth import main

    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0 and "where 50 %" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_large_library_is_opened_searched_and_grows(cache: Path) -> None:
    found = run("ten_million", cache)
    (table,) = found["tables"]
    assert [row[1] for row in table["rows"]] == sorted(
        (row[1] for row in table["rows"]), reverse=True
    )
    assert table["rows"][0][1] == 3_000 and all(row[4] == 1 for row in table["rows"])
    values = {claim["what"]: claim["value"] for claim in found["claims"]}
    assert values["added images that were found before"] == 0
    assert values["added images that are found at once"] == 1
    assert values["removed images that are found"] == 0
    assert values["snapshots written for them"] == 0


@pytest.mark.slow
def test_a_library_in_postgresql_answers_as_the_one_that_it_is_a_copy_of(cache: Path) -> None:
    found = run("shared", cache, "--address", server().new_library())
    values = {claim["what"]: claim["value"] for claim in found["claims"]}
    equal = [value for what, value in values.items() if what.endswith("equal answers")]
    assert len(equal) == 5 and set(equal) == {1}
    assert values["copied and compared"] > 0
    assert [row[0] for row in found["tables"][1]["rows"]] == ["a folder", "PostgreSQL"]
