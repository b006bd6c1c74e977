"""Images into folders from the command line: --sort-into, --copy-to and --link-to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clipsearch.cli import main
from clipsearch.library import Library
from clipsearch.output import placing
from clipsearch.types import Failure, PlacedFile, PlacementReport

Command = Callable[..., tuple[int, str, str]]
SAMPLES = Path(placing.__file__).parents[1] / "samples"
LABELS = ("cat", "dog", "horse")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with forty samples in `images` and their library in `library`."""
    folder = tmp_path_factory.mktemp("placing")
    (folder / "images").mkdir()
    for path in sorted(SAMPLES.glob("*.webp"))[:40]:
        shutil.copy2(path, folder / "images")
    with Library.create(folder / "library", model="mini") as library:
        library.index([folder / "images"])
    return folder


@pytest.fixture
def run(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Run a command with the library, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        code = main([name, "-L", str(filled / "library"), *map(str, arguments)])
        return code, *capfd.readouterr()

    yield run


def files(folder: str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*.webp"))


def classified(run: Command, *options: object) -> dict[str, list[str]]:
    """Return folder -> names of the images that belong there, by the JSON of the same command."""
    found: dict[str, list[str]] = {}
    for one in json.loads(run("classify", *LABELS, *options, "-f", "json")[1]):
        sure = one["label"] == "none of these" or one["probability"] >= 0.5
        found.setdefault(one["label"] if sure else "uncertain", []).append(Path(one["path"]).name)
    return found


def test_images_are_sorted_into_a_folder_per_label(run: Command) -> None:
    expected = classified(run)
    out = [len(expected.pop(name, ())) for name in ("uncertain", "none of these")]
    code, shown, said = run("classify", *LABELS, "--sort-into", "sorted")
    assert code == 0 and shown.startswith("probability  label")
    assert files("sorted") == sorted(
        f"{k}/{name}" for k, names in expected.items() for name in names
    )
    placed = len(files("sorted"))
    assert placed > 5 and all(out)
    *_, summary, rest = said.splitlines()
    assert summary == f"{placed} images copied into sorted."
    assert rest == (
        f"left out: {out[0]} uncertain, {out[1]} none of these "
        "(--sort-rest puts them into folders too)."
    )
    _, _, said = run("classify", *LABELS, "--sort-into", "sorted")
    assert f"0 images copied into sorted; {placed} there already." in said
    assert len(files("sorted")) == placed


def test_all_images_are_sorted_as_links_where_that_is_asked_for(run: Command, filled: Path) -> None:
    code, _, said = run(
        *("classify", *LABELS, "--sort-into", "sorted", "--sort-rest", "--as", "symlink")
    )
    assert code == 0 and said.endswith("40 images linked into sorted.\n")
    assert {path.partition("/")[0] for path in files("sorted")} == {*classified(run)}
    for path in files("sorted"):
        assert os.readlink(Path("sorted", path)) == str(filled / "images" / Path(path).name)


def test_a_count_is_of_each_label(run: Command) -> None:
    assert run("classify", *LABELS, "--sort-into", "sorted", "-k", 1, "-f", "csv")[0] == 0
    assert files("sorted") == sorted(
        f"{name}/{best[0]}" for name in LABELS for best in [classified(run, "-k", 1)[name]]
    )


def test_a_dry_run_lists_what_would_be_done(run: Command) -> None:
    line = ("classify", *LABELS, "--sort-into", "sorted", "--dry-run")
    code, shown, said = run(*line)
    assert code == 0 and not Path("sorted").exists()
    head, *rows = shown.splitlines()
    assert head.split() == ["image", "goes", "to"]
    assert f"{len(rows)} images would be copied into sorted." in said
    report = json.loads(run(*line, "-f", "json")[1])
    assert (report["added"], report["unchanged"], report["dry_run"]) == (len(rows), 0, True)
    run(*line[:-1])
    assert sorted(row.split()[1] for row in rows) == [f"sorted/{path}" for path in files("sorted")]


@pytest.mark.parametrize(
    ("command", "option", "linked"),
    [
        (("query", "a horse"), "--copy-to", False),
        (("query", "a horse"), "--link-to", True),
        (("similar", SAMPLES / "scene-001.webp"), "--copy-to", False),
        (("similar", SAMPLES / "scene-001.webp"), "--link-to", True),
    ],
)
def test_hits_are_put_into_a_folder_beside_their_table(
    run: Command, command: tuple[str, ...], option: str, linked: bool
) -> None:
    names = [Path(path).name for path in run(*command, "-k", 3, "-f", "paths")[1].splitlines()]
    plan = run(*command, "-k", 3, option, "best", "--dry-run")
    assert [row.split()[1] for row in plan[1].splitlines()[1:]] == [f"best/{n}" for n in names]
    assert not Path("best").exists()
    code, shown, said = run(*command, "-k", 3, option, "best")
    assert code == 0 and [row.split()[3] for row in shown.splitlines()[1:]] != []
    assert said.endswith(f"3 images {'linked' if linked else 'copied'} into best.\n")
    assert files("best") == sorted(names)
    assert all(path.is_symlink() == linked for path in Path("best").iterdir())


def test_where_nothing_is_found_nothing_is_put_anywhere(run: Command) -> None:
    code, _, said = run("query", "a horse", "--where", "width > 9999", "--copy-to", "best")
    assert code == 0 and not Path("best").exists()
    assert said.startswith("no image matches.\n") and "0 images copied" in said


def test_a_folder_that_is_indexed_is_warned_of(run: Command, filled: Path) -> None:
    inside = filled / "images/best"
    line = ("query", "a horse", "-k", 2, "--copy-to", inside, "--dry-run")
    code, _, said = run(*line)
    assert code == 0 and f"warning: {inside} is in the indexed folder {filled / 'images'}" in said
    assert "warning" not in run("query", "a horse", "--copy-to", filled / "images2", "--dry-run")[2]


def test_the_advice_about_an_indexed_folder_helps(filled: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for path in sorted((filled / "images").iterdir())[:2]:
        shutil.copy2(path, tmp_path / "a")
    with Library.create(tmp_path / "library", model="mini") as library:
        library.index([tmp_path / "a"])
        placing.place_images(library.search("a horse"), tmp_path / "a/out")
        (tmp_path / "a/out/.clipsearchignore").write_text("*\n")
        assert library.index([tmp_path / "a"]).added == 0
        (tmp_path / "a/out/.clipsearchignore").unlink()
        assert library.index([tmp_path / "a"]).added == 2


# --- exit codes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("added", "failed", "options", "code"),
    [(1, 0, ("--strict",), 0), (1, 1, (), 0), (1, 7, ("--strict",), 3), (0, 2, (), 1)],
)
def test_failures_are_told_and_are_an_error_alone_or_under_strict(
    run: Command,
    monkeypatch: pytest.MonkeyPatch,
    added: int,
    failed: int,
    options: tuple[str, ...],
    code: int,
) -> None:
    report = PlacementReport(
        (PlacedFile("/in/a.jpg", "/out/a.jpg", True),) * added,
        {},
        tuple(Failure(f"/in/{n}.jpg", "no such file or directory") for n in range(failed)),
    )
    monkeypatch.setattr(placing, "place_images", lambda *_, **__: report)
    found, _, said = run("query", "a horse", "--copy-to", "out", *options)
    assert found == code
    lines = [line for line in said.splitlines() if line.startswith("failed: ")]
    expected = [f"failed: /in/{n}.jpg: no such file or directory" for n in range(failed)]
    assert lines == expected[:5] and ("and 2 more failed." in said) == (failed == 7)


def test_images_that_are_gone_are_told(run: Command, filled: Path) -> None:
    best = Path(run("query", "a horse", "-k", 1, "-f", "paths")[1].strip())
    best.rename(best.with_suffix(".away"))
    try:
        code, _, said = run("query", "a horse", "-k", 2, "--copy-to", "best")
        assert code == 0 and "1 of the 3 likeliest are not shown, as their files" in said
        assert f"among them {best}." in said
        assert len(files("best")) == 2  # others take its place
        assert best.name not in files("best")
    finally:
        best.with_suffix(".away").rename(best)


def test_a_folder_that_cannot_be_made_is_an_error(run: Command) -> None:
    Path("file").write_text("mine")
    code, _, said = run("classify", *LABELS, "--sort-into", "file")
    assert code == 1 and "error: no files can be put into" in said and "not a directory" in said
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("classify cat --as symlink", "--as needs --sort-into DIR."),
        ("classify cat --sort-rest", "--sort-rest needs --sort-into DIR."),
        ("classify cat --dry-run", "--dry-run needs --sort-into DIR."),
        ("classify cat --sort-into d --as move", "'move'"),
        ("classify cat --sort-into d --dry-run --save", "leave it out of a --dry-run"),
        ("classify cat --sort-into d --dry-run -f csv", "table, json: not as csv"),
        ("query x --strict", "--strict needs --copy-to DIR or --link-to DIR."),
        ("similar x --dry-run", "--dry-run needs --copy-to DIR or --link-to DIR."),
        ("query x --copy-to a --link-to b", "name one of the two"),
    ],
)
def test_options_that_make_no_sense_are_refused(run: Command, line: str, complaint: str) -> None:
    name, *options = line.split()
    code, _, said = run(name, *options)
    assert code == 2 and complaint in said


