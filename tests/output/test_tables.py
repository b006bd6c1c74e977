"""Tables of results for people: what each column says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from result_values import PHOTO, RECORDS, SECRET, hit, judged, prediction, write_as, written

from clipsearch.evaluation import Gallery, Scored, measure_classification, measure_retrieval
from clipsearch.evaluation.results import Evaluation, ModelFigures
from clipsearch.grouping.duplicates import Duplicates
from clipsearch.grouping.topics import Topic
from clipsearch.heads.explain import Explanation, LabelExplanation, PromptScore
from clipsearch.library.matrix import Matrix
from clipsearch.output.formats import Kind
from clipsearch.output.text import shorten_path
from clipsearch.types import NONE, Hit, ImageRecord, LabelScore, Prediction


def table_lines(value: Any, kind: Kind, **options: Any) -> list[str]:
    """Return the lines of a table, its cells apart by one bar."""
    lines = [line.split("  ") for line in write_as(value, kind, "table", **options).splitlines()]
    return ["|".join(cell.strip() for cell in line if cell.strip()) for line in lines]


def test_a_piped_table_is_plain_aligned_and_uncut() -> None:
    long = "/photos/" + "x" * 200 + ".jpg"
    lines = written([hit(long, 0.4125), Hit("/b.jpg", -0.02)], "table").splitlines()
    column = len(long)
    assert lines == [
        f"{' score'}  {'image'.ljust(column)}  {'size'.ljust(11)}  taken",
        f"{' 0.412'}  {long}  4000 × 3000  2024-05-01 12:03",
        f"{'-0.020'}  /b.jpg",
    ]


def test_a_table_of_predictions_shows_probability_label_and_runners_up() -> None:
    lines = written(
        [prediction("/a.jpg", cat=0.7, dog=0.2, cow=0.08, pig=0.02)], "table"
    ).splitlines()
    assert lines == [
        "probability  label  image   then",
        "     70.0 %  cat    /a.jpg  dog 20 %, cow 8 %",
    ]


def test_none_of_these_is_told_where_it_is_likelier_than_the_best_label() -> None:
    labels = (LabelScore("cat", 0.3, 0.2), LabelScore("dog", 0.25, 0.2))
    table = written([Prediction("/a.jpg", labels, None, 0.45, "open")], "table")
    assert table.splitlines()[1].split("/a.jpg")[1].strip() == "none of these 45 %, dog 25 %"


def test_a_table_by_label_shows_the_best_of_each_and_how_many_more_there_are() -> None:
    found = [
        judged("/a.jpg", none=0.25, cat=0.625, dog=0.125),
        judged("/b.jpg", none=0.0625, cat=0.875, dog=0.0625),
        judged("/c.jpg", none=0.125, cat=0.75, dog=0.125),
        judged("/d.jpg", none=0.5, cat=0.375, dog=0.125),
        judged("/e.jpg", none=0.25, cat=0.375, dog=0.25),
        judged("/f.jpg", none=0.75, cat=0.25),
    ]
    best = [
        "probability|label|image|then",
        "87.5 %|cat|/b.jpg|dog 6 %",
        "75.0 %|cat|/c.jpg|dog 12 %",
    ]
    rest = [
        "",
        "37.5 %|uncertain (cat)|/d.jpg|none of these 50 %, dog 12 %",
        "37.5 %|uncertain (cat)|/e.jpg|dog 25 %",
        "",
        "75.0 %|none of these|/f.jpg|cat 25 %",
    ]
    assert table_lines(found, "predictions", grouped=True, per_label=2) == [
        *best,
        "cat|… 1 more: -k 3 or -f csv",
        *rest,
    ]
    whole = [*best, "62.5 %|cat|/a.jpg|dog 12 %", *rest]
    assert table_lines(found, "predictions", grouped=True) == whole
    assert table_lines(found, "predictions", grouped=True, per_label=3) == whole
    assert table_lines([], "predictions", grouped=True, per_label=3) == []


def test_an_image_with_several_labels_is_in_the_table_of_each() -> None:
    found = [judged("/a.jpg", "multi", none=0.1, cat=0.75, dog=0.5)]
    assert table_lines(found, "predictions", grouped=True)[1:] == [
        "75.0 %|cat|/a.jpg|dog 50 %",
        "",
        "50.0 %|dog|/a.jpg|cat 75 %",
    ]


def test_paths_below_the_current_folder_are_shown_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shorten_path(str(tmp_path / "a" / "b.jpg")) == str(Path("a/b.jpg"))
    assert shorten_path("/elsewhere/b.jpg") == "/elsewhere/b.jpg"


def test_file_names_cannot_steer_the_terminal_or_break_a_line() -> None:
    text = written([Hit("/\x1b[2Jevil\nname.jpg", 0.5)], "table")
    assert r"/\x1b[2Jevil\nname.jpg" in text
    assert "\x1b" not in text and len(text.splitlines()) == 2


def test_a_table_and_paths_name_every_image() -> None:
    assert write_as(RECORDS, "records", "paths") == "/p/a.jpg\n/p/=b.jpg\n"
    head, first, _ = write_as(RECORDS, "records", "table").splitlines()
    assert head.split() == ["image", "size", "taken", "labels"]
    assert first.split() == ["/p/a.jpg", "4000", "×", "3000", "2024-05-01", "12:03", "cat,", "dog"]


def test_hits_that_were_judged_show_their_relevance() -> None:
    lines = table_lines([Hit("/a.jpg", 0.5, relevance=0.75), Hit("/b.jpg", 0.25)], "hits")
    assert lines == ["score|relevance|image|size|taken", "0.500|75 %|/a.jpg", "0.250|/b.jpg"]


def test_an_explanation_names_image_and_label_once() -> None:
    prompts = (PromptScore("a cat", "text", 0.5, 0.75), PromptScore("/e.jpg", "image", 0.25, 0.25))
    labels = (LabelExplanation("cat", 0.75, 0.4375, prompts), LabelExplanation("dog", 0.1, 0.1, ()))
    assert table_lines([Explanation("/a.jpg", NONE, 0.125, labels)], "explanations") == [
        "image|label|probability|score|prompt|cosine|weight",
        f"/a.jpg|{NONE}|12.5 %",
        "cat|75.0 %|0.438|a cat|0.500|0.75",
        "/e.jpg|0.250|0.25",
        "dog|10.0 %|0.100",
    ]


SCORES = np.array([[0.25, 0.5], [0.375, -0.5]], np.float32)


def test_a_matrix_marks_the_best_text_of_each_image_and_names_the_best_image_of_each_text() -> None:
    found = Matrix(
        ("/a.jpg", "/b.jpg"), ("a cat", "a dog"), SCORES, SCORES / 2, "calibrated", "toy"
    )
    assert table_lines(found, "matrix") == [
        "image|[1]|[2]",
        "/a.jpg|0.250|0.500*",
        "/b.jpg|0.375*|-0.500",
        "",
        "text|best image",
        "[1]|a cat|/b.jpg",
        "[2]|a dog|/a.jpg",
    ]
    assert table_lines(found, "matrix", probabilities=True)[1] == "/a.jpg|12.5 %|25.0 %*"


def test_stars_of_a_matrix_are_those_of_the_numbers_shown() -> None:
    shares = np.array([[0.5, 0.25], [0.5, 0.75]], np.float32)
    found = Matrix(("/a.jpg", "/b.jpg"), ("a cat", "a dog"), SCORES, shares, "calibrated", "toy")
    assert table_lines(found, "matrix", probabilities=True) == [
        "image|[1]|[2]",
        "/a.jpg|50.0 %*|25.0 %",
        "/b.jpg|50.0 %|75.0 %*",
        "",
        "text|best image",
        "[1]|a cat|/b.jpg",  # as probable in both: the higher cosine
        "[2]|a dog|/b.jpg",
    ]


def test_a_matrix_of_one_image_is_a_row_per_text_best_first() -> None:
    found = Matrix(("/a.jpg",), ("a cat", "a dog"), SCORES[:1], SCORES[:1], "calibrated", "toy")
    assert table_lines(found, "matrix") == [
        "probability|cosine|text",
        "50.0 %|0.500|a dog",
        "25.0 %|0.250|a cat",
    ]


def test_topics_show_size_names_and_the_most_typical_image() -> None:
    images = (Hit("/a.jpg", 0.5), Hit("/b.jpg", 0.25))
    when = datetime(2024, 5, 1)
    topics = [
        Topic("sea", ("sea", "beach", "sand"), images, 0.125, when, when, None, None),
        Topic("snow", ("snow",), images[:1], None, None, None, None, None),
    ]
    assert table_lines(topics, "topics") == [
        "images|topic|apart|also|most typical",
        "2|sea|0.12|beach, sand|/a.jpg",
        "1|snow|/a.jpg",
    ]
    assert table_lines([], "topics") == []


def test_duplicates_show_group_and_tier_once_and_the_best_copy_first() -> None:
    records = tuple(ImageRecord(path, 1, SECRET, 1234, PHOTO) for path in ("/a.jpg", "/b.jpg"))
    assert table_lines([Duplicates("same-bytes", records, (1.0, 0.875))], "duplicates") == [
        "group|tier|alike|size|bytes|image",
        "1|same-bytes|best|1.000|4000 × 3000 JPEG|1,234|/a.jpg",
        "0.875|4000 × 3000 JPEG|1,234|/b.jpg",
    ]
    assert table_lines([], "duplicates") == []


def evaluation(*models: str) -> Evaluation:
    """Evaluate two images with the wrong label, of which one has the wrong caption first."""
    paths = ("/a.jpg", "/b.jpg")
    scores = np.array([[0.2, 0.8], [0.7, 0.3]])
    labels = measure_classification(
        Scored(paths, ("cat", "dog"), scores, scores, np.eye(2, dtype=bool), scores), resamples=0
    )
    rows = np.eye(2, dtype=np.float32)
    gallery = Gallery.of(paths, rows, {"/a.jpg": ("a cat",), "/b.jpg": ("a dog",)})
    texts = measure_retrieval(gallery, rows[::-1], resamples=0)
    figures = tuple(ModelFigures(name, labels, texts) for name in models)
    return Evaluation("labels.csv", "csv", 2, figures, 0, 0)


def test_an_evaluation_shows_the_worst_mistakes_where_they_are_asked_for() -> None:
    plain = table_lines(evaluation("mini"), "evaluation")
    lines = table_lines(evaluation("mini"), "evaluation", mistakes=True)
    assert lines[: len(plain)] == plain and lines[len(plain) :] == [
        "",
        "query|right|found|how sure",
        "/a.jpg|cat|dog|80.0 %",
        "/b.jpg|dog|cat|70.0 %",
        "a cat|/a.jpg|/b.jpg|rank 2",
        "a dog|/b.jpg|/a.jpg|rank 2",
        "/a.jpg|a cat|a dog|rank 2",
        "/b.jpg|a dog|a cat|rank 2",
    ]


def test_mistakes_of_several_models_stand_under_their_names() -> None:
    lines = table_lines(evaluation("mini", "other"), "evaluation", mistakes=True)
    assert [lines.index("mini"), lines.index("other")] == sorted(
        (lines.index("mini"), lines.index("other"))
    )
    assert lines.count("/a.jpg|cat|dog|80.0 %") == 2
