"""Type checkers know what results hold: a misspelt attribute is an error."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run

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
