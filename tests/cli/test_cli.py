"""The command line: what reaches the Library, what comes out on which stream, and exit codes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import warnings
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import pytest
from conftest import ToyEncoder
from fault_log import logged_fault
from PIL import Image
from postgres_server import server

import clipsearch
from clipsearch import ClipsearchWarning, errors
from clipsearch._util import log_fault
from clipsearch.cli import COMMANDS, console, main
from clipsearch.heads.query import parse_term
from clipsearch.library import Library
from clipsearch.types import (
    Failure,
    Hit,
    IndexReport,
    LabelScore,
    MovedFolder,
    Prediction,
    Progress,
    Results,
    Status,
    Term,
)


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Run]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Run a command line in this process: `cli("query", "a horse").out`."""
    monkeypatch.setenv("COLUMNS", "200")
    before = warnings.showwarning

    def run(*arguments: object) -> Run:
        code = main([str(argument) for argument in arguments])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return Run(code, *capfd.readouterr())

    yield run
    warnings.showwarning = before


# --- the command line alone, on a Library that only takes notes ----------------------------


@dataclass
class Notes:
    """A stand-in for Library: records each call, and returns what the test put into `answers`."""

    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    path: str = "/lib"

    def __getattr__(self, name: str) -> Any:
        if name == "classify_pages":  # does what `classify` does without other images
            return lambda *args, **kwargs: self.classify(*args, images=None, **kwargs)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            answer = self.answers.get(name, self if name.startswith("open") else Results(()))
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        ((args, kwargs),) = [(a, k) for called, a, k in self.calls if called == name]
        return args, kwargs


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Notes:
    notes = Notes()
    folder = tmp_path_factory.mktemp("given")
    monkeypatch.chdir(folder)
    for given in ("a", "b"):  # folders that are there
        (folder / given).mkdir()
    for command in ("options", "grouping", "index", "learn", "library", "models", "query"):
        monkeypatch.setattr(import_module(f"clipsearch.cli.{command}"), "Library", notes)
    return notes


HITS = Results((Hit("/p/a b.jpg", 0.5), Hit("/p/c.jpg", 0.25)), title="horse")
PREDICTIONS = Results(
    (
        Prediction("/p/a.jpg", (LabelScore("cat", 0.75, 0.3), LabelScore("dog", 0.25, 0.2))),
        Prediction("/p/b.jpg", (LabelScore("cat", 0.5, 0.3), LabelScore("dog", 0.5, 0.3))),
        Prediction("/p/c.jpg", (LabelScore("dog", 0.9, 0.3), LabelScore("cat", 0.1, 0.2))),
    ),
    title="cat, dog",
)


def test_every_option_of_query_reaches_the_search(cli: Cli, notes: Notes) -> None:
    line = "query 2:horse tree --image 0.5:a.jpg --image b.jpg --not rain -k 7 --under d"
    facts = ("--where", "width > 2", "--min-score", "0.2", "--truncate", "--missing")
    run = cli(*line.split(), *facts, "-L", "lib")
    assert run.code == 0
    assert notes.call("open") == ((Path("lib"),), {"device": None})
    assert notes.call("search") == (
        (["2:horse", "tree"],),
        {
            "images": ["0.5:a.jpg", "b.jpg"],
            "exclude": ["rain"],
            "label": None,
            "k": 7,
            "where": "width > 2",
            "under": "d",
            "min_score": 0.2,
            "relevant": False,
            "truncate": True,
            "missing": True,
        },
    )
    assert run.out == "" and "no image matches" in run.err


def test_a_negative_weight_is_no_option(cli: Cli, notes: Notes) -> None:
    assert cli("query", "tree", "-1:rain", "--not", "-.5:fog", "-k", 3).code == 0
    (terms,), options = notes.call("search")
    assert [parse_term(term) for term in terms] == [Term("text", "tree"), Term("text", "rain", -1)]
    assert [parse_term(term) for term in options["exclude"]] == [Term("text", "fog", -0.5)]
    assert cli("query", "tree", "-1rain").code == 2


def test_every_option_of_similar_reaches_the_search(cli: Cli, notes: Notes) -> None:
    assert cli("similar", "a.jpg", "-k", 3, "--where", "width > 2", "--under", "d").code == 0
    assert notes.call("similar") == (
        (Path("a.jpg"),),
        {"k": 3, "where": "width > 2", "under": "d", "relevant": False, "missing": False},
    )


@pytest.mark.parametrize("command", ["query", "similar"])
def test_relevant_images_are_all_shown_unless_a_count_is_given(
    cli: Cli, notes: Notes, command: str
) -> None:
    method = {"query": "search", "similar": "similar"}[command]
    for options, k, relevant in (("", 10, False), ("--relevant", None, True)):
        assert cli(command, "a.jpg", *options.split()).code == 0
        assert (notes.call(method)[1]["k"], notes.call(method)[1]["relevant"]) == (k, relevant)
        notes.calls.clear()
    assert cli(command, "a.jpg", "--relevant", "-k", 3).code == 0
    assert notes.call(method)[1]["k"] == 3


def test_the_number_of_relevant_images_is_told_with_a_table(cli: Cli, notes: Notes) -> None:
    judged = (Hit("/p/a.jpg", 0.5, None, 0.93), Hit("/p/c.jpg", 0.25, None, 0.04))
    notes.answers["search"] = Results(judged, title="horse", relevant=1, searched=1240)
    run = cli("query", "horse")
    assert run.err == "1 relevant of 1,240 images.\n"
    assert [line.split() for line in run.out.splitlines()] == [
        ["score", "relevance", "image", "size", "taken"],
        ["0.500", "93", "%", "/p/a.jpg"],
        ["0.250", "4", "%", "/p/c.jpg"],
    ]
    assert cli("query", "horse", "-f", "csv").err == ""


