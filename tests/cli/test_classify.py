"""`clipsearch matrix` and `clipsearch classify --explain`: options to tables, files and errors."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ToyEncoder

from clipsearch.cli import main
from clipsearch.library import Library

Command = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.both_engines


@pytest.fixture
def images(
    tmp_path: Path,
    toy_encoder: ToyEncoder,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> list[Path]:
    """Index forty images into `library`, here; their paths, relative."""
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda *_, **__: toy_encoder)
    monkeypatch.chdir(tmp_path)
    paths = make_images(40)
    with Library.create("library", encoder=toy_encoder) as library:
        library.index([paths[0].parent])
    return [path.relative_to(tmp_path) for path in paths]


@pytest.fixture
def run(images: list[Path], capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        name, *rest = map(str, arguments)
        code = main([name, "-L", "library", *rest])
        return code, *capfd.readouterr()

    return run


def compared(*arguments: object, **keywords: object) -> dict[str, object]:
    with Library.open("library") as library:
        return library.matrix(*arguments, **keywords).to_dict()  # type: ignore[arg-type]


# --- matrix --------------------------------------------------------------------------------


def test_many_images_are_a_table_with_stars_and_a_legend(run: Command, images: list[Path]) -> None:
    code, out, err = run("matrix", *images[:3], "--texts", "a cat", "a dog")
    rows, _, legend = out.partition("\n\n")
    expected = compared(images[:3], ["a cat", "a dog"])
    assert (code, err) == (0, "")
    assert rows.splitlines()[0].split() == ["image", "[1]", "[2]"]
    for line, image in zip(rows.splitlines()[1:], expected["images"], strict=True):  # type: ignore[call-overload]
        path, *cells = line.split()
        assert Path(path).absolute() == Path(image["path"])
        assert [float(cell.rstrip("*")) for cell in cells] == pytest.approx(
            image["scores"], abs=6e-4
        )
        star = ["a cat", "a dog"][[cell.endswith("*") for cell in cells].index(True)]
        assert star == image["best_text"]
    best = expected["best_images"]
    for line, text in zip(legend.splitlines()[1:], ["a cat", "a dog"], strict=True):
        assert text in line and Path(line.split()[-1]).absolute() == Path(best[text])  # type: ignore[index]


def test_one_image_is_a_list_of_texts_the_best_first(run: Command, images: list[Path]) -> None:
    texts = ["a cat", "a dog", "a blue horse"]
    code, out, err = run("matrix", images[4], "--texts", *texts)
    answer: Any = compared([images[4]], texts)
    (image,) = answer["images"]
    ranked = sorted(zip(image["probabilities"], image["scores"], texts, strict=True), reverse=True)
    rows = [line.split(maxsplit=3) for line in out.splitlines()]
    assert code == 0 and "calibrated, each text by itself" in err
    assert [row[3] for row in rows[1:]] == [text for _, _, text in ranked]
    assert [float(row[2]) for row in rows[1:]] == pytest.approx([s for _, s, _ in ranked], abs=6e-4)
    assert [float(row[0]) for row in rows[1:]] == pytest.approx(
        [100 * p for p, _, _ in ranked], abs=0.06
    )


def test_json_and_python_agree(run: Command, images: list[Path]) -> None:
    code, out, _ = run(
        *("matrix", "--query", "a house", "-k", 4, "--under", "images", "-f", "json"),
        *("--texts", "cat", "dog", "--template", "a photo of a {}", "--template", "openai80"),
    )
    from clipsearch.heads.prompts import OPENCLIP_80

    same = compared(
        None,
        ["cat", "dog"],
        query="a house",
        k=4,
        under="images",
        templates=["a photo of a {}", *OPENCLIP_80],
    )
    assert code == 0 and len(same["images"]) == 4  # type: ignore[arg-type]
    assert json.loads(out) == same


def test_csv_has_a_column_a_text(run: Command, images: list[Path]) -> None:
    (Path() / "labels.txt").write_text("cat: a tabby; a tom\n=dog\n")
    _, scores, _ = run("matrix", *images[:2], "--labels", "labels.txt", "-f", "csv")
    _, probabilities, _ = run(
        *("matrix", *images[:2], "--labels", "labels.txt", "-f", "csv", "--probabilities")
    )
    expected = compared(images[:2], {"cat": ["a tabby", "a tom"], "=dog": []})
    for text, name in ((scores, "scores"), (probabilities, "probabilities")):
        head, *rows = csv.reader(io.StringIO(text))
        assert head == ["path", "cat", "'=dog"]  # no formula for a spreadsheet
        for row, image in zip(rows, expected["images"], strict=True):  # type: ignore[call-overload]
            assert row[0] == image["path"]
            assert [float(v) for v in row[1:]] == pytest.approx(image[name])


@pytest.mark.slow
def test_a_figure_is_written_beside_the_table(run: Command, images: list[Path]) -> None:
    line = ("matrix", *images[:2], "--texts", "a cat", "a dog", "-o", "m.png")
    code, out, err = run(*line)
    assert code == 0 and out.startswith("image") and "wrote m.png" in err
    assert Path("m.png").read_bytes().startswith(b"\x89PNG")
    _, shares, told = run(*line[:-1], "p.svg", "--probabilities")
    assert "%*" in shares and "calibrated, each text by itself" in told
    assert Path("p.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("name", ["m.json", "m.csv", "m.txt", "m"])
def test_numbers_go_to_a_file_in_the_form_of_its_name(
    run: Command, images: list[Path], name: str
) -> None:
    code, out, err = run("matrix", *images[:2], "--texts", "a cat", "-o", name)
    assert (code, out) == (0, "") and err == f"wrote {name}\n"
    starts = {"m.json": "{", "m.csv": "path,a cat", "m.txt": "image", "m": "image"}
    assert Path(name).read_text().startswith(starts[name])


def test_a_broken_image_is_told_and_the_others_shown(run: Command, images: list[Path]) -> None:
    Path("broken.png").write_text("no image")
    line = ("matrix", "broken.png", *images[:2], "--texts", "a cat")
    code, out, err = run(*line)
    assert code == 0 and "warning: " in err and "broken.png: not an image" in err
    assert "0000.png" in out and "broken" not in out
    assert run(*line, "--strict")[0] == 3
    code, out, err = run("matrix", "broken.png", "--texts", "a cat")
    assert (code, out) == (1, "") and "no image to compare" in err and "not an image" in err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a.jpg", "name what to compare with"),
        ("a.jpg --texts x --labels l.txt", "name what to compare with"),
        ("--texts x", "name images, or choose some"),
        ("a.jpg --texts x --query y", "not both"),
        ("a.jpg --texts", "--texts needs a text"),
        ("a.jpg --texts --strict", "--texts needs a text"),
        ("a.jpg --texts x -o m.jpg", "take one of .txt, .json, .csv, .png"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(run: Command, line: str, told: str) -> None:
    code, _, err = run("matrix", *line.split())
    assert code == 2 and told in err


def test_texts_may_come_before_the_images(run: Command, images: list[Path]) -> None:
    code, out, _ = run("matrix", "-f", "json", "--texts", "a cat", "--", *images[:1])
    assert code == 0 and json.loads(out)["images"][0]["path"] == str(images[0].absolute())


# --- classify --explain --------------------------------------------------------------------


@pytest.fixture
def labels(images: list[Path]) -> Path:
    Path("labels.yaml").write_text(
        "alien:\n  texts: [a green monster, a box on legs]\n  images: [images/0003.png]\n"
        "dog: [a dog]\n"
    )
    return Path("labels.yaml")


def test_the_reasons_are_a_table(run: Command, labels: Path) -> None:
    line = ("classify", "--labels", labels, "--images", "images/0003.png", "--explain")
    code, out, _ = run(*line, "--closed")
    head, *rows = out.splitlines()
    assert code == 0
    assert head.split() == [
        "image",
        "label",
        "probability",
        "score",
        "prompt",
        "cosine",
        "weight",
    ]
    assert len(rows) >= 4
    assert rows[0].startswith("images/0003.png  alien")
    assert [row.split()[-3] for row in rows[:1]] == ["images/0003.png"]
    assert all(row.startswith(" " * 17) for row in rows[1:])
    assert "none of these" not in out
    openly = [line.split("  ") for line in run(*line)[1].splitlines()[1:]]
    assert len(openly) == len(rows) + 1
    assert [cells for cells in openly if "none of these" in cells]


def test_the_reasons_are_data_as_python_has_them(run: Command, labels: Path) -> None:
    line = ("classify", "--labels", labels, "--images", "images/0003.png", "--explain", "-f")
    found = json.loads(run(*line, "json")[1])
    from clipsearch.heads.label_file import labels_from_file

    with Library.open("library") as library:
        head = library.head(labels_from_file(labels))
        reasons = library.explain(head, library.classify(head, images=["images/0003.png"]))
    assert found == json.loads(json.dumps([one.to_dict() for one in reasons]))
    assert json.loads(run(*line, "jsonl")[1]) == found[0]
    rows = list(csv.DictReader(io.StringIO(run(*line, "csv")[1])))
    flat = [(x["label"], p["prompt"], p["score"]) for x in found[0]["labels"] for p in x["prompts"]]
    assert [
        (row["label"], row["prompt"], pytest.approx(float(row["prompt_score"])))
        for row in rows
        if row["prompt"]
    ] == flat
    assert [row["label"] for row in rows if not row["prompt"]] == ["none of these"]


def test_reasons_go_to_a_file_and_not_to_a_contact_sheet(run: Command, labels: Path) -> None:
    code, out, err = run("classify", "--labels", labels, "--explain", "-o", "r.json")
    assert (code, out) == (0, "") and "wrote r.json" in err
    assert len(json.loads(Path("r.json").read_text())) == 40
    for options in (("-f", "html"), ("-0",), ("-o", "r.html")):
        code, _, err = run("classify", "a cat", "--explain", *options)
        assert code == 2 and "json, .jsonl, .csv" in err.replace(" jsonl, csv", " .jsonl, .csv")
