"""The benches run, compare like with like, and compute their figures right; no time is asserted."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from bench_runs import BENCH, run

ROOT = Path(__file__).parents[2]
PEERS = ("naive", "rclip's way")


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """Let the scripts' files be imported, as they import each other."""
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


# --- each bench ------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_checkouts_are_compared_with_each_other(cache: Path) -> None:
    found = run("versions", cache, str(ROOT))
    (table,) = found["tables"]
    assert [row[0] for row in table["rows"]] == [
        *("a cold query", "indexing", "indexing what is unchanged")
    ]
    assert all(before > 0 and now > 0 for _, before, now, _ in table["rows"])
    assert [claim["required"] for claim in found["claims"]] == [pytest.approx(1 / 1.03)] * 3


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "versions.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "is no checkout of clipsearch" in done.stderr


@pytest.mark.slow
def test_decoding_is_compared_pixel_by_pixel(cache: Path) -> None:
    found = run("decode", cache)
    table, formats = found["tables"]
    assert {row[0] for row in formats["rows"]} >= {"JPEG", "WebP", "HEIC", "PNG", "JPEG, a preview"}
    assert all(min(row[1:]) > 0 for row in formats["rows"][:5])
    whole, exact, default, fast = table["rows"]
    assert whole[2] == 1 and whole[3:] == [None, None]
    assert float(exact[3]) < 0.1 and exact[4] <= 2  # one resampling of the same pixels
    assert float(exact[3]) <= float(default[3]) <= float(fast[3]) < 8
    assert (cache / "quick" / "decode.png").stat().st_size > 1000


@pytest.mark.slow
def test_all_ways_of_indexing_give_the_same_vectors(cache: Path) -> None:
    found = run("index", cache)
    speed, memory, again = found["tables"]
    assert len(speed["rows"]) == 5 and all(row[1] > 0 for row in speed["rows"])
    claims = {claim["what"]: claim for claim in found["claims"]}
    cosines = {what: claim for what, claim in claims.items() if "cosine" in what}
    assert len(cosines) == 4
    for what, claim in cosines.items():
        assert claim["value"] >= claim["required"], what
    ratios = [
        claim for claim in found["claims"] if claim["unit"] == "x" and "over " in claim["what"]
    ]
    assert sum(claim["what"].endswith(("naive", "rclip")) for claim in ratios) == 6
    assert 20 < memory["rows"][0][2] < 4000
    assert [row[0] for row in again["rows"]] == [
        "scandir and stat alone", "clipsearch index, none changed",
    ]  # fmt: skip


@pytest.mark.slow
def test_all_ways_of_asking_find_the_same_images(cache: Path) -> None:
    found = run("cold_query", cache)  # which compares the hits itself
    (table,) = found["tables"]
    assert [row[0] for row in table["rows"]] == [200, 2000]
    assert len(found["claims"]) == 4 and all(claim["value"] > 0 for claim in found["claims"])
    assert {len(seconds) for seconds in found["seconds"].values()} == {1}


@pytest.mark.slow
def test_a_query_is_measured_phase_by_phase(cache: Path) -> None:
    from query_phases import PHASES

    command = [sys.executable, str(BENCH / "cold_query.py"), "--quick", "--phases"]
    subprocess.run([*command, "--cache", str(cache), "--rounds", "2"], check=True)
    found = json.loads((cache / "quick" / "query_phases.json").read_text("utf-8"))
    (table,) = found["tables"]
    assert [row[0] for row in table["rows"]] == ["floor", "200 images", "2,000 images"]
    start, imports, tower, encoded, catalog, vectors, _ = range(1, 1 + len(PHASES))
    floor, small, _ = table["rows"]
    assert floor[catalog] == floor[vectors] == 0
    assert all(small[phase] > 0 for phase in (start, imports, tower, encoded, catalog, vectors))
    assert small[imports] > floor[imports]
    (chart,) = found["charts"]
    assert chart["stacked"] and list(chart["series"]) == list(PHASES)


@pytest.mark.slow
def test_every_kind_of_index_is_measured_against_the_exact_answer(cache: Path) -> None:
    from clipsearch.vectors import KINDS

    found = run("search", cache)
    asked, shares = found["tables"][:2]
    recalls = {row[0]: float(row[2]) for row in asked["rows"]}
    assert {*KINDS, "faiss"} <= recalls.keys()
    # What is stored is float16 everywhere, so that exact ways agree to the last of ten.
    assert recalls["numpy: multiply all"] == recalls["exact"] == 1
    assert min(recalls.values()) >= 0.9
    assert [row[0] for row in shares["rows"]] == [*KINDS, "faiss"]
    assert all(float(cell) >= 0.9 for row in shares["rows"] for cell in row[2::2])