def test_every_option_of_index_reaches_the_library(cli: Cli, notes: Notes, tmp_path: Path) -> None:
    notes.answers["index"] = IndexReport(added=3)
    weights = tmp_path / "w.pt"
    line = "index a b --model ViT-B-32 --exclude *.gif --exclude d/ --hidden --dry-run"
    line += " --no-default-ignores"
    more = "--retry-failed --fast --engine torch --precision fp32 --batch-size 8 --workers 3 -L lib"
    more += " --memory 900 --moved /old=/new --moved /a=b=c"
    run = cli(*line.split(), *more.split(), "--checkpoint", weights)
    assert run.code == 0
    opened = [call for call in notes.calls if call[0].startswith("open")]
    # Nothing is made by a dry run.
    assert opened and all(call == ("open", (Path("lib"),), {"device": None}) for call in opened)
    args, kwargs = notes.call("index")
    assert args == ([Path("a"), Path("b")],)
    assert kwargs.pop("on_progress") is None  # not a terminal
    folder = MovedFolder("/old", "/new", 2, 2)
    assert kwargs.pop("on_moved")(folder) is False  # nobody can be asked
    assert kwargs == {
        "moved": {"/old": "/new", "/a": "b=c"},
        "model": f"ViT-B-32@{weights}",
        "exclude": ["*.gif", "d/"],
        "hidden": True,
        "default_ignores": False,
        "dry_run": True,
        "retry_failed": True,
        "fast": True,
        "engine": "torch",
        "precision": "fp32",
        "batch_size": 8,
        "workers": 3,
        "memory": 900,
    }


@pytest.mark.parametrize("known", [False, True])
def test_paths_that_are_not_there_end_index_before_a_model_is_loaded(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    folder = tmp_path / "library"
    if known:
        Library.create(folder, encoder=ToyEncoder()).close()
    for load in ("load_encoder", "load_model"):
        monkeypatch.delattr(f"clipsearch.library.session.{load}")
    run = cli("index", tmp_path / "nope", "-L", folder)
    assert run.code == 1
    assert run.err.splitlines()[-1] == (
        f"error: there is no such file or folder: {tmp_path / 'nope'}; is its disk connected?"
    )
    assert folder.exists() == known
    if not known:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "notes.txt").write_text("no image")
        run = cli("index", tmp_path / "empty", "-L", folder)
        assert (run.code, folder.exists()) == (1, False)
        expected = f"error: no images found in {tmp_path / 'empty'}: no library was made."
        assert run.err.splitlines()[-1] == expected


@pytest.mark.slow
def test_one_path_that_is_not_there_stops_no_other_and_is_an_error(
    cli: Cli, tmp_path: Path, make_images: Callable[..., list[Path]]
) -> None:
    folder = make_images(2)[0].parent
    run = cli("index", folder, tmp_path / "nope", "--model", "mini", "-L", tmp_path / "library")
    assert run.code == 1
    assert ["2", "added"] in [line.split() for line in run.out.splitlines()]
    assert "error: there is no such file or folder: " in run.err


@pytest.mark.parametrize("given", ["/old", "=/new", "/old="])
def test_a_move_names_two_folders(cli: Cli, tmp_path: Path, given: str) -> None:
    run = cli("index", tmp_path, "--moved", given)
    assert run.code == 2 and "name both folders, as OLD=NEW" in run.err


