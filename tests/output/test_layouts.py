"""Folders for FiftyOne and Label Studio: what these tools read, and clipsearch reads back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from result_values import PHOTO, SECRET, judged

from clipsearch.errors import CannotPlace, QueryError
from clipsearch.evaluation.ground_truth import read_ground_truth
from clipsearch.output.formats import WriteOptions, write_file
from clipsearch.types import ImageRecord, Prediction, Results

CAT = judged("/p/a & b.jpg", none=0.25, cat=0.5, dog=0.25)
NEITHER = judged("/p/c.jpg", none=0.9, cat=0.1, dog=0.0)
SEVERAL = judged("/p/d.jpg", "multi", none=0.1, cat=0.75, dog=0.5)
BARE = judged("/p/e.jpg", "multi", none=0.9)
RECORDS = (
    ImageRecord("/p/a.jpg", 1, SECRET, 9, PHOTO, ("cat",)),
    ImageRecord("/p/b.jpg", 2, SECRET, 9, PHOTO),
)


def results(*items: Prediction) -> Results[Prediction]:
    return Results(items, kind="predictions", labels=("cat", "dog", "emu"))


def read(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def where(path: str) -> str:
    return os.path.abspath(path)


# --- FiftyOne --------------------------------------------------------------------------------


def test_fiftyone_gets_the_paths_and_the_labels_that_hold_with_their_confidence(
    tmp_path: Path,
) -> None:
    results(CAT, NEITHER).save(tmp_path / "out", format="fiftyone")
    paths, labels = read(tmp_path / "out/data.json"), read(tmp_path / "out/labels.json")
    assert paths == {"00000000": where(CAT.path), "00000001": where(NEITHER.path)}
    assert labels == {
        "classes": ["cat", "dog", "emu"],
        "labels": {"00000000": {"label": "cat", "confidence": 0.5}, "00000001": None},
    }


def test_where_several_labels_may_hold_all_images_have_lists(tmp_path: Path) -> None:
    results(SEVERAL, BARE).save(tmp_path / "out", format="fiftyone")
    assert [*read(tmp_path / "out/labels.json")["labels"].values()] == [
        [{"label": "cat", "confidence": 0.75}, {"label": "dog", "confidence": 0.5}],
        [],
    ]


def test_labels_of_a_library_have_no_confidence(tmp_path: Path) -> None:
    write_file(RECORDS, "records", tmp_path / "out", None, "fiftyone")
    found = read(tmp_path / "out/labels.json")
    assert found == {"classes": ["cat"], "labels": {"00000000": {"label": "cat"}, "00000001": None}}


# --- Label Studio ----------------------------------------------------------------------------


def test_label_studio_gets_tasks_with_predictions_and_an_interface_of_the_labels(
    tmp_path: Path,
) -> None:
    results(CAT, NEITHER).save(tmp_path / "out", format="label-studio", urls=("/p", "https://x/"))
    first, second = read(tmp_path / "out/tasks.json")
    assert first["data"] == {"image": "https://x/a%20%26%20b.jpg", "path": where(CAT.path)}
    (found,) = first["predictions"]
    assert (found["model_version"], found["score"]) == ("clipsearch", 0.5)
    (result,) = found["result"]
    assert (result["type"], result["value"]) == ("choices", {"choices": ["cat"]})
    assert "predictions" not in second

    view = ElementTree.parse(tmp_path / "out/config.xml").getroot()
    image, choices = view
    assert (image.tag, choices.tag, choices.get("choice")) == ("Image", "Choices", "single")
    assert image.get("value") == "$image" and "image" in first["data"]
    assert (result["from_name"], result["to_name"]) == (choices.get("name"), image.get("name"))
    assert choices.get("toName") == image.get("name")
    assert [one.get("value") for one in choices] == ["cat", "dog", "emu"]


def test_any_number_of_choices_where_several_labels_may_hold(tmp_path: Path) -> None:
    results(SEVERAL).save(tmp_path / "out", format="label-studio")
    (found,) = read(tmp_path / "out/tasks.json")[0]["predictions"]
    assert found["result"][0]["value"] == {"choices": ["cat", "dog"]} and found["score"] == 0.75
    view = ElementTree.parse(tmp_path / "out/config.xml").getroot()
    assert view[1].get("choice") == "multiple"


def test_a_label_with_marks_of_xml_is_the_same_label_in_the_interface(tmp_path: Path) -> None:
    name = "cats & \"dogs\" <b> 'c'"
    odd: Results[Prediction] = Results((), kind="predictions", labels=(name,))
    odd.save(tmp_path / "out", format="label-studio")
    view = ElementTree.parse(tmp_path / "out/config.xml").getroot()
    assert [one.get("value") for one in view[1]] == [name]


def test_by_default_label_studio_serves_files_below_the_root_of_this_machine(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ü 1.jpg"
    results(judged(str(path), none=0.0, cat=1.0)).save(tmp_path / "out", format="label-studio")
    (found,) = read(tmp_path / "out/tasks.json")
    start, _, rest = found["data"]["image"].partition("?d=")
    assert start == "/data/local-files/" and rest.endswith("/%C3%BC%201.jpg")
    assert not rest.startswith("/")


def test_an_address_stays_and_images_elsewhere_are_left_out_and_counted(tmp_path: Path) -> None:
    bucket = judged("s3://b/a.jpg", none=0.0, cat=1.0)
    with pytest.warns(UserWarning, match="1 of 2 images are not in /other: left out"):
        results(CAT, bucket).save(
            tmp_path / "out", format="label-studio", urls=("/other", "https://x/")
        )
    (found,) = read(tmp_path / "out/tasks.json")
    assert found["data"] == {"image": "s3://b/a.jpg", "path": "s3://b/a.jpg"}
    urls = ("s3://b", "https://x/")
    results(bucket).save(tmp_path / "served", format="label-studio", urls=urls)
    assert read(tmp_path / "served/tasks.json")[0]["data"]["image"] == "https://x/a.jpg"
    results(bucket).save(tmp_path / "fo", format="fiftyone")
    assert dict(read_ground_truth(tmp_path / "fo/labels.json").labels) == {"s3://b/a.jpg": ("cat",)}


# --- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["fiftyone", "label-studio"])
def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path, format: str) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(CannotPlace, match="not empty"):
        results(CAT).save(tmp_path, format=format)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_hits_have_no_labels_and_so_none_of_these_formats(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="not 'fiftyone'"):
        Results((), kind="hits").save(tmp_path / "out", format="fiftyone")


def test_what_was_written_for_fiftyone_is_read_as_ground_truth(tmp_path: Path) -> None:
    write_file(results(CAT, SEVERAL), "predictions", tmp_path / "out", WriteOptions(), "fiftyone")
    found = read_ground_truth(tmp_path / "out/labels.json")
    assert found.labels == {where(CAT.path): ("cat",), where(SEVERAL.path): ("cat", "dog")}


def test_what_was_confirmed_in_label_studio_is_read_as_ground_truth(tmp_path: Path) -> None:
    results(CAT, NEITHER).save(tmp_path / "out", format="label-studio")
    tasks = read(tmp_path / "out/tasks.json")
    for one in tasks:  # as if each prediction was submitted
        one["annotations"] = [{"result": p["result"]} for p in one.get("predictions", [])]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = read_ground_truth(tmp_path / "export.json")
    assert found.labels == {where(CAT.path): ("cat",)}
    assert len(found.warnings) == 1
