"""Results save themselves, and type checkers know what they hold."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from subprocess import run

import pytest

from clipsearch.errors import BadOutputFile
from clipsearch.types import Hit, LabelScore, Prediction, Results

ROOT = Path(__file__).parents[2]
RIGHT = """
from clipsearch import Library

with Library.open("index") as library:
    for hit in library.search("a horse", k=3):
        print(hit.score, hit.path, hit.record.facts.width if hit.record else 0)
    print(library.search("x")[0].score, library.similar("a.jpg")[0].relevance)
    for prediction in library.classify(["cat"], images="a.jpg"):
        print(prediction.label, prediction.labels[0].probability)
    matrix = library.matrix("a.jpg", "a cat")
    print(matrix.scores.shape, library.topics()[0].title, library.learn("birds").head.labels)
"""
WRONG = """
from clipsearch import Library

with Library.open("index") as library:
    for hit in library.search("a horse"):
        print(hit.scroe)
    print(library.search("x")[0].scroe)
    for prediction in library.classify(["cat"]):
        print(prediction.lable)
    library.search("x", k="5")
    library.matrix("a.jpg", "a cat").socres
"""


@pytest.mark.slow
def test_a_misspelt_attribute_is_a_type_error_and_the_right_one_is_none(tmp_path: Path) -> None:
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    checked = run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")),
            *("--follow-imports=silent", "--ignore-missing-imports"),
            *(str(tmp_path / "right.py"), str(tmp_path / "wrong.py")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert [line.partition(": error:")[0].split("/")[-1] for line in lines] == [
        "wrong.py:6",
        "wrong.py:7",
        "wrong.py:9",
        "wrong.py:10",
        "wrong.py:11",
    ], checked.stdout
    assert '"Hit" has no attribute "scroe"' in lines[0]
    assert '"Prediction" has no attribute "lable"' in lines[2]


HITS = Results((Hit("/a.jpg", 0.5), Hit("/b.jpg", 0.25)), title="a blue horse")
PREDICTIONS = Results((Prediction("/a.jpg", (LabelScore("cat", 0.75, 0.5),)),))


def test_results_are_saved_in_the_format_of_the_suffix(tmp_path: Path) -> None:
    HITS.save(tmp_path / "hits.csv")
    with (tmp_path / "hits.csv").open(newline="") as stream:
        assert [(row["path"], row["score"]) for row in csv.DictReader(stream)] == [
            ("/a.jpg", "0.5"),
            ("/b.jpg", "0.25"),
        ]
    PREDICTIONS.save(str(tmp_path / "labels.json"))
    (found,) = json.loads((tmp_path / "labels.json").read_text("utf-8"))
    assert (found["path"], found["label"], found["probability"]) == ("/a.jpg", "cat", 0.75)


def test_a_saved_contact_sheet_has_the_title_of_its_results(tmp_path: Path) -> None:
    HITS.save(tmp_path / "hits.html")
    assert "a blue horse" in (tmp_path / "hits.html").read_text("utf-8")


def test_results_are_not_saved_in_a_format_that_they_do_not_have(tmp_path: Path) -> None:
    with pytest.raises(BadOutputFile, match=r"\.csv"):
        HITS.save(tmp_path / "hits.pptx")
    assert list(tmp_path.iterdir()) == []
