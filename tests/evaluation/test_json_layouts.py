"""Labels that were given in Label Studio and FiftyOne are read as ground truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipsearch.errors import BadTruthFile
from clipsearch.evaluation.ground_truth import GroundTruth, read_ground_truth


def read(folder: Path, value: Any, name: str = "labels.json", **options: Any) -> GroundTruth:
    (folder / name).write_text(json.dumps(value), "utf-8")
    return read_ground_truth(folder / name, **options)


def task(data: dict[str, str], *annotations: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """Return a task with annotations of these choices, as Label Studio exports it."""
    return {
        "id": 1,
        "annotations": [
            {
                "result": [
                    {
                        "from_name": "label",
                        "to_name": "image",
                        "type": "choices",
                        "value": {"choices": [*choices]},
                    }
                ],
                "was_cancelled": False,
                "updated_at": f"2026-01-0{day}T10:00:00Z",
                **more,
            }
            for day, choices in enumerate(annotations, 1)
        ],
        "predictions": [7],
        "data": data,
    }


def test_a_choice_alone_and_an_address_are_taken_as_they_are(tmp_path: Path) -> None:
    one = task({"image": "s3://bucket/a b.jpg"}, ("cat",))
    one["annotations"][0]["result"][0]["value"]["choices"] = "cat"
    assert read(tmp_path, [one]).labels == {"s3://bucket/a b.jpg": ("cat",)}


def test_an_address_that_cannot_be_read_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(BadTruthFile, match="Label Studio"):
        read(tmp_path, [task({"image": "http://[bad/x.jpg"}, ("cat",))])


@pytest.mark.parametrize("label", [True, -1, "", None, 1.5, ["cat"]])
def test_what_is_no_label_of_fiftyone_is_refused(tmp_path: Path, label: Any) -> None:
    (tmp_path / "data.json").write_text(json.dumps({"a": "/p/a.jpg"}), "utf-8")
    with pytest.raises(BadTruthFile, match="FiftyOne"):
        read(tmp_path, {"classes": ["cat"], "labels": {"a": {"label": label}}})


def test_choices_of_label_studio_are_labels_of_the_path_beside_the_url(tmp_path: Path) -> None:
    tasks = [
        task({"image": "https://x.example/1", "path": "/p/a.jpg"}, ("cat",)),
        task({"image": "https://x.example/2", "path": "/p/b.jpg"}, ("cat", "dog")),
    ]
    found = read(tmp_path, tasks)
    assert found.layout == "label-studio" and found.warnings == ()
    assert found.labels == {"/p/a.jpg": ("cat",), "/p/b.jpg": ("cat", "dog")}


@pytest.mark.parametrize(
    "url",
    [
        "/data/local-files/?d=sub/a%20%26%20b.jpg",
        "https://photos.example/sub/a%20%26%20b.jpg?size=large",
    ],
)
def test_without_a_path_that_of_the_url_starts_from_the_folder_of_the_images(
    tmp_path: Path, url: str
) -> None:
    found = read(tmp_path, [task({"image": url}, ("cat",))], images=tmp_path / "photos")
    assert found.labels == {str(tmp_path / "photos/sub/a & b.jpg"): ("cat",)}


def test_the_last_annotation_counts_and_a_skipped_one_does_not(tmp_path: Path) -> None:
    twice = task({"path": "/p/a.jpg"}, ("cat",), ("dog",))
    twice["annotations"].reverse()
    skipped = task({"path": "/p/b.jpg"}, ("cat",), was_cancelled=True)
    found = read(tmp_path, [twice, skipped, task({"path": "/p/c.jpg"})])
    assert found.labels == {"/p/a.jpg": ("dog",)}
    assert found.warnings == (
        f"{tmp_path / 'labels.json'}: 2 tasks without a choice are left out.",
    )


def test_labels_of_fiftyone_are_those_of_the_paths_beside_them(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"x": "/p/a.jpg", "y": "sub/b.jpg", "z": "c.jpg"}')
    labels = {"x": {"label": "cat", "confidence": 0.5}, "y": [{"label": "cat"}, 1], "z": None}
    found = read(tmp_path, {"classes": ["cat", "dog"], "labels": labels})
    assert found.layout == "fiftyone"
    assert found.labels == {"/p/a.jpg": ("cat",), str(tmp_path / "sub/b.jpg"): ("cat", "dog")}
    assert found.warnings == (
        f"{tmp_path / 'labels.json'}: 1 images without a label are left out.",
    )


def test_labels_of_fiftyone_name_images_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/sub/a.jpg").touch()
    found = read(tmp_path, {"classes": None, "labels": {"sub/a": "cat"}})
    assert found.labels == {str(tmp_path / "data/sub/a.jpg"): ("cat",)}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([{"image": "a.jpg", "label": "cat"}], "not JSON-MIN: it has no 'annotations'"),
        ([3], "is not what Label Studio exports"),
        ([task({"text": "x"}, ("cat",))], "it has no 'image'"),
        ({"labels": {"x": "cat"}}, "data/ beside it: it has no 'x'"),
        ({"labels": ["cat"]}, "is not labels.json of a FiftyOneImageClassificationDataset"),
        ([], "holds no labels"),
    ],
)
def test_files_that_are_neither_are_refused(tmp_path: Path, value: Any, complaint: str) -> None:
    with pytest.raises(BadTruthFile, match=complaint):
        read(tmp_path, value)


def test_a_manifest_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("[]")
    with pytest.raises(BadTruthFile, match=r"data\.json is not a table of paths"):
        read(tmp_path, {"labels": {"x": "cat"}})
