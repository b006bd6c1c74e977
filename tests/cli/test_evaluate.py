"""`clipsearch eval`: options to figures, reports and errors."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ToyEncoder

from clipsearch.cli import main
from clipsearch.library import Library
from clipsearch.types import LabelAnswer

LABELS = ("cat", "dog", "fish")
Eval = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.both_engines


@pytest.fixture
def truth(
    tmp_path: Path,
    toy_encoder: ToyEncoder,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """Index nine images into `library`, here, and label them by turns."""
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda *_, **__: toy_encoder)
    monkeypatch.chdir(tmp_path)
    paths = make_images(9)
    with Library.create("library", encoder=toy_encoder) as library:
        library.index([paths[0].parent])
    rows = "".join(f"images/{p.name},{LABELS[i % 3]}\n" for i, p in enumerate(paths))
    (tmp_path / "labels.csv").write_text(rows, "utf-8")
    yield tmp_path / "labels.csv"


@pytest.fixture
def run(truth: Path, capfd: pytest.CaptureFixture[str]) -> Eval:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["eval", *map(str, arguments), "-L", "library"])
        return code, *capfd.readouterr()

    return run


def test_a_table_of_figures(run: Eval) -> None:
    code, out, err = run("labels.csv", "--resamples", 100)
    assert (code, err) == (0, "")
    head, *rows = out.splitlines()
    assert head.split() == ["figure", "toy"]
    assert rows[0].split() == ["images", "with", "labels", "9"]
    assert rows[2].startswith("top-1 accuracy") and " % (" in rows[2]
    assert rows[3].startswith("top-1 accuracy, inductive") and len(rows) == 6


def test_json_and_python_agree(run: Eval) -> None:
    code, out, _ = run(
        *("labels.csv", "-f", "json", "--open-set", "--resamples", 50, "--seed", 3, "--mistakes", 2)
    )
    with Library.open("library") as library:
        same = library.evaluate("labels.csv", open_set=True, resamples=50, seed=3, mistakes=2)
    assert code == 0 and json.loads(out) == same.to_dict()
    assert len(same.to_dict()["models"][0]["classification"]["mistakes"]) == 2


def test_mistakes_are_listed_when_asked_for(run: Eval) -> None:
    _, out, _ = run("labels.csv", "--mistakes", 3, "--resamples", 0)
    _, _, mistakes = out.partition("\n\n")
    head, *rows = mistakes.splitlines()
    assert head.split() == ["query", "right", "found", "how", "sure"]
    assert len(rows) == 3 and all(row.startswith("images/") for row in rows)


@pytest.mark.parametrize("name", ["report.html", "report.md", "report.json"])
def test_a_report_is_written_beside_the_table(run: Eval, name: str) -> None:
    code, out, err = run("labels.csv", "-o", name, "--resamples", 10)
    assert (code, err) == (0, f"wrote {name}\n") and "top-1 accuracy" in out
    assert "accuracy" in Path(name).read_text("utf-8")


def test_labels_templates_and_heads_reach_the_figures(run: Eval) -> None:
    Path("more.txt").write_text("cat\ndog\nfish\nwhale\n", "utf-8")
    _, out, _ = run("labels.csv", "--labels", "more.txt", "--template", "a {}", "-f", "json")
    assert json.loads(out)["models"][0]["classification"]["labels"][3] == "whale"
    with Library.open("library") as library:
        library.head(["cat", "dog", "fish", "whale"], templates=["a {}"]).save("head.json")
    _, same, _ = run("labels.csv", "--head", "head.json", "-f", "json")
    assert json.loads(same)["models"] == json.loads(out)["models"]


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["none.csv"], 1, "none.csv cannot be read"),
        (["labels.csv", "-o", "x.pdf"], 2, "take one of .txt, .json, .html, .htm, .md"),
        (["labels.csv", "--model", "mini"], 1, "This library has vectors of toy: add those"),
        (["labels.csv", "--images", "elsewhere"], 1, "none of the images"),
        (["labels.csv", "--layout", "coco"], 1, "is not JSON"),
        (["labels.csv", "--layout", "voc"], 2, "voc"),
        (["labels.csv", "--head", "h.json", "--template", "a {}"], 2, "not --labels or --template"),
        ([], 2, "TRUTH"),
    ],
)
def test_what_cannot_be_is_said_without_a_traceback(
    run: Eval, arguments: list[str], code: int, complaint: str
) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "") and complaint in err and "Traceback" not in err


def test_what_is_left_out_is_a_warning(run: Eval, truth: Path) -> None:
    with truth.open("a", encoding="utf-8") as file:
        file.write("images/gone.png,cat\n")
    code, _, err = run("labels.csv", "--resamples", 0)
    assert code == 0 and err.startswith("warning: 1 images cannot be read and are left out: ")


def test_the_images_option_says_where_paths_start(run: Eval, truth: Path) -> None:
    text = truth.read_text("utf-8").replace("images/", "")
    Path("elsewhere").mkdir()
    Path("elsewhere/labels.csv").write_text(text, "utf-8")
    assert run("elsewhere/labels.csv", "--images", "images", "--resamples", 0)[0] == 0


# --- asking ----------------------------------------------------------------------------------


@pytest.fixture
def ask(
    truth: Path,
    toy_encoder: ToyEncoder,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Eval:
    """Answer `calibrate` of a library of 29 images with lines of text: (lines, *arguments)."""
    # Cosines of the toy vary six times as much as those of a real model.
    toy_encoder.info = replace(toy_encoder.info, name="calm", fingerprint="f" * 64, logit_scale=20)
    with Library.create("library2", encoder=toy_encoder) as library:
        library.index([make_images(20, folder="more", seed=5)[0].parent, truth.parent / "images"])
    capfd.readouterr()

    def ask(lines: object, *arguments: object) -> tuple[int, str, str]:
        stdin = io.StringIO(lines) if isinstance(lines, str) else lines
        monkeypatch.setattr("sys.stdin", stdin)
        code = main(["calibrate", *map(str, arguments), "-L", "library2"])
        return code, *capfd.readouterr()

    return ask


def answers() -> list[LabelAnswer]:
    with Library.open("library2") as library:
        return library.answers()


def test_questions_are_answered_line_by_line_and_fitted(ask: Eval) -> None:
    code, out, err = ask("y\nn\n" * 6, "cat", "dog", "--ask", 12)
    assert code == 0
    assert [row.split()[0] for row in out.splitlines()] == ["probabilities", "before", "after"]
    lines = err.splitlines()
    assert lines[0].startswith("1 of 12: ") and lines[0].endswith(".png")
    assert "[y/n/s/q] 2 of 12: " in lines[1]
    assert "12 answers about 2 labels" in err and "kept: classify and query use it" in err
    found = answers()
    assert len(found) == 12 and sum(one.holds for one in found) == 6
    assert {one.label for one in found} == {"cat", "dog"}
    with Library.open("library2") as library:
        assert library.calibration().source == "fitted"


def test_skipping_typing_something_else_and_quitting(ask: Eval) -> None:
    code, _, err = ask("s\nwhat?\nYes\nno\nq\n", "cat", "--ask", 20)
    assert code == 1  # three are too few
    assert "y: yes, n: no, s: skip this one" in err
    assert "at least 10 answers are needed: there are 2. They are kept" in err
    assert sorted(one.holds for one in answers()) == [False, True]
    code, out, _ = ask("n\n" * 8, "cat", "--ask", 8, "-f", "json")
    assert code == 0 and json.loads(out)["pairs"] == 10  # those from before count too


def test_the_end_of_a_pipe_is_the_end_of_the_questions(ask: Eval) -> None:
    code, _, err = ask("y\nn\n", "cat", "--ask", 20)
    assert code == 1 and "there are 2" in err


def test_an_interruption_keeps_the_answers(ask: Eval) -> None:
    class Interrupted:
        lines = iter(["y\n", "n\n", "y\n"])

        def readline(self) -> str:
            for line in self.lines:
                return line
            raise KeyboardInterrupt

    code, _, err = ask(Interrupted(), "cat", "--ask", 20)
    assert code == 130 and "3 answers kept" in err
    assert len(answers()) == 3
    with Library.open("library2") as library:
        assert library.calibration().source == "assumed"


def test_a_dry_run_asks_and_leaves_the_library_as_it_is(ask: Eval) -> None:
    code, out, err = ask("y\nn\n" * 6, "cat", "--ask", 12, "--dry-run", "-f", "json")
    assert code == 0 and json.loads(out)["pairs"] == 12 and "kept" not in err
    assert answers() == []


def test_all_images_answered_says_so(ask: Eval) -> None:
    assert ask("n\n" * 29, "cat", "--ask", 40)[0] == 0
    code, _, err = ask("", "cat", "--ask", 5)
    assert code == 0 and "there is no image left to ask about: give other LABELS." in err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a.csv b.csv", "LABELS are one file or folder"),
        ("--ask 5 --reset", "name the file of LABELS to fit to, or give --ask N"),
        ("cat --ask 5 --head h.json", "a --head has its own labels"),
        ("--ask 0", "greater than or equal to 1"),
    ],
)
def test_options_of_calibrate_that_contradict_each_other(
    line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *line.split()]) == 2
    assert told in capsys.readouterr().err


# --- the hint --------------------------------------------------------------------------------


def test_probabilities_that_are_assumed_are_hinted_at_once_and_for_people_only(
    truth: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> str:
        assert main([*arguments, "-L", "library"]) == 0
        return capfd.readouterr().err

    assert "--ask 20" not in run("query", "x", "-f", "json") + run("classify", "x", "-f", "csv")
    assert "--ask 20" not in run("classify", "x", "y", "--closed")
    assert run("query", "x").count("`clipsearch calibrate --ask 20`") == 1
    assert "--ask 20" not in run("query", "x") + run("classify", "x", "y")


def test_classify_gives_the_hint_too(truth: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for times in (1, 0):
        assert main(["classify", "x", "y", "-L", "library"]) == 0
        assert capfd.readouterr().err.count("rest on constants of another model") == times
