"""Reports of evaluations: what they say, and that a page is whole and cannot be broken by names."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import BadOutputFile
from clipsearch.evaluation import (
    Evaluation,
    Gallery,
    ModelFigures,
    OpenSetPrediction,
    Scored,
    measure_classification,
    measure_open_set,
    measure_retrieval,
)
from clipsearch.evaluation.results import Measure
from clipsearch.output import report
from clipsearch.output.formats import write_value
from clipsearch.output.text import (
    number_with_interval,
    percent_with_interval,
    rank_with_interval,
)
from clipsearch.types import Failure

Make = Callable[..., list[Path]]
LABELS = ("cat | dog", "<b>bird</b>", "fish")
RNG = np.random.default_rng(0)


def said(scores: np.ndarray, kept: np.ndarray) -> OpenSetPrediction:
    best = scores[:, kept].argmax(1)
    return OpenSetPrediction(kept[best], scores[:, kept].max(1) / 2, 1 - scores[:, kept].max(1) / 2)


@pytest.fixture
def evaluation(make_images: Make) -> Evaluation:
    """Figures of twelve images, a third of them with a wrong label."""
    paths = [*map(str, make_images(11)), "/gone/<i>.png"]
    relevant = np.eye(3, dtype=bool)[np.arange(12) % 3]
    scores = relevant + 0.1 * RNG.random((12, 3))
    scores[:4] = np.roll(scores[:4], 1, axis=1)
    shares = scores / scores.sum(1, keepdims=True)
    scored = Scored(tuple(paths), LABELS, scores, shares, relevant, scores)
    rows = np.eye(12, dtype=np.float32)
    gallery = Gallery.of(paths, rows, {path: (f"*text* {i}",) for i, path in enumerate(paths)})
    figures = ModelFigures(
        "mini",
        measure_classification(scored, resamples=50),
        measure_retrieval(gallery, np.roll(rows, 1, axis=0), resamples=50),
        measure_open_set(partial(said, scores), relevant, LABELS, resamples=50),
    )
    return Evaluation(
        "/truth/labels.csv", "labels", 12, (figures,), 50, 0,
        (Failure("/gone/x.png", "not there"),), ("1 images cannot be read & are left out.",),
    )  # fmt: skip


class Page(HTMLParser):
    """Collects what a page would fetch or run, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k == "src" or (k, tag) == ("href", "link")]

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())


def test_the_summary_has_a_column_a_model_and_gaps_where_a_figure_is_not_there(
    evaluation: Evaluation,
) -> None:
    (one,) = evaluation.models
    assert one.classification is not None
    other = ModelFigures("other", replace(one.classification, top_1=Measure(1.0)), None)
    table = report.summary_table(replace(evaluation, models=(one, other)))
    assert table.columns == ("figure", ">mini", ">other")
    rows = {name: cells for name, *cells in table.rows}
    assert (
        rows["top-1 accuracy"][0].startswith("66.7 % (") and rows["top-1 accuracy"][1] == "100.0 %"
    )
    assert rows["text to image: R@1"][1] == ""
    assert "top-5 accuracy" not in rows and "mAP" not in rows


def test_figures_are_written_with_their_intervals() -> None:
    assert percent_with_interval(Measure(0.9333, 0.9, 1.0)) == "93.3 % (90.0–100.0)"
    assert number_with_interval(Measure(0.5, 0.25, 0.75)) == "0.500 (0.250–0.750)"
    assert rank_with_interval(Measure(1.5, 1, 2)) == "1.5 (1–2)"
    assert (percent_with_interval(Measure(0.5)), number_with_interval(Measure(float("nan")))) == (
        "50.0 %",
        "–",
    )


def test_a_page_is_whole_shows_the_mistakes_and_takes_names_as_text(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    evaluation.save(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert page.addresses and all(a.startswith("data:image/") for a in page.addresses)
    assert not {"script", "link", "b", "i"} & {*page.tags}
    assert page.tags.count("html") == page.tags.count("body") == 1
    # 4 wrong labels, 12 captions with two images each, 12 images; one file is gone.
    assert page.tags.count("figure") == 4 + 12 + 12 + 3
    for text in ("mini on labels.csv", "66.7 %", "<b>bird</b>", "*text* 3", "Labels left out"):
        assert any(text in words for words in page.words), text
    assert "<i>.png cannot be read any more." in page.words


def test_markdown_reads_as_text_with_the_figures_at_its_end(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    evaluation.save(tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.startswith("# mini on labels.csv\n\n12 images of /truth/labels.csv, read as labels")
    assert "\n| top-1 accuracy | 66.7 % (" in text
    assert r"cat \| dog" in text and r"\<b\>bird\</b\>" in text and r"\*text\* 3" in text
    body, _, data = text.partition("\n[Confusion matrix]: data:image/png;base64,")
    assert "![Confusion matrix][Confusion matrix]" in body and "base64" not in body
    assert re.fullmatch(r"[A-Za-z0-9+/=\s]+", data.partition("\n\n[")[0])
    for table in re.findall(r"(?:^\|.*\|$\n?)+", body, re.MULTILINE):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(bars) == 1


def test_json_holds_every_figure(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == evaluation.to_dict()


def test_other_names_are_refused(evaluation: Evaluation, tmp_path: Path) -> None:
    with pytest.raises(BadOutputFile, match=r"report\.pdf: .* take one of \.txt, \.json, \.html"):
        evaluation.save(tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()


def test_a_notebook_gets_a_fragment(evaluation: Evaluation) -> None:
    found = evaluation._repr_html_()
    assert "<html" not in found and found.startswith("<style>") and "cs-report" in found


def test_of_many_labels_the_worst_are_shown_and_the_rest_is_said() -> None:
    relevant = np.eye(50, dtype=bool)[np.arange(100) % 50]
    scores = relevant + np.where(np.arange(50) < 3, 1.5, 0.0)
    labels = (*(f"label {j}" for j in range(49)), "no image")
    relevant[:, 49], relevant[49::50, 0] = False, True
    scored = Scored(tuple(map(str, range(100))), labels, scores, scores / 4, relevant, scores)
    figures = ModelFigures("m", measure_classification(scored, resamples=0, mistakes=0))
    stream = io.StringIO()
    write_value(Evaluation("/x.csv", "labels", 100, (figures,), 0, 0), "evaluation", "md", stream)
    text = stream.getvalue()
    assert "Not listed: 29 labels with better results." in text
    assert "Without an image: 1 label of those to choose from." in text
    assert "bootstrap" not in text and "worst mistakes" not in text
