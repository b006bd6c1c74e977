"""Topics, events and duplicates of a library, from Python and from the command line."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import ToyEncoder

import clipsearch
from clipsearch import Head, Library
from clipsearch._util.arrays import IdArray
from clipsearch.cli import main
from clipsearch.errors import BadGrouping, ModelMismatch, QueryError, SnapshotUnreadable
from clipsearch.library.explore import HEADS
from clipsearch.types import Progress
from clipsearch.vectors.searcher import Searcher

Make = Callable[..., list[Path]]
SAMPLES = Path(clipsearch.__file__).with_name("samples")
PLACES = {
    "night": ["at night"], "snow": ["in the snow"], "desert": ["in the desert"],
    "grass": ["on the grass"], "forest": ["in the forest"], "room": ["in a room"],
}  # fmt: skip


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        yield made


def photo(path: Path, colour: tuple[int, int, int], taken: str | None = None) -> Path:
    """Write a plain image, with the time it was taken."""
    image = PIL.Image.new("RGB", (48, 40), colour)
    exif = PIL.Image.Exif()
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    path.parent.mkdir(exist_ok=True)
    image.save(path, exif=exif)
    return path


@pytest.fixture
def two_colours(tmp_path: Path, library: Library) -> Library:
    """A library of 6 reddish and 4 bluish images, taken on two days, one without a date."""
    folder = tmp_path / "images"
    for i in range(6):
        photo(folder / f"red-{i}.jpg", (200 + 8 * i, 20, 20), f"2024:07:0{1 + i // 3} 10:0{i}:00")
    for i in range(4):
        when = None if i == 3 else f"2024:07:02 1{i}:30:00"
        photo(folder / f"blue-{i}.jpg", (20, 20, 200 + 8 * i), when)
    library.index([folder])
    return library


def names(paths: list[str]) -> list[str]:
    return [Path(path).stem for path in paths]


# --- topics --------------------------------------------------------------------------------


def test_topics_are_groups_of_what_looks_alike(two_colours: Library) -> None:
    red, blue = two_colours.topics(2, vocabulary=["this", "that"])
    assert {Path(hit.path).stem[:3] for hit in red.images} == {"red"}
    assert {Path(hit.path).stem[:4] for hit in blue.images} == {"blue"}
    assert (len(red.images), len(blue.images)) == (6, 4)
    assert {red.title, blue.title} == {"this", "that"}
    assert red.separation is not None and red.separation > 0.5
    assert str(red.start) == "2024-07-01 10:00:00" and str(red.end) == "2024-07-02 10:05:00"
    scores = [hit.score for hit in red.images]
    assert scores == sorted(scores, reverse=True)
    assert all(hit.record is not None and hit.record.path == hit.path for hit in red.images)


def test_auto_finds_the_two_colours(two_colours: Library) -> None:
    assert [len(topic.images) for topic in two_colours.topics()] == [6, 4]


def test_topics_of_a_part(two_colours: Library) -> None:
    (topic,) = two_colours.topics(1, where="name like 'blue%'", vocabulary=["blue"])
    assert sorted(names([hit.path for hit in topic.images])) == [f"blue-{i}" for i in range(4)]
    assert topic.separation is None
    assert two_colours.topics(where="width > 1000") == []


def test_a_pipe_in_the_place_of_the_stored_vocabulary_is_replaced(two_colours: Library) -> None:
    first = two_colours.topics(2)
    (file,) = (two_colours.path / "heads").glob("vocabulary-*.json")
    file.unlink()
    os.mkfifo(file)
    assert two_colours.topics(2) == first
    assert file.is_file()


@pytest.mark.parametrize("count", [1, 2])
def test_a_library_of_one_or_two_images(library: Library, make_images: Make, count: int) -> None:
    library.index(make_images(count))
    (topic,) = library.topics(vocabulary=["thing"])
    assert len(topic.images) == count and topic.names == ("thing",)
    assert library.topics(9, vocabulary=["thing"]) == library.topics(count, vocabulary=["thing"])
    assert library.dupes() == []


def test_topics_with_the_same_name_are_numbered(two_colours: Library) -> None:
    assert [t.title for t in two_colours.topics(2, vocabulary=["thing"])] == ["thing", "thing (2)"]


def test_saved_topics_are_labels(two_colours: Library) -> None:
    two_colours.topics(1, vocabulary=["old"], save=True)
    first, second = two_colours.topics(2, vocabulary=["this", "that"], save=True)
    for topic in (first, second):
        found = two_colours.embeddings(where=f"label = '{topic.title}'").records
        assert {r.path for r in found} == {hit.path for hit in topic.images}
    assert two_colours.status().labels == {first.title: 6, second.title: 4}


def test_bad_requests(two_colours: Library) -> None:
    with pytest.raises(BadGrouping, match="ask for 1 or more"):
        two_colours.topics(0)
    with pytest.raises(BadGrouping, match="'many' is no number"):
        two_colours.topics("many")  # type: ignore[arg-type]
    with pytest.raises(BadGrouping, match="no tier 'same'"):
        two_colours.dupes("same")  # type: ignore[arg-type]
    other = Head.from_prompts(ToyEncoder("other", seed=1), {"a": ["a"]})
    with pytest.raises(ModelMismatch):
        two_colours.topics(2, vocabulary=other)


def test_the_phrases_that_come_along_are_encoded_once(
    two_colours: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = two_colours.topics(2)
    (kept,) = (two_colours.path / HEADS).iterdir()
    monkeypatch.setattr(ToyEncoder, "encode_texts", None)
    assert two_colours.topics(2) == before
    monkeypatch.undo()
    kept.write_text("{}", "utf-8")
    assert two_colours.topics(2) == before


# --- events --------------------------------------------------------------------------------


def test_events_are_days_and_what_has_no_date(two_colours: Library) -> None:
    first, second, undated = two_colours.events(vocabulary=["walk", "talk", "work"])
    assert sorted(names([hit.path for hit in first.images])) == ["red-0", "red-1", "red-2"]
    assert len(second.images) == 6
    assert names([hit.path for hit in undated.images]) == ["blue-3"]
    assert first.title == f"2024-07-01, {first.names[0]}"
    assert undated.title.startswith("no date, ") and undated.start is None
    assert [len(t.images) for t in two_colours.events(gap_hours=48, vocabulary=["x"])] == [9, 1]


def test_saved_events_are_labels(two_colours: Library) -> None:
    first, *_ = two_colours.events(vocabulary=["walk", "talk", "work"], save=True)
    assert two_colours.status().labels[first.title] == 3


# --- the bundled images ------------------------------------------------------------------


@pytest.mark.slow
def test_two_topics_of_the_bundled_images_are_told_apart(tmp_path: Path) -> None:
    with open(SAMPLES / "captions.csv", encoding="utf-8") as file:
        captions = {row["path"]: row["caption"] for row in csv.DictReader(file)}
    kinds = {
        str(SAMPLES / name): kind
        for name, caption in captions.items()
        for kind in ("night", "snow")
        if caption.endswith({"night": "at night", "snow": "in the snow"}[kind])
    }
    with Library.create(tmp_path / "library", model="mini") as library:
        library.index(list(kinds))
        topics = library.topics(2, vocabulary=PLACES)
        again = library.topics(2, vocabulary=PLACES)
    majority = [
        Counter(kinds[hit.path] for hit in topic.images).most_common(1)[0] for topic in topics
    ]
    assert sum(count for _, count in majority) / len(kinds) >= 0.9
    assert [topic.title for topic in topics] == [kind for kind, _ in majority]
    assert {kind for kind, _ in majority} == {"night", "snow"}
    assert again == topics


# --- duplicates ----------------------------------------------------------------------------


def textured(seed: int) -> PIL.Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return PIL.Image.fromarray(blocks).resize((144, 96), PIL.Image.Resampling.BICUBIC)


def test_dupes_of_a_library(library: Library, make_images: Make, tmp_path: Path) -> None:
    folder = make_images(5)[0].parent
    for name in ("a.png", "a.webp"):
        textured(1).save(folder / name, quality=80)
    (folder / "again.png").write_bytes((folder / "0000.png").read_bytes())
    library.index([folder])
    bytes_, image = library.dupes()
    assert (bytes_.tier, image.tier) == ("same-bytes", "same-image")
    assert names([bytes_.best, *bytes_.others]) == ["0000", "again"]
    assert [Path(path).name for path in (image.best, *image.others)] == ["a.png", "a.webp"]
    assert library.dupes("same-bytes") == [bytes_]
    with pytest.raises(QueryError, match=r"no image of the library lies below .*elsewhere"):
        library.dupes(under=tmp_path / "elsewhere")
    assert library.dupes(where="format = 'png'") == [bytes_]


def test_dupes_are_the_same_with_a_damaged_snapshot_and_with_images_in_none(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_images(5)[0].parent
    textured(1).save(folder / "a.png")
    library.index([folder])
    library.rebuild(kind="exact")
    textured(1).save(folder / "a.webp", quality=80)  # it is in the tail
    library.index([folder])
    expected = library.dupes()
    assert [Path(path).name for path in (expected[0].best, *expected[0].others)] == [
        "a.png",
        "a.webp",
    ]

    def take(searcher: Searcher, ids: IdArray) -> Any:
        raise SnapshotUnreadable("damaged")

    monkeypatch.setattr(Searcher, "take", take)
    assert library.dupes() == expected


# --- the command line ------------------------------------------------------------------------


@pytest.fixture
def run(
    two_colours: Library, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `clipsearch ...` on the library of two colours."""
    monkeypatch.setattr("clipsearch.library.session.load_encoder", lambda name: ToyEncoder())

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main([*arguments, "-L", str(two_colours.path)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def phrases(tmp_path: Path) -> str:
    file = tmp_path / "phrases.txt"
    file.write_text("this\nthat\nother\n", "utf-8")
    return str(file)


def test_topics_as_json(run: Run, phrases: str, two_colours: Library) -> None:
    code, out, err = run("topics", "-n", "2", "--vocabulary", phrases, "-f", "json")
    assert (code, err) == (0, "")
    expected = two_colours.topics(2, vocabulary=phrases)
    assert json.loads(out) == [topic.to_dict() for topic in expected]
    (red, _) = json.loads(out)
    assert set(red) == {
        *("topic", "names", "size", "separation", "weak", "start", "end", "lat", "lon", "images"),
    }
    assert red["size"] == 6 and red["start"] == "2024-07-01T10:00:00"


def test_topics_as_a_table_and_csv(run: Run, phrases: str) -> None:
    code, out, _ = run("topics", "--vocabulary", phrases)
    head, *rows = out.splitlines()
    assert code == 0 and head.split() == ["images", "topic", "apart", "also", "most", "typical"]
    assert [row.split()[0] for row in rows] == ["6", "4"]
    _, out, _ = run("topics", "--vocabulary", phrases, "-f", "csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert len(table) == 10 and list(table[0]) == [
        "path",
        "topic",
        "score",
        "taken_at",
        "lat",
        "lon",
    ]
    assert len({row["topic"] for row in table}) == 2


def test_a_contact_sheet_has_a_section_a_topic(run: Run, phrases: str, tmp_path: Path) -> None:
    page = tmp_path / "topics.html"
    code, out, err = run("topics", "--vocabulary", phrases, "-k", "3", "-o", str(page))
    assert (code, out, err) == (0, "", f"wrote {page}\n")
    html = page.read_text("utf-8")
    assert html.count('<section class="cs-sheet">') == 2
    assert html.count("<img ") == 6  # three of each
    assert ": 6 images</h2>" in html and ": 4 images</h2>" in html


def test_events_and_saved_topics(run: Run, phrases: str, two_colours: Library) -> None:
    code, out, err = run("topics", "--events", "--gap", "48", "--vocabulary", phrases, "--save")
    assert code == 0 and err == "saved 2 topics as labels of 10 images.\n"
    assert "2024-07-01 to 2024-07-02" in out and "no date" in out
    assert sorted(two_colours.status().labels.values()) == [1, 9]


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "-n", "0"),
        ("topics", "-n", "many"),
        ("topics", "-n", "2", "--events"),
        ("topics", "--gap", "3"),
        ("topics", "--km", "3"),
        ("topics", "-o", "topics.jsonl"),
        ("topics", "--open", "-f", "json"),
        ("dupes", "--tier", "same-scene", "-f", "paths"),
        ("dupes", "--tier", "nonsense"),
        ("dupes", "-o", "dupes.jsonl"),
    ],
)
def test_command_lines_that_make_no_sense(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


def test_nothing_fits(run: Run) -> None:
    assert run("topics", "--where", "width > 1000") == (0, "", "no image matches.\n")
    assert run("dupes", "--where", "width > 1000") == (0, "", "no duplicates found.\n")
    assert run("dupes", "--where", "width > 1000", "-f", "json")[1] == "[]\n"


@pytest.fixture
def twice(two_colours: Library, tmp_path: Path) -> list[Path]:
    """Put one textured image three times into the library: as it is, copied, and as a JPEG."""
    paths = [tmp_path / "twice" / name for name in ("a.png", "a again.png", "a.jpg")]
    paths[0].parent.mkdir()
    for path in paths:
        textured(0).save(path)
    two_colours.index([paths[0].parent])
    return paths


def test_dupes_as_json_and_paths(run: Run, twice: list[Path], two_colours: Library) -> None:
    best, again, jpeg = twice
    here = ("--under", str(best.parent))
    code, out, err = run("dupes", *here, "-f", "json")
    assert code == 0
    bytes_, image = json.loads(out)
    assert bytes_ == {
        "tier": "same-bytes",
        "best": str(best),
        "paths": [str(best), str(again)],
        "similarity": pytest.approx(1, abs=1e-3),
        "bytes_saved": again.stat().st_size,
    }
    assert image["paths"] == [str(best), str(jpeg)]
    assert "groups: 1 same-bytes, 1 same-image." in err and "2 files (" in err
    assert run("dupes", *here, "-f", "paths")[1].splitlines() == [str(again), str(jpeg)]
    assert run("dupes", *here, "-0")[1] == f"{again}\0{jpeg}\0"
    assert run("dupes", *here, "--tier", "same-bytes", "-f", "paths")[1] == f"{again}\n"
    assert all(path.exists() for path in twice)


def test_dupes_as_table_csv_and_contact_sheet(run: Run, twice: list[Path], tmp_path: Path) -> None:
    here = ("--under", str(twice[0].parent))
    _, out, _ = run("dupes", *here)
    assert [line.split()[:3] for line in out.splitlines() if " best " in line] == [
        ["1", "same-bytes", "best"],
        ["2", "same-image", "best"],
    ]
    _, out, _ = run("dupes", *here, "-f", "csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [(row["group"], row["best"], row["path"]) for row in table[2:]] == [
        ("2", "yes", str(twice[0])),
        ("2", "no", str(twice[2])),
    ]
    page = tmp_path / "dupes.html"
    run("dupes", *here, "-o", str(page))
    html = page.read_text("utf-8")
    assert html.count('<section class="cs-sheet">') == 2 and html.count("<img ") == 4


def test_the_phrases_are_encoded_once_and_announced(two_colours: Library) -> None:
    steps: list[Progress] = []
    first = two_colours.topics(2, on_progress=steps.append)
    phrases = [step for step in steps if step.phase == "vocabulary"]
    assert phrases[0].done == 0 and phrases[-1].done == phrases[-1].total
    assert phrases[0].total is not None and phrases[0].total > 700
    steps.clear()
    assert two_colours.topics(2, on_progress=steps.append) == first
    assert [step for step in steps if step.phase == "vocabulary"] == []


def test_weak_topics_are_marked_in_the_table_in_json_and_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    for i in range(12):  # one shade after the other: there are no groups
        photo(folder / f"{i:02}.png", (20 * i, 20 * i, 20 * i))
    place = str(tmp_path / "library")
    with Library.create(place, encoder=ToyEncoder()) as library:
        library.index([folder])
        monkeypatch.setattr("clipsearch.library.explore.separation_by_chance", lambda *_, **__: 2.0)
        assert [topic.weak for topic in library.topics(2)] == [True, True]
        assert not any(topic.weak for topic in library.topics(1))
        assert not any(topic.weak for topic in library.events())
    assert main(["topics", "-n", "2", "-L", place]) == 0
    out, err = capsys.readouterr()
    assert all(" weak 1.00 " in line for line in out.splitlines()[1:])
    assert "2 of 2 topics are weak: no further apart" in err
    assert main(["topics", "-n", "2", "-L", place, "-f", "json"]) == 0
    assert [topic["weak"] for topic in json.loads(capsys.readouterr().out)] == [True, True]
    monkeypatch.setattr("clipsearch.library.explore.separation_by_chance", lambda *_, **__: -1.0)
    assert main(["topics", "-n", "2", "-L", place]) == 0
    out, err = capsys.readouterr()
    assert "weak 1.00" not in out and "weak" not in err