def test_a_moved_folder_is_relocated_by_its_command(
    cli: Cli,
    tmp_path: Path,
    make_images: Callable[..., list[Path]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    old, new = make_images(2)[0].parent, tmp_path / "new"
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        library.index(old)
    capfd.readouterr()
    old.rename(new)
    run = cli("relocate", old, new, "-L", tmp_path / "library")
    assert run.code == 0
    assert run.err == f"{old} is now {new}: 2 images found there.\n"
    run = cli("relocate", old, new, "-L", tmp_path / "library")
    assert (run.code, run.err) == (
        1,
        f"error: the library knows no image in {old}: `clipsearch status` shows its folders.\n",
    )


def test_every_option_of_classify_reaches_the_library(cli: Cli, notes: Notes) -> None:
    notes.answers["head"] = "the head"
    line = "classify cat dog --template {}. --template openai80 --top 2 --min-probability 0.5"
    line += " --save --truncate --inductive --under d"
    assert cli(*line.split(), "--where", "width > 2").code == 0
    (labels,), kwargs = notes.call("head")
    assert labels == ["cat", "dog"]
    assert kwargs["templates"][0] == "{}." and len(kwargs["templates"]) == 81
    assert kwargs["truncate"] is True
    assert notes.call("classify") == (
        ("the head",),
        {
            "images": None,
            "top": 2,
            "where": "width > 2",
            "under": "d",
            "mode": "open",
            "threshold": {},
            "min_probability": 0.5,
            "inductive": True,
            "save": True,
        },
    )


@pytest.mark.parametrize(
    ("options", "mode", "threshold"),
    [
        ("--closed", "closed", {}),
        ("--multi-label", "multi", {}),
        ("--multi-label --threshold 0.7", "multi", {"": 0.7}),
        ("--multi-label --threshold a=b=0.2 --threshold .6", "multi", {"a=b": 0.2, "": 0.6}),
    ],
)
def test_how_labels_are_judged_reaches_the_library(
    cli: Cli, notes: Notes, options: str, mode: str, threshold: dict[str, float]
) -> None:
    assert cli("classify", "cat", *options.split()).code == 0
    _, kwargs = notes.call("classify")
    assert (kwargs["mode"], kwargs["threshold"]) == (mode, threshold)


@pytest.mark.parametrize(
    ("line", "labels", "images"),
    [
        ("classify cat --images a.jpg b.jpg c", ["cat"], ["a.jpg", "b.jpg", "c"]),
        ("classify cat --images a.jpg b.jpg --top 3", ["cat"], ["a.jpg", "b.jpg"]),
        (
            "classify --images a.jpg --images b.jpg --top 1 cat dog",
            ["cat", "dog"],
            ["a.jpg", "b.jpg"],
        ),
        ("classify --images a.jpg b.jpg -- cat dog", ["cat", "dog"], ["a.jpg", "b.jpg"]),
        ("classify cat --images=a.jpg dog", ["cat", "dog"], ["a.jpg"]),
        ("classify cat -- --images", ["cat", "--images"], None),
    ],
)
def test_images_takes_all_paths_up_to_the_next_option(
    cli: Cli, notes: Notes, line: str, labels: list[str], images: list[str] | None
) -> None:
    run = cli(*line.split())
    assert run.code == 0, run.err
    assert notes.call("head")[0] == (labels,)
    assert notes.call("classify")[1]["images"] == (
        [Path(image) for image in images] if images else images
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("query", "nothing to search for"),
        ("query --not rain", "nothing to search for"),
        ("query x -f xml", "xml"),
        ("query x -k 0", "-k"),
        ("query x --open -f csv", "--open shows a contact sheet"),
        ("query x -0 -f json", "-0 is for paths"),
        ("query x -0 --open", "-0 is for paths"),
        ("similar", "FILE"),
        ("classify", "name the labels"),
        ("classify cat --labels x.txt", "name the labels"),
        ("classify cat --images", "--images needs a file"),
        ("classify cat --images a.jpg --save", "not of --images"),
        ("classify cat --min-probability 2", "--min-probability"),
        ("index", "PATH"),
        ("index a --checkpoint w.pt", "--checkpoint needs --model"),
        ("index a --no-such-option", "--no-such-option"),
        ("frobnicate", "frobnicate"),
    ],
)
def test_wrong_usage_is_explained_on_stderr_with_exit_2(
    cli: Cli, notes: Notes, line: str, complaint: str
) -> None:
    run = cli(*line.split())
    assert run.code == 2
    assert complaint in run.err and "clipsearch" in run.err
    assert run.out == "" and notes.calls == []


def test_an_error_is_one_message_on_stderr_with_exit_1(cli: Cli, notes: Notes) -> None:
    notes.answers["search"] = errors.BadFilter("widht > 3", 0, "no field widht")
    run = cli("query", "x", "--where", "widht > 3")
    assert run == Run(1, "", "error: bad filter: no field widht\n  widht > 3\n  ^\n")


def test_an_error_of_the_system_names_the_file(cli: Cli, notes: Notes, tmp_path: Path) -> None:
    target = tmp_path / "missing" / "out.csv"
    run = cli("query", "x", "-o", target)
    assert run == Run(1, "", f"error: No such file or directory: {target}\n")


def test_a_defect_shows_no_traceback_unless_asked_for(
    cli: Cli, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.answers["search"] = KeyError("boom")
    run = cli("query", "x")
    assert run.code == 1 and "KeyError" in run.err and "CLIPSEARCH_DEBUG" in run.err
    assert "Traceback" not in run.err
    monkeypatch.setenv("CLIPSEARCH_DEBUG", "1")
    with pytest.raises(KeyError, match="boom"):
        cli("query", "x")


def test_control_c_exits_with_130(cli: Cli, notes: Notes) -> None:
    notes.answers["search"] = KeyboardInterrupt()
    run = cli("query", "x")
    assert (run.code, run.out) == (130, "") and "Traceback" not in run.err


def test_an_interrupted_index_reports_and_exits_with_130(cli: Cli, notes: Notes) -> None:
    notes.answers["index"] = IndexReport(added=3, interrupted=True)
    run = cli("index", "a")
    assert run.code == 130
    assert "interrupted" in run.err and "    3  added" in run.out


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_ctrl_c_is_told_wherever_it_ends_index(
    cli: Cli, notes: Notes, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Also as an error of another type, which a module in C or a lock makes of it."""

    def load(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise error from None

    monkeypatch.setattr(notes, "index", load, raising=False)
    run = cli("index", "a")
    assert (run.code, run.out) == (130, "")
    assert "Run the same command again to continue." in run.err


def test_failed_files_are_an_error_only_under_strict(cli: Cli, notes: Notes) -> None:
    failures = tuple(Failure(f"/p/{i}.jpg", "truncated") for i in range(7))
    notes.answers["index"] = IndexReport(added=1, failed=7, failures=failures)
    relaxed, strict = cli("index", "a"), cli("index", "a", "--strict")
    assert (relaxed.code, strict.code) == (0, 3)
    assert relaxed.out == strict.out
    assert "failed: /p/4.jpg: truncated" in strict.err and "/p/5.jpg" not in strict.err
    assert "clipsearch errors" in strict.err
    notes.answers["index"] = IndexReport(added=1)
    assert cli("index", "a", "--strict").code == 0


def test_index_says_how_many_images_have_a_note(cli: Cli, notes: Notes) -> None:
    noted = tuple(Failure(f"/p/{i}.jpg", "its end marker is missing") for i in range(7))
    notes.answers["index"] = IndexReport(added=7, notes=noted)
    run = cli("index", "a", "--strict")
    assert run.code == 0
    assert (
        "7 images indexed though damaged or complained of: `clipsearch errors --notes`" in run.err
    )
    assert "/p/" not in run.err + run.out


@pytest.mark.slow
def test_errors_lists_notes_when_asked(tmp_path: Path, cli: Cli) -> None:
    lib, folder = str(tmp_path / "lib"), tmp_path / "images"
    folder.mkdir()
    for name in ("whole.jpg", "copy.jpg"):
        Image.new("RGB", (32, 24), "teal").save(folder / name)
    cut = (folder / "whole.jpg").read_bytes()[:-2]
    (folder / "cut.jpg").write_bytes(cut)
    (folder / "copy.jpg").write_bytes(cut)
    report = cli("index", str(folder), "-L", lib, "--model", "mini", "-f", "json").json
    assert (report["added"], report["failed"]) == (3, 0)
    assert {Path(one["path"]).name for one in report["notes"]} & {"copy.jpg", "cut.jpg"}
    listed = cli("errors", "--notes", "-L", lib, "-f", "json")
    assert [Path(one["path"]).name for one in listed.json] == ["copy.jpg", "cut.jpg"]
    assert {one["reason"] for one in listed.json} == {"its end marker is missing, and nothing else"}
    failed = cli("errors", "-L", lib)
    assert "no file failed." in failed.err and "2 images indexed though damaged" in failed.err
    cli("remove", str(folder), "-L", lib)
    assert "no indexed image has a note." in cli("errors", "--notes", "-L", lib).err


def test_index_says_what_it_left_out(cli: Cli, notes: Notes) -> None:
    notes.answers["index"] = IndexReport(added=1, left_out={"raw": 7, "system": 1})
    line = "left out: 7 raw files, 1 system folder (--no-default-ignores includes these).\n"
    assert line in cli("index", "a").err
    assert cli("index", "a", "-f", "json").json["left_out"] == {"raw": 7, "system": 1}


def test_the_report_of_index_is_a_table_or_json(cli: Cli, notes: Notes) -> None:
    report = IndexReport(1234, 2, 3, 4, 5, 6, embedded=1236, seconds=12.0)
    notes.answers["index"] = report
    run = cli("index", "a")
    lines = [line.split() for line in run.out.splitlines()[1:]]
    assert lines == [
        ["1,234", "added"],
        ["2", "updated"],
        ["3", "unchanged"],
        ["4", "renamed"],
        ["5", "removed"],
        ["6", "failed"],
    ]
    assert "1,236 images encoded in 12.0 s (103.0 per second)." in run.err
    found = cli("index", "a", "-f", "json").json
    assert found == {**report.to_dict(), "failures": [], "notes": [], "warnings": []}


def test_results_go_to_stdout_and_warnings_to_stderr(cli: Cli, notes: Notes) -> None:
    notes.answers["search"] = Results(HITS.items, warnings=("the index is being rebuilt",))
    run = cli("query", "horse", "-f", "paths")
    assert run == Run(0, "/p/a b.jpg\n/p/c.jpg\n", "warning: the index is being rebuilt\n")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "score  image       size  taken\n0.500  /p/a b.jpg\n0.250  /p/c.jpg\n"),
        (["-0"], "/p/a b.jpg\0/p/c.jpg\0"),
        (["-f", "paths", "-0"], "/p/a b.jpg\0/p/c.jpg\0"),
        (
            ["-f", "jsonl"],
            (
                '{"path": "/p/a b.jpg", "score": 0.5, "relevance": null}\n'
                '{"path": "/p/c.jpg", "score": 0.25, "relevance": null}\n'
            ),
        ),
    ],
)
def test_formats_on_stdout(cli: Cli, notes: Notes, options: list[str], expected: str) -> None:
    notes.answers["search"] = HITS
    assert cli("query", "horse", *options).out == expected


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        ("x.json", [], "[\n  {\n"),
        ("x.jsonl", [], '{"path"'),
        ("x.CSV", [], "path,score,"),
        ("x.html", [], "<!doctype html>"),
        ("x.txt", [], "score  image"),
        ("x.html", ["-f", "paths"], "/p/a b.jpg\n"),
        ("x.txt", ["-0"], "/p/a b.jpg\0"),
    ],
)
def test_the_name_of_the_output_file_chooses_the_format(
    cli: Cli, notes: Notes, tmp_path: Path, name: str, options: list[str], start: str
) -> None:
    notes.answers["search"] = HITS
    target = tmp_path / name
    run = cli("query", "horse", "-o", target, *options)
    assert target.read_text("utf-8").startswith(start)
    assert run == Run(0, "", f"wrote {target}\n")


def test_open_shows_a_contact_sheet_in_the_browser(
    cli: Cli, notes: Notes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: not opened.append(url))
    notes.answers["search"] = HITS
    assert cli("query", "horse", "--open").code == 0
    (page,) = tmp_path.glob("clipsearch-*.html")
    assert opened == [page.as_uri()]
    assert "<h2>horse</h2>" in page.read_text("utf-8")


def test_where_no_browser_starts_the_page_is_named(
    cli: Cli, notes: Notes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    run = cli("query", "horse", "--open", "-o", tmp_path / "page.html")
    assert run.code == 0 and f"open {tmp_path / 'page.html'}" in run.err


def test_a_classification_begins_with_a_chart_of_counts_on_stderr(cli: Cli, notes: Notes) -> None:
    notes.answers["classify"] = PREDICTIONS
    run = cli("classify", "cat", "dog")
    assert run.out.splitlines()[1].split() == ["75.0", "%", "cat", "/p/a.jpg", "dog", "25", "%"]
    bars = run.err.strip().splitlines()
    assert [(bar.split()[0], bar.count("█"), bar.split()[-2]) for bar in bars] == [
        ("cat", 40, "67"),
        ("dog", 20, "33"),
    ]
    assert cli("classify", "cat", "dog", "-f", "csv").err == ""


def many(count: int) -> Results[Prediction]:
    """Return predictions of `count` cats, the least probable first, and of one dog."""
    cats = [
        Prediction(f"/p/{n:02}.jpg", (LabelScore("cat", 0.5 + n / 100, 0.3),)) for n in range(count)
    ]
    return Results((*cats, Prediction("/p/dog.jpg", (LabelScore("dog", 0.9, 0.3),))))


@pytest.mark.parametrize(
    ("cats", "options", "shown", "more"),
    [
        (19, "", 19, ""),
        (20, "", 5, "… 15 more: -k 20 or -f csv"),
        (20, "-k 3", 3, "… 17 more: -k 20 or -f csv"),
        (20, "--count 20", 20, ""),
        (4, "-k 3", 3, "… 1 more: -k 4 or -f csv"),
    ],
)
def test_a_long_table_shows_the_best_images_of_each_label(
    cli: Cli, notes: Notes, cats: int, options: str, shown: int, more: str
) -> None:
    notes.answers["classify"] = many(cats)
    run = cli("classify", "cat", "dog", *options.split())
    rows = run.out.splitlines()[1:]
    expected = [f"/p/{n:02}.jpg" for n in range(cats - 1, cats - 1 - shown, -1)]
    assert [row.split()[-1] for row in rows[:shown]] == expected
    assert [row.removeprefix(" " * 13 + "cat    ") for row in rows[shown:-2]] == [more] * bool(more)
    assert rows[-2:] == ["", "     90.0 %  dog    /p/dog.jpg"]
    assert run.err.split()[:3] == ["cat", "█" * 40, str(cats)]


def test_data_formats_hold_every_image_unless_a_count_is_given(cli: Cli, notes: Notes) -> None:
    notes.answers["classify"] = many(30)
    paths = [f"/p/{n:02}.jpg" for n in range(30)]
    assert cli("classify", "cat", "dog", "-f", "paths").out.split() == [*paths, "/p/dog.jpg"]
    rows = csv.DictReader(io.StringIO(cli("classify", "cat", "dog", "-f", "csv", "-k", 2).out))
    assert [row["path"] for row in rows] == ["/p/28.jpg", "/p/29.jpg", "/p/dog.jpg"]


def test_status_says_which_library_and_what_is_in_it(cli: Cli, notes: Notes) -> None:
    notes.answers["status"] = Status(
        *("/lib", 1, "mini", {"mini": 12, "default": 3}, 20, 12, 2, 3_400_000, ("/images",)),
        labels={"cat": 5},
        index_kind="compressed",
        indexed=10,
        tail=2,
        stale=1,
    )
    run = cli("status")
    for part in (
        *(
            "/lib",
            "20 files, 12 different",
            "2 files (see `clipsearch errors`)",
            "mini (12 images)",
        ),
        *(
            "compressed, 10 vectors",
            "2 newer vectors beside it",
            "/images",
            "cat (5 images)",
            "never",
        ),
        *("3.4 MB", "1 vector of images that are gone"),
    ):
        assert part in run.out
    assert cli("status", "-f", "json").json["models"] == {"mini": 12, "default": 3}


def test_check_exits_with_1_while_damage_is_left(cli: Cli, notes: Notes) -> None:
    broken = clipsearch.Finding("vector-damaged", "3 vectors are not finite", "--repair", False)
    mended = clipsearch.Finding("vector-damaged", "3 vectors are not finite", "--repair", True)
    notes.answers["check"] = [broken]
    run = cli("check")
    assert run.code == 1 and "3 vectors are not finite" in run.out
    notes.answers["check"] = [mended]
    assert cli("check", "--repair").code == 0
    assert notes.calls[-1] == ("check", (), {"repair": True})
    notes.answers["check"] = [clipsearch.Finding("file-missing", "/a: no longer there", "index")]
    run = cli("check")
    assert run.code == 0 and "/a: no longer there" in run.out and "no damage found" in run.err
    notes.answers["check"] = []
    assert cli("check") == Run(0, "", "no damage found.\n")


# --- progress and warnings -----------------------------------------------------------------


def test_progress_is_silent_off_a_terminal() -> None:
    with console.progress() as on_progress:
        assert on_progress is None


def test_progress_on_a_terminal_shows_speed_and_total(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    clock = iter([100.0, 100.0, 102.0, 104.0])  # at the start, then at each step
    monkeypatch.setattr(console, "monotonic", lambda: next(clock))
    terminal = Terminal()
    for name, value in (("COLUMNS", "160"), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.progress() as on_progress:
        assert on_progress is not None
        for done in (0, 10, 20):
            on_progress(Progress("embed", done, 40))
    shown = terminal.getvalue()
    assert "indexing" in shown and "20/40" in shown and "5.0 images/s" in shown


def test_only_clipsearchs_own_warnings_are_shown(
    cli: Cli, notes: Notes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    console.show_own_warnings()
    warnings.showwarning("b.jpg cannot be read", ClipsearchWarning, "/lib/click/core.py", 1)
    warnings.showwarning("old tensor format", UserWarning, "/lib/torch/x.py", 1)
    assert capfd.readouterr().err == "warning: b.jpg cannot be read\n"


@pytest.mark.parametrize("options", [[], ["ignore"]])
def test_a_fault_that_is_logged_is_shown_once_as_a_line(
    cli: Cli,
    notes: Notes,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "warnoptions", options)
    for _ in range(2):  # a process may run several commands
        console.show_own_warnings()
        with logged_fault("rebuilt"):
            log_fault("50 % of a snapshot were rebuilt")
        assert capfd.readouterr().err == "warning: 50 % of a snapshot were rebuilt\n"


# --- as a program --------------------------------------------------------------------------


def program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clipsearch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_program_says_its_version() -> None:
    run = program("--version")
    assert (run.returncode, run.stdout) == (0, f"clipsearch {clipsearch.__version__}\n")


def test_help_lists_every_command_in_one_line_each() -> None:
    run = program("--help")
    assert run.returncode == 0
    listed = run.stdout[run.stdout.index("Commands:") :].splitlines()[1:]
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert not [line for line in listed if line.endswith("...")]


def test_every_command_has_help_with_examples_intact(cli: Cli) -> None:
    for command in COMMANDS:
        run = cli(command, "--help")
        assert run.code == 0 and f"Usage: clipsearch {command} " in run.out
    assert '  clipsearch query "2:beach" dog --not people -k 20 --open\n' in cli("query", "-h").out


def test_a_missing_library_is_a_clear_error_without_traceback(tmp_path: Path) -> None:
    run = program("query", "x", "-L", str(tmp_path / "none"))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("error: no library in ") and "clipsearch index" in run.stderr
    assert "Traceback" not in run.stderr


def test_models_lists_presets_with_size_languages_licence_and_place(cli: Cli) -> None:
    presets = {preset["name"]: preset for preset in cli("models", "-f", "json").json}
    assert set(presets) >= {"mini", "default", "multilingual", "quality", "max"}
    assert presets["default"]["spec"] == "ViT-B-32-256/datacomp_s34b_b86k"
    for preset in presets.values():
        assert preset["size_mb"] > 0 and preset["languages"] and preset["licence"]
        assert isinstance(preset["on_disk"], bool)
    table = cli("models").out
    assert all(
        preset["spec"] in table and preset["licence"] in table for preset in presets.values()
    )


# --- on a real library, with the encoder that needs no weights -----------------------------


@pytest.fixture
def lib(
    catalogs_of_folders: None,
    tmp_path: Path,
    toy_encoder: ToyEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A folder for a library whose encoder is the toy one; no other library is in reach."""
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda *_, **__: toy_encoder)
    monkeypatch.delenv("CLIPSEARCH_LIBRARY", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "library"


@pytest.fixture
def filled(cli: Cli, lib: Path, make_images: Callable[..., list[Path]]) -> list[Path]:
    """Index twelve images and return their paths."""
    paths = make_images(12)
    run = cli("index", paths[0].parent, "--model", "toy", "-L", lib)
    assert run.code == 0, run.err
    return paths


def test_index_reports_what_it_did_and_does_nothing_twice(
    cli: Cli, lib: Path, filled: list[Path], toy_encoder: ToyEncoder
) -> None:
    filled[0].rename(filled[0].with_name("renamed.png"))
    filled[1].unlink()
    run = cli("index", filled[0].parent, "-L", lib, "-f", "json")
    counts = {name: run.json[name] for name in ("added", "unchanged", "renamed", "removed")}
    assert counts == {"added": 0, "unchanged": 10, "renamed": 1, "removed": 1}
    assert toy_encoder.images_encoded == 12


def test_a_dry_run_writes_nothing(
    cli: Cli, lib: Path, make_images: Callable[..., list[Path]]
) -> None:
    folder = make_images(3)[0].parent
    run = cli("index", folder, "--dry-run", "--model", "toy", "-L", lib)
    assert run.code == 0 and "    3  added" in run.out and "dry run" in run.err
    assert not lib.exists()
    cli("index", folder, "--model", "toy", "-L", lib)
    make_images(4)
    run = cli("index", folder, "--dry-run", "-L", lib)
    assert run.code == 0 and "    1  added" in run.out and "    3  unchanged" in run.out
    assert len(cli("query", "x", "-L", lib, "-f", "jsonl").out.splitlines()) == 3


def test_an_image_is_the_nearest_to_its_copy_and_no_neighbour_of_itself(
    cli: Cli, lib: Path, filled: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere.png"
    copy.write_bytes(filled[5].read_bytes())
    assert str(filled[5]) not in {
        hit["path"] for hit in cli("similar", filled[5], "-L", lib, "-f", "json", "-k", 50).json
    }
    found = cli("similar", copy, "-L", lib, "-f", "json", "-k", 3).json
    assert len(found) == 3
    assert found[0]["path"] == str(filled[5])
    assert found[0]["score"] == pytest.approx(1, abs=2e-3)


def test_query_follows_the_json_contract_best_first(
    cli: Cli, lib: Path, filled: list[Path]
) -> None:
    found = cli("query", "a red tree", "-L", lib, "-f", "json").json
    assert len(found) == 10
    best_first = [hit["relevance"] for hit in found]
    assert best_first == sorted(best_first, reverse=True)
    assert all(type(hit["score"]) is float for hit in found)
    assert set(found[0]) == {
        *("path", "score", "relevance", "bytes", "sha256", "width", "height", "format"),
        *("taken_at", "camera", "lens", "lat", "lon", "labels", "iso", "f_number", "exposure"),
        *("focal_length", "rating", "title", "description", "keywords", "taken_offset"),
    }
    assert all(0 <= hit["relevance"] <= 1 for hit in found)
    assert (found[0]["width"], found[0]["height"], found[0]["format"]) == (48, 40, "PNG")


def test_filters_and_thresholds_reach_the_results(cli: Cli, lib: Path, filled: list[Path]) -> None:
    everything = cli("query", "tree", "-k", 50, "-L", lib, "-f", "jsonl").out.splitlines()
    assert len(everything) == 12
    middle = sorted(json.loads(hit)["score"] for hit in everything)[-6]
    cut = ("query", "tree", "-k", 50, "-L", lib, "-f", "jsonl", "--min-score")
    high = [hit for hit in everything if json.loads(hit)["score"] >= middle]
    assert cli(*cut, middle - 1e-6).out.splitlines() == high and len(high) == 6
    assert cli("query", "tree", "--where", "width > 48", "-L", lib, "-f", "paths").out == ""
    by_name = cli("query", "tree", "--where", 'name = "0003.png"', "-L", lib, "-f", "paths").out
    assert by_name == f"{filled[3]}\n"


def test_a_bad_filter_is_shown_with_a_caret(cli: Cli, lib: Path, filled: list[Path]) -> None:
    run = cli("query", "tree", "--where", "widht > 48", "-L", lib)
    assert (run.code, run.out) == (1, "")
    message, expression, caret = run.err.rstrip("\n").split("\n")[:3]
    assert message.startswith("error: bad filter: ") and "width" in message
    assert expression == "  widht > 48" and caret == "  ^"


@pytest.mark.parametrize("options", [[], ["--closed"]])
def test_classify_follows_the_json_contract(
    cli: Cli, lib: Path, filled: list[Path], options: list[str]
) -> None:
    found = cli("classify", "cat", "dog", "cow", "-L", lib, "-f", "json", *options).json
    assert sorted(item["path"] for item in found) == list(map(str, filled))
    for item in found:
        assert set(item) == {"path", "label", "probability", "score", "none", "labels"}
        assert {one["label"] for one in item["labels"]} == {"cat", "dog", "cow"}
        probabilities = [one["probability"] for one in item["labels"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) + (item["none"] or 0) == pytest.approx(1, abs=1e-5)
        assert (item["none"] is None) == bool(options)
        best = {name: item[name] for name in ("label", "probability", "score")}
        none = {"label": "none of these", "probability": item["none"], "score": None}
        assert best == (none if (item["none"] or 0) > 0.5 else item["labels"][0])


def test_saved_labels_can_be_filtered_by_and_show_in_status(
    cli: Cli, lib: Path, filled: list[Path]
) -> None:
    line = "classify cat dog cow --closed --top 1 --save -f json -L"
    run = cli(*line.split(), lib)
    assert run.code == 0 and "saved labels of 12 images" in run.err
    of: dict[str, set[str]] = {}
    for item in run.json:
        of.setdefault(item["label"], set()).add(item["path"])
    for label, paths in of.items():
        found = cli(
            "query", "x", "-k", 50, "--where", f'label = "{label}"', "-L", lib, "-f", "json"
        )
        assert {hit["path"] for hit in found.json} == paths
        assert all(label in hit["labels"] for hit in found.json)
    labels = cli("status", "-L", lib, "-f", "json").json["labels"]
    assert labels == {label: len(paths) for label, paths in of.items()}


def test_labels_come_from_a_file_with_several_prompts_each(
    cli: Cli, lib: Path, filled: list[Path], tmp_path: Path
) -> None:
    listed = tmp_path / "labels.txt"
    listed.write_text("cat: a cat; a kitten\ndog\n", "utf-8")
    found = cli("classify", "--labels", listed, "-L", lib, "-f", "json").json
    assert {one["label"] for one in found[0]["labels"]} == {"cat", "dog"}


def test_loose_files_can_be_classified(
    cli: Cli, lib: Path, filled: list[Path], make_images: Callable[..., list[Path]]
) -> None:
    loose = make_images(2, folder="loose", seed=7)
    found = cli("classify", "cat", "dog", "-L", lib, "-f", "json", "--images", *loose).json
    assert [item["path"] for item in found] == list(map(str, loose))


def test_a_classification_as_csv_has_one_row_an_image(
    cli: Cli, lib: Path, filled: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "labels.csv"
    assert cli("classify", "cat", "dog", "--closed", "-L", lib, "-o", target).code == 0
    with target.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert sorted(row["path"] for row in rows) == list(map(str, filled))
    assert {row["label"] for row in rows} | {row["label_2"] for row in rows} == {"cat", "dog"}


def test_broken_files_are_listed_with_reasons_and_fail_under_strict(
    cli: Cli, lib: Path, filled: list[Path]
) -> None:
    broken = filled[0].with_name("broken.jpg")
    broken.write_bytes(b"no image")
    run = cli("index", broken.parent, "-L", lib, "--strict")
    assert run.code == 3 and "broken.jpg" in run.err and "    1  failed" in run.out
    (failure,) = cli("errors", "-L", lib, "-f", "json").json
    assert failure["path"] == str(broken) and failure["reason"]
    assert "broken.jpg" in cli("errors", "-L", lib).out


def test_removed_images_are_found_no_more_but_stay_on_disk(
    cli: Cli, lib: Path, filled: list[Path]
) -> None:
    assert "removed 2 images" in cli("remove", *filled[:2], "-L", lib).err
    left = cli("query", "x", "-k", 50, "-L", lib, "-f", "paths").out.splitlines()
    assert sorted(left) == list(map(str, filled[2:]))
    assert filled[0].is_file()
    again = cli("remove", filled[0], "-L", lib)
    assert again.code == 1 and "none of these paths" in again.err


@pytest.mark.sqlite  # the folder is renamed
def test_status_names_the_library_that_is_in_use(
    cli: Cli, lib: Path, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", str(lib))
    by_variable = cli("status", "-f", "json").json
    assert (by_variable["path"], by_variable["files"]) == (str(lib), 12)
    monkeypatch.delenv("CLIPSEARCH_LIBRARY")
    lib.rename(lib.with_name("index"))
    assert Path(cli("status", "-f", "json").json["path"]).resolve() == lib.with_name("index")
    assert "12 files" in cli("status").out


def test_a_sound_library_passes_check_and_can_be_rebuilt(
    cli: Cli, lib: Path, filled: list[Path]
) -> None:
    assert cli("check", "-L", lib) == Run(0, "", "no damage found.\n")
    before = cli("query", "tree", "-L", lib, "-f", "json").out
    assert "compressed, 12 vectors" in cli("rebuild", "--kind", "compressed", "-L", lib).err
    assert cli("query", "tree", "-L", lib, "-f", "json").out == before


def test_use_of_a_model_that_the_library_lacks_is_an_error(
    cli: Cli, lib: Path, filled: list[Path]
) -> None:
    run = cli("use", "no-such-model", "-L", lib)
    assert run.code == 1 and "no-such-model" in run.err and "Traceback" not in run.err


def test_the_demo_indexes_queries_classifies_and_adds_nothing_twice(
    cli: Cli,
    lib: Path,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = make_images(12)
    folder = images[0].parent
    rows = "".join(f"{path.name},caption of {path.stem}\n" for path in images)
    (folder / "captions.csv").write_text(f"path,caption\n{rows}", "utf-8")
    # By the module: `clipsearch.cli.demo`, the attribute, is the command.
    monkeypatch.setattr(import_module("clipsearch.cli.demo"), "samples", lambda: folder)
    first, second = cli("demo", "-L", lib), cli("demo", "-L", lib)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "12 images added, 0 already there" in first.err
    assert "0 images added, 12 already there" in second.err
    assert first.out == second.out
    assert first.out.count("caption of 0") > 10
    page = Path(first.out.rstrip().rpartition("contact sheet: ")[2])
    assert page.is_file() and page.parent == lib
    assert "orange boy riding a blue horse" in page.read_text("utf-8")


@pytest.mark.sqlite  # the folder is emptied
def test_a_demo_of_an_older_bundled_model_is_made_anew_but_never_with_images_of_yours(
    cli: Cli,
    lib: Path,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, mine = make_images(12), make_images(2, folder="mine", seed=5)
    folder = images[0].parent
    rows = "".join(f"{path.name},caption of {path.stem}\n" for path in images)
    (folder / "captions.csv").write_text(f"path,caption\n{rows}", "utf-8")
    monkeypatch.setattr(import_module("clipsearch.cli.demo"), "samples", lambda: folder)
    assert cli("demo", "-L", lib).code == 0
    newer = ToyEncoder("toy", seed=99)
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda *_, **__: newer)
    again = cli("demo", "-L", lib)
    assert again.code == 0 and "making it again" in again.err and "12 images added" in again.err
    assert cli("index", mine[0].parent, "-L", lib).code == 0
    newest = ToyEncoder("toy", seed=100)
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda *_, **__: newest)
    refused = cli("demo", "-L", lib)
    assert refused.code == 1 and "images of yours" in refused.err


@pytest.mark.sqlite  # it has an address
def test_the_demo_runs_at_an_address_and_refuses_one_of_an_older_model(
    cli: Cli,
    lib: Path,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = make_images(12)
    (images[0].parent / "captions.csv").write_text("path,caption\n", "utf-8")
    demo = import_module("clipsearch.cli.demo")
    monkeypatch.setattr(demo, "samples", lambda: images[0].parent)
    address = server().new_library()
    run = cli("demo", "-L", address)
    assert run.code == 0 and f'clipsearch query "a dog in the snow" -L {address}' in run.err
    newer = ToyEncoder("toy", seed=99)
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda *_, **__: newer)
    refused = cli("demo", "-L", address)
    assert refused.code == 1 and "name another schema for the demo" in refused.err
    assert "12" in cli("status", "-L", address).out


def test_export_lists_images_and_their_vectors(
    cli: Cli, lib: Path, filled: list[Path], tmp_path: Path
) -> None:
    run = cli("export", "-L", lib, "-f", "json")
    assert sorted(one["path"] for one in run.json) == sorted(map(str, filled))
    assert "vector" not in run.json[0] and "sha256" in run.json[0]
    run = cli("export", "-L", lib, "--vectors", "-o", tmp_path / "v.jsonl", "--under", filled[0])
    (line,) = (tmp_path / "v.jsonl").read_text("utf-8").splitlines()
    with clipsearch.Library.open(lib) as library:
        stored = library.embeddings(under=filled[0]).vectors[0]
    assert json.loads(line)["vector"] == pytest.approx(stored.tolist())
    assert "1 image." in run.err


@pytest.mark.parametrize("options", [("-f", "paths"), ("-o", "x.txt")])
def test_vectors_need_a_format_that_holds_them(
    cli: Cli, lib: Path, filled: list[Path], options: tuple[str, ...]
) -> None:
    run = cli("export", "-L", lib, "--vectors", *options)
    assert run.code == 2 and "needs a format that holds them: json, jsonl, csv" in run.err


def test_an_output_name_whose_suffix_is_no_format_is_refused_before_any_work(
    cli: Cli, notes: Notes, tmp_path: Path
) -> None:
    run = cli("query", "horse", "-o", tmp_path / "x.npy")
    assert run.code == 2 and "x.npy" in run.err and ".csv" in run.err
    assert notes.calls == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("search cat", "'query'"),
        ("find cat", "'query'"),
        ("ls", "'export'"),
        ("rm a.jpg", "'remove'"),
        ("tag cat dog", "'classify'"),
        ("dedupe", "'dupes'"),
        ("train", "'learn'"),
        ("qury cat", "'query'"),
        ("query cat --wher x", "--where"),
        ("topics --event", "--events"),
    ],
)
def test_another_word_for_a_command_or_option_is_answered_with_its_name(
    cli: Cli, line: str, meant: str
) -> None:
    run = cli(*line.split())
    assert run.code == 2 and meant in run.err
    assert "Did you mean" in run.err or "Possible options" in run.err


def test_every_synonym_names_a_command_and_is_none() -> None:
    synonyms = import_module("clipsearch.cli.commands")._SYNONYMS
    assert {*synonyms.values()} <= {*COMMANDS} and not {*synonyms} & {*COMMANDS}


# --- values that are no names, and texts on standard input -------------------------------------


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["query", "dog", "--copy-to", ""], "--copy-to"),
        (["query", "dog", "--link-to="], "--link-to"),
        (["classify", "cat", "dog", "--sort-into", ""], "--sort-into"),
        (["classify", "cat", "dog", "--images", "a.jpg", ""], "--images"),
        (["classify", "--labels", ""], "--labels"),
        (["status", "-L", ""], "-L"),
        (["query", "dog", "-o", ""], "--output"),
        (["index", ""], "PATH"),
        (["index", "a", ""], "PATH"),
        (["similar", ""], "FILE"),
        (["relocate", "a", ""], "NEW"),
    ],
)
def test_an_empty_name_is_not_the_current_folder(
    arguments: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capfd.readouterr().err
    assert f"{name} needs the name of a file or a folder: it is empty." in said
    assert not list(tmp_path.iterdir())


def test_a_dash_is_the_text_on_standard_input(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ask(command: str, *arguments: str, given: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        return main([command, *arguments]), *capfd.readouterr()

    story = "a dog\nin the rain"
    wanted = ask("tokens", "--model", "mini", story, "-f", "json")
    found = ask("tokens", "--model", "mini", "-", "-f", "json", given=f"{story}\n".encode())
    assert wanted[0] == 0 and found == wanted
    for given, why in ((b" \n", "there is none"), (b"x" * 2**21, "at most 1,048,576 bytes")):
        code, _, said = ask("query", "cat", "-", given=given)
        assert code == 2 and f"- stands for a text on standard input: {why}" in said


def test_the_help_names_arguments_plainly(capfd: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        assert "<" not in capfd.readouterr().out.partition("Arguments:")[2].partition("\n\n")[0]