def test_results_become_pages(tmp_path: Path) -> None:
    from common import Claim, Options, Report, Table
    from machine import Machine
    from tables import main

    options = Options.parse("", ["--results", str(tmp_path), "--rounds", "2"])
    report = Report.begin("index", options)
    report.tables.append(
        Table("Indexing, 1 MP", ["way", "a second"], [["naive", 3.14159], ["ours", None]])
    )
    report.tables.append(Table("Memory", ["command", "MB"], [["index", 1501]]))
    report.claims += [
        Claim.of_pairs("ours", [4.0, 6.0, 9.0], [2.0, 2.0, 1.0], required=2.5),
        Claim("memory", 1501.0, "MB", 1500, "<="),
        Claim("nobody asked", 1.0),
    ]
    assert report.save(options) == tmp_path / "index.json"
    assert Report.read(tmp_path / "index.json") == report
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- speed -->\nold\n<!-- /speed -->\nb\n", "utf-8")
    short = tmp_path / "short.md"
    short.write_text("<!-- speed: summary -->\n<!-- /speed -->\n", "utf-8")
    for _ in range(2):  # writing anew changes nothing
        assert main([str(page), str(short), "--results", str(tmp_path)]) == 0
        text = page.read_text("utf-8")
        assert text.startswith("a\n<!-- speed -->\n") and text.endswith("<!-- /speed -->\nb\n")
        assert "old" not in text and "nobody asked" not in text
        assert "| naive | 3.14 |\n| ours |  |" in text
        assert "| ours | 3.00× (2.00 to 9.00) | ≥ 2.50× |" in text
        assert "| memory | 1,501 MB | ≤ 1,500 MB, missed |" in text
        assert report.day in text and Machine.this().processor in text
    summary = short.read_text("utf-8")
    assert "| naive | 3.14 |" in summary and report.day in summary
    assert "3.00×" not in summary and "1,501" not in summary


# --- what they stand on ----------------------------------------------------------------------


def test_ways_are_run_in_turn_after_a_warm_up() -> None:
    from common import in_turn

    calls: list[str] = []

    def way(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    seconds = in_turn({"a": lambda: way("a"), "b": lambda: way("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert seconds == {"a": [3.0, 5.0, 7.0], "b": [4.0, 6.0, 8.0]}


def test_a_claim_is_the_median_of_pairs_and_knows_whether_it_holds() -> None:
    from common import Claim

    claim = Claim.of_pairs("x", [10.0, 30.0, 8.0], [5.0, 10.0, 8.0], required=2.0)
    assert (claim.value, claim.low, claim.high, claim.pairs) == (2.0, 1.0, 3.0, 3)
    assert claim.holds and str(claim).endswith("required >= 2.00×: reached")
    assert not Claim("x", 1.9, required=2.0).holds
    assert Claim("x", 1.9, "MB", 2.0, "<=").holds
    assert not Claim("x", 2.1, "MB", 2.0, "<=").holds
    assert Claim("x", -1.0).holds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0.99993, "1.000"), (0.95, "0.950"), (1.0, "1.00"), (9.996, "10.0"), (12.34, "12.3")],
        *[(123.6, "124"), (1234567.0, "1,234,567"), (0.5, "0.500"), (0.0123, "0.012"), (0.0, "0")],
        *[(1000, "1,000"), ("a", "a"), (None, "")],
    ],
)
def test_figures_are_rounded_when_they_are_shown(value: str | float | None, text: str) -> None:
    from common import shown

    assert shown(value) == text


def test_cosines_and_shares_show_what_is_missing_to_one() -> None:
    from common import with_unit

    assert [with_unit(v, "") for v in (0.99993, 0.99, 1.0)] == ["0.99993", "0.99", "1"]
    assert with_unit(4.5, "x") == "4.50×" and with_unit(1234.0, "MB") == "1,234 MB"


