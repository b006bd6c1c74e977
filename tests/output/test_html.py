"""Contact sheets: what a browser shows, and that nothing in a name becomes markup."""

from __future__ import annotations

import re
from pathlib import Path

import PIL.Image
import pytest
from result_values import RECORDS, Page, hit, prediction, write_as, written

from clipsearch.grouping.duplicates import Duplicates
from clipsearch.grouping.topics import Topic
from clipsearch.output.formats import WriteOptions
from clipsearch.output.html import contact_sheet, sheets_page
from clipsearch.output.text import Items
from clipsearch.types import Hit, Results


def sheet(items: Items, title: str = "") -> str:
    return contact_sheet(items, WriteOptions(title))


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
    hits = Page(sheet([Hit(first, 0.4), Hit(second, 0.3)]))
    assert [i["style"] for i in hits.all("i")] == ["width:100.0%", "width:75.0%"]
    labels = Page(sheet([prediction(first, cat=0.4), prediction(second, cat=0.3)]))
    assert [i["style"] for i in labels.all("i")] == ["width:40.0%", "width:30.0%"]
    negative = Page(sheet([Hit(first, -0.1), Hit(second, -0.2)]))
    assert [i["style"] for i in negative.all("i")] == ["width:0.0%", "width:0.0%"]


def test_predictions_are_grouped_by_label_with_links_to_the_groups(images: list[Path]) -> None:
    first, second = map(str, images)
    found = [prediction(first, dog=0.9), prediction(first, cat=0.8), prediction(second, cat=0.7)]
    page = Page(sheet(found, title="pets"))
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
    page = Page(sheets_page({"first": one, "second": one}))
    assert len(page.all("style")) == 1 and len(page.all("section")) == 2
    assert page.text.count("clipsearch") == 1


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "{{ 7*7 }}", "\"' onload=x", "{% x %}"]
)
def test_hostile_names_titles_and_labels_are_shown_as_text(tmp_path: Path, text: str) -> None:
    name = text.replace("/", "")
    page = Page(written([prediction(str(tmp_path / name), **{text: 1.0})], "html", title=text))
    assert page.all("script") == [] and "49" not in page.text
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert page.text.count(text) >= 4  # title, heading, link, heading of the label
    (well,) = [a for a in page.all("a") if a.get("class") == "cs-well"]
    assert well["title"] == str(tmp_path / name)
    named = Page(written([hit(str(tmp_path / name), 0.5)], "html", title="x"))
    assert named.text.count(name) == 2  # the name, and that the file cannot be read


def test_the_relevance_of_a_hit_stands_beside_its_cosine_and_is_never_rounded_to_certainty() -> (
    None
):
    hits = [Hit("/a.jpg", 0.31234, relevance=0.9964), Hit("/b.jpg", 0.2, relevance=0.5)]
    text = Page(written(hits, "html")).text
    assert "cosine 0.312" in text and "relevance 99.6 %" in text and "relevance 50 %" in text
    assert "100 %" not in text


# --- several sheets on a page ------------------------------------------------------------------


def test_a_page_of_topics_shows_the_most_typical_images_of_each(images: list[Path]) -> None:
    hits = tuple(hit(str(path), 0.5) for path in images)
    topics = [
        Topic("<sea>", ("<sea>",), hits, 0.5, None, None, None, None),
        Topic("snow", ("snow",), hits[:1], 0.5, None, None, None, None),
    ]
    html = write_as(topics, "topics", "html", images_per_topic=1)
    assert "&lt;sea&gt;: 2 images" in html and "snow: 1 image" in html and "<sea>" not in html
    assert [image["alt"] for image in Page(html).all("img")] == ["sea & sun.png"] * 2
    assert len(Page(write_as(topics, "topics", "html")).all("img")) == 3


def test_a_page_of_duplicates_shows_the_best_copy_first_and_what_the_others_take() -> None:
    first, second = RECORDS
    html = write_as(
        [
            Duplicates("same-image", (first, second), (1.0, 0.96875)),
            Duplicates("same-scene", (second, first), (1.0, 0.96875)),
        ],
        *("duplicates", "html"),
    )
    text = Page(html).text
    assert "1. same image: the best first, the others are 5 bytes" in text
    assert "2. same scene: the best first, the others are 1.2 kB" in text
    assert text.index("a.jpg") < text.index("=b.jpg") and "0.969" in text


def test_pages_without_topics_or_duplicates_say_so() -> None:
    assert "Topics" in Page(write_as([], "topics", "html")).text
    assert "Duplicates" in Page(write_as([], "duplicates", "html")).text