# --- labels for other tools ------------------------------------------------------------------


def test_predictions_are_handed_to_other_tools_and_read_back(run: Command, filled: Path) -> None:
    code, out, said = run("classify", *LABELS, "-f", "fiftyone", "-o", "out")
    assert (code, out) == (0, "") and "wrote out" in said
    labels = json.loads(Path("out/labels.json").read_text("utf-8"))
    assert labels["classes"] == [*LABELS] and len(labels["labels"]) == 40
    held = sum(one is not None for one in labels["labels"].values())
    code, out, _ = run("eval", "out/labels.json", "-f", "json", "--resamples", 0)
    assert code == 0 and json.loads(out)["images"] == held


def test_urls_of_tasks_are_those_that_are_given(run: Command, filled: Path) -> None:
    given = f"{filled / 'images'}=https://photos.example/"
    code, _, _ = run("classify", *LABELS, "-f", "label-studio", "-o", "out", "--urls", given)
    tasks = json.loads(Path("out/tasks.json").read_text("utf-8"))
    assert code == 0 and len(tasks) == 40
    assert {one["data"]["image"] for one in tasks} == {
        f"https://photos.example/{path.name}" for path in (filled / "images").iterdir()
    }


def test_labels_that_a_library_keeps_are_handed_over_too(run: Command) -> None:
    assert run("classify", *LABELS, "--closed", "--save")[0] == 0
    code, _, said = run("export", "-f", "label-studio", "-o", "out")
    assert code == 0 and "40 images" in said
    tasks = json.loads(Path("out/tasks.json").read_text("utf-8"))
    assert all(one["predictions"][0]["result"][0]["value"]["choices"] for one in tasks)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["-f", "label-studio", "-o", "out", "--urls", "photos"], "as DIR=URL"),
        (["-f", "json", "--urls", "a=b"], "--urls is for `-f label-studio`"),
        (["-f", "fiftyone"], "name it with -o"),
    ],
)
def test_folders_and_urls_that_cannot_be_are_usage_errors(
    run: Command, options: list[str], complaint: str
) -> None:
    for command in (["classify", *LABELS], ["export"]):
        code, _, said = run(*command, *options)
        assert code == 2 and complaint in said
    assert not Path("out").exists()