def test_photographs_are_the_same_each_time_and_repeated_ones_are_other_files(
    tmp_path: Path,
) -> None:
    import material

    files = sorted(material.photos(tmp_path / "a", "tiny", 3, of=2).iterdir())
    again = sorted(material.photos(tmp_path / "b", "tiny", 3, of=2).iterdir())
    data = [file.read_bytes() for file in files]
    assert data == [file.read_bytes() for file in again]
    assert len({*data}) == 3
    first, second, third = (np.asarray(PIL.Image.open(io.BytesIO(one))) for one in data)
    assert (first == third).all() and (first != second).any()
    assert first.shape == (240, 320, 3) and first.std() > 20


def test_the_tokens_of_rclips_way_are_those_of_open_clip() -> None:
    import open_clip
    from peer_query import tokens_of

    expected = open_clip.get_tokenizer("ViT-B-32")
    for text in (
        "a photo of a black cat",
        "Naïve café — it's 42€ & more 🐎",
        "x " * 100,
        "",
        "日本",
    ):
        assert tokens_of(text).tolist() == expected([text]).tolist(), text


@pytest.mark.slow
def test_a_process_is_measured_by_itself(tmp_path: Path) -> None:
    from processes import run as measured

    own = np.ones(50_000_000)  # 400 MB here, of which nothing is seen there
    note = tmp_path / "note.json"
    code = "import time; a = bytearray(60_000_000); time.sleep(0.2); print('done')"
    found = measured([sys.executable, "-c", code], note)
    assert found.out == "done\n" and found.seconds >= 0.2
    assert 0 < found.cpu_seconds < found.seconds
    assert 60 < found.peak_mb < 150 < own.nbytes / 1e6
    with pytest.raises(subprocess.CalledProcessError):
        measured([sys.executable, "-c", "raise SystemExit(3)"], note)


def test_all_benches_are_run_by_one_command() -> None:
    text = (BENCH / "all").read_text("utf-8")
    assert os.access(BENCH / "all", os.X_OK)
    benches = {
        path.stem
        for path in BENCH.glob("*.py")
        if "Options.parse(" in path.read_text("utf-8")
        and path.stem
        # Which want something from outside, or hours and 27 GB.
        not in ("common", "versions", "real_rclip", "shared", "ten_million")
    }
    assert benches and benches <= {*text.partition("for bench in ")[2].partition(";")[0].split()}


def test_plots_of_growth_say_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from plots import main

    assert main(["--results", str(tmp_path)]) == 1
    assert "run scripts/bench/cold_query.py first" in capsys.readouterr().err


# --- history ---------------------------------------------------------------------------------


def test_a_run_is_one_line_of_the_history_and_a_slower_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from common import Claim, Options, Report
    from history import append, main, ratios, read, slower

    history = tmp_path / "history.jsonl"
    options = Options.parse("", ["--results", str(tmp_path / "results")])
    for number, value in enumerate((4.0, 4.2, 3.9, 3.0)):
        report = Report.begin("index", options)
        report.claims += [Claim("ours over naive", value), Claim("memory", 200 + number, "MB")]
        append(report, history, commit=f"c{number}")
    runs = read(history)
    assert [run["commit"] for run in runs] == ["c0", "c1", "c2", "c3"]
    assert runs[0]["figures"]["memory"] == {"value": 200.0, "unit": "MB"}
    points = [(1, 4.0), (2, 4.2), (3, 3.9), (4, 3.0)]
    assert ratios(runs) == {"index": {"ours over naive": points}}
    assert slower(runs[:3]) == []
    assert slower(runs) == ["index: ours over naive: 3.00, was 4.00"]
    plot = tmp_path / "history.png"
    assert main(["--history", str(history), "--plot", str(plot)]) == 0
    assert plot.stat().st_size > 1000
    assert "slower: index: ours over naive" in capsys.readouterr().out


def test_finishing_a_bench_appends_to_the_history_unless_it_was_quick(tmp_path: Path) -> None:
    from common import Claim, Options, Report
    from history import read

    for options in (["--quick"], []):
        given = Options.parse("", ["--results", str(tmp_path / "results"), *options])
        report = Report.begin("decode", given)
        report.claims.append(Claim("12 MP", 3.4))
        assert report.finish(given) == 0
    (run,) = read(tmp_path / "history.jsonl")
    assert run["bench"] == "decode" and run["figures"]["12 MP"]["value"] == 3.4
    assert run["commit"] and "/" not in run["machine"]


def test_the_committed_history_can_be_read() -> None:
    from history import HISTORY, ratios, read

    runs = read(HISTORY)
    assert {"encode", "decode", "index", "cold_query", "search"} <= ratios(runs).keys()
    assert all({"bench", "day", "commit", "machine", "figures"} == run.keys() for run in runs)
