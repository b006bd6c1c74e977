"""`clipsearch eval`: options to figures, reports and errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ToyEncoder

from clipsearch.cli import main
from clipsearch.library import Library

LABELS = ("cat", "dog", "fish")
Eval = Callable[..., tuple[int, str, str]]


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
    assert len(rows) == 5


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
