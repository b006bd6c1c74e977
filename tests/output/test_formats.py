"""Every format of render: what exactly is written, to whom, and what is kept out of it."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import PIL.Image
import pytest

from clipsearch.output import html as sheet
from clipsearch.output import render
from clipsearch.output.wording import Items
from clipsearch.types import Facts, Hit, ImageRecord, LabelScore, Prediction, Results

PHOTO = Facts(
    4000, 3000, "JPEG", datetime(2024, 5, 1, 12, 3, 4), "Google Pixel 8", None, -48.85, 2.35
)
SECRET = "ab" * 32


def hit(path: str, score: float, *, labels: tuple[str, ...] = ()) -> Hit:
    return Hit(path, score, ImageRecord(path, 1, SECRET, 1234, PHOTO, labels))


def prediction(path: str, **labels: float) -> Prediction:
    scores = tuple(LabelScore(name, p, p / 2) for name, p in labels.items())
    return Prediction(path, scores)


def written(items: Items, format: render.Format, **options: bool | str) -> str:
    stream = io.StringIO(newline="")
    render.render(items, format, stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_formats_are_those_that_the_type_names() -> None:
    assert tuple(render.FORMATS) == get_args(render.Format)


# --- for programs --------------------------------------------------------------------------


def test_json_of_hits_is_path_score_and_facts() -> None:
    assert json.loads(written([hit("/p/é.jpg", 0.25, labels=("cat",))], "json")) == [
        {
            "path": "/p/é.jpg",
            "score": 0.25,
            "relevance": None,
            "bytes": 1234,
            "sha256": SECRET,
            "width": 4000,
            "height": 3000,
            "format": "JPEG",
            "taken_at": "2024-05-01T12:03:04",
            "camera": "Google Pixel 8",
            "lens": None,
            "lat": -48.85,
            "lon": 2.35,
            **dict.fromkeys(("iso", "f_number", "exposure", "focal_length", "rating")),
            "title": None,
            "description": None,
            "keywords": [],
            "labels": ["cat"],
        }
    ]


def test_json_of_predictions_names_the_best_label_and_all_others() -> None:
    assert json.loads(written([prediction("/p/a.jpg", cat=0.75, dog=0.25)], "json")) == [
        {
            "path": "/p/a.jpg",
            "label": "cat",
            "probability": 0.75,
            "score": 0.375,
            "none": None,
            "labels": [
                {"label": "cat", "probability": 0.75, "score": 0.375},
                {"label": "dog", "probability": 0.25, "score": 0.125},
            ],
        }
    ]


def test_jsonl_is_one_object_a_line() -> None:
    lines = written([Hit("/a\nb.jpg", 0.5), Hit("/c.jpg", 0.25)], "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"path": "/a\nb.jpg", "score": 0.5, "relevance": None},
        {"path": "/c.jpg", "score": 0.25, "relevance": None},
    ]


def test_no_results_are_still_valid_json_csv_and_html() -> None:
    assert written([], "json") == "[]\n"
    assert written([], "jsonl") == ""
    assert written([], "paths") == ""
    assert written([], "table") == ""
    assert written([], "csv").startswith("path,score,")
    assert "No images" in Page(written([], "html", title="a unicorn")).text


def test_json_never_holds_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        written([Hit("/a.jpg", float("nan"))], "json")


def test_paths_end_with_a_newline_or_with_nul() -> None:
    hits = [Hit("/a b.jpg", 0.5), Hit("/c.jpg", 0.25)]
    assert written(hits, "paths") == "/a b.jpg\n/c.jpg\n"
    assert written(hits, "paths", null=True) == "/a b.jpg\0/c.jpg\0"


def test_csv_of_hits_holds_scores_and_facts() -> None:
    (row,) = csv.DictReader(io.StringIO(written([hit("/a,b.jpg", 0.5, labels=("x", "y"))], "csv")))
    assert row["path"] == "/a,b.jpg"
    assert float(row["score"]) == 0.5
    assert (row["width"], row["height"], row["camera"]) == ("4000", "3000", "Google Pixel 8")
    assert row["taken_at"] == "2024-05-01T12:03:04"
    assert row["labels"] == "x; y"
    assert row["lens"] == ""


def test_csv_of_predictions_holds_the_runners_up_in_columns() -> None:
    text = written([prediction("/a.jpg", cat=0.75, dog=0.25), prediction("/b.jpg", cow=1.0)], "csv")
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["label"], float(first["probability"]), float(first["score"])) == (
        "cat",
        0.75,
        0.375,
    )
    assert (first["label_2"], float(first["probability_2"])) == ("dog", 0.25)
    assert (second["label"], second["label_2"], second["score_2"]) == ("cow", "", "")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_runs_no_formula_in_a_spreadsheet(start: str) -> None:
    (row,) = csv.DictReader(
        io.StringIO(
            written([prediction("/a.jpg", **{f'{start}HYPERLINK("x")': 1.0})], "csv"), newline=""
        )
    )
    assert row["label"] == f'\'{start}HYPERLINK("x")'


def test_csv_leaves_negative_numbers_alone() -> None:
    (row,) = csv.DictReader(io.StringIO(written([hit("/a.jpg", -0.5)], "csv")))
    assert (row["score"], row["lat"]) == ("-0.5", "-48.85")


# --- for people ----------------------------------------------------------------------------


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


def test_paths_below_the_current_folder_are_shown_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert render.shown_path(str(tmp_path / "a" / "b.jpg")) == str(Path("a/b.jpg"))
    assert render.shown_path("/elsewhere/b.jpg") == "/elsewhere/b.jpg"


def test_file_names_cannot_steer_the_terminal_or_break_a_line() -> None:
    text = written([Hit("/\x1b[2Jevil\nname.jpg", 0.5)], "table")
    assert r"/\x1b[2Jevil\nname.jpg" in text
    assert "\x1b" not in text and len(text.splitlines()) == 2


def test_on_a_terminal_square_brackets_in_names_are_no_markup() -> None:
    stream = Terminal()
    render.render([Hit("/[red]a[/red].jpg", 0.5)], "table", stream)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert "/[red]a[/red].jpg" in plain and "0.500" in plain


def test_label_counts_are_by_the_best_label_most_frequent_first() -> None:
    found = [
        prediction("/a", cat=1.0),
        prediction("/b", dog=0.6, cat=0.4),
        prediction("/c", dog=1.0),
    ]
    assert list(render.label_counts(found).items()) == [("dog", 2), ("cat", 1)]


# --- contact sheets ------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "sea & sun.png", tmp_path / 'a"b.png']
    for path, colour in zip(paths, ("teal", "orange"), strict=True):
        PIL.Image.new("RGB", (60, 40), colour).save(path)
    return paths


def test_a_contact_sheet_shows_each_image_with_its_name_and_score(images: list[Path]) -> None:
    hits = [hit(str(path), 0.5 - i / 10) for i, path in enumerate(images)]
    page = Page(written(hits, "html", title="<sea>"))
    tags = page.all("img")
    assert [image["alt"] for image in tags] == ["sea & sun.png", 'a"b.png']
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,/9j/") for image in tags)
    assert len({image["src"] for image in tags}) == 2
    assert "<sea>" in page.text and "0.500" in page.text and "0.400" in page.text
    assert [a["href"] for a in page.all("a")] == [path.as_uri() for path in images]


def test_a_contact_sheet_tells_the_facts_of_an_image_on_hovering(images: list[Path]) -> None:
    page = Page(written([hit(str(images[0]), 0.5)], "html", title="sea"))
    (note,) = [p["title"] for p in page.all("p") if p.get("class") == "cs-note"]
    assert note == "4000 × 3000 · 2024-05-01 · JPEG · 2024-05-01 12:03 · Google Pixel 8"


def test_a_contact_sheet_loads_and_runs_nothing(images: list[Path]) -> None:
    page = Page(written([hit(str(images[0]), 0.5)], "html", title="sea"))
    assert {"script", "link", "iframe"}.isdisjoint(tag for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not re.search(r"url\(|@import|https?:", page.text)
    policy = next(m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy


def test_names_titles_and_labels_cannot_inject_html(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    items = [prediction(str(tmp_path / '"><script>.jpg'), **{evil: 0.9, "b<i>": 0.1})]
    page = Page(written(items, "html", title=evil))
    assert page.all("script") == []
    assert page.text.count(evil) >= 3  # title, heading, link: as text


def test_an_image_that_is_gone_keeps_its_place(images: list[Path]) -> None:
    images[0].unlink()
    page = Page(written([hit(str(path), 0.5) for path in images], "html"))
    assert len(page.all("figure")) == 2 and len(page.all("img")) == 1
    assert "sea & sun.png cannot be read any more." in page.text


def test_bars_are_relative_to_the_best_hit_and_absolute_for_probabilities(
    images: list[Path],
) -> None:
    first, second = map(str, images)
    hits = Page(sheet.contact_sheet([Hit(first, 0.4), Hit(second, 0.3)]))
    assert [i["style"] for i in hits.all("i")] == ["width:100.0%", "width:75.0%"]
    labels = Page(sheet.contact_sheet([prediction(first, cat=0.4), prediction(second, cat=0.3)]))
    assert [i["style"] for i in labels.all("i")] == ["width:40.0%", "width:30.0%"]
    negative = Page(sheet.contact_sheet([Hit(first, -0.1), Hit(second, -0.2)]))
    assert [i["style"] for i in negative.all("i")] == ["width:0.0%", "width:0.0%"]


def test_predictions_are_grouped_by_label_with_links_to_the_groups(images: list[Path]) -> None:
    first, second = map(str, images)
    found = [prediction(first, dog=0.9), prediction(first, cat=0.8), prediction(second, cat=0.7)]
    page = Page(sheet.contact_sheet(found, title="pets"))
    assert [h["id"] for h in page.all("h3")] == [
        (a["href"] or "").removeprefix("#")
        for a in page.all("a")
        if (a["href"] or "").startswith("#")
    ]
    assert page.text.index("cat 2") < page.text.index("dog 1")
    assert "3 images · 2 labels" in page.text


def test_a_notebook_gets_a_fragment_whose_style_stays_inside_it(images: list[Path]) -> None:
    html = Results((hit(str(images[0]), 0.5),), title="sea")._repr_html_()
    tags = [tag for tag, _ in Page(html).tags]
    assert {"html", "head", "body", "h1"}.isdisjoint(tags)
    style = html[html.index("<style>") + 7 : html.index("</style>")]
    outside = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL).strip()
    # Everything is nested in the one rule of the section.
    assert outside.startswith(".cs-sheet {") and outside.endswith("}")
    assert _depth_reaches_zero_only_at_the_end(outside)


def _depth_reaches_zero_only_at_the_end(style: str) -> bool:
    depth, zeros = 0, []
    for place, character in enumerate(style):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "}" and depth == 0:
            zeros.append(place)
    return zeros == [len(style) - 1]


def test_a_page_of_several_sheets_carries_one_style_and_one_wordmark(images: list[Path]) -> None:
    one = [Hit(str(images[0]), 0.5)]
    page = Page(sheet.contact_page({"first": one, "second": one}))
    assert len(page.all("style")) == 1 and len(page.all("section")) == 2
    assert page.text.count("clipsearch") == 1
