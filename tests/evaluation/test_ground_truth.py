"""Files of true labels and captions: every layout, and what is said of those that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipsearch.errors import BadTruthFile
from clipsearch.evaluation.ground_truth import GroundTruth, read_ground_truth


def read(tmp_path: Path, text: str, name: str = "truth.csv", **options: object) -> GroundTruth:
    (tmp_path / name).write_text(text, "utf-8")
    return read_ground_truth(tmp_path / name, **options)  # type: ignore[arg-type]


def names(found: object, below: Path) -> dict[str, tuple[str, ...]]:
    return {str(Path(p).relative_to(below)): v for p, v in found.items()}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\na.jpg,cat\nb.jpg,dog\n", {"a.jpg": ("cat",), "b.jpg": ("dog",)}),
        ("a.jpg,cat\nsub/b.png,dog\n", {"a.jpg": ("cat",), "sub/b.png": ("dog",)}),
        ("\ufeffFile Name,x\n", None),
        ("filename,class\na.jpg,black cat\n", {"a.jpg": ("black cat",)}),
        ("path,label\na.jpg,cat,dog\nb.jpg,dog\n", {"a.jpg": ("cat", "dog"), "b.jpg": ("dog",)}),
        ("path,label,label2\na.jpg,cat,dog\n", {"a.jpg": ("cat", "dog")}),
        ("a.jpg,cat\na.jpg,dog\na.jpg,cat\n", {"a.jpg": ("cat", "dog")}),
        ("image,tags\na.jpg,cat; dog\n", {"a.jpg": ("cat", "dog")}),
        ("image;label\na.jpg;cat, or so\n", {"a.jpg": ("cat, or so",)}),
        ("a.jpg\tcat\n", {"a.jpg": ("cat",)}),
        ("label,path\ncat,a.jpg\n", {"a.jpg": ("cat",)}),
        ('path,label\n"a,b.jpg","ca\nt"\n', {"a,b.jpg": ("ca t",)}),
        # What `classify -f csv` writes: the other columns hold guesses.
        (
            "path,label,probability,label_2,labels\na.jpg,cat,0.9,dog,old\n",
            {"a.jpg": ("cat",)},
        ),
    ],
)
def test_tables_of_labels(
    tmp_path: Path, text: str, expected: dict[str, tuple[str, ...]] | None
) -> None:
    if expected is None:
        with pytest.raises(BadTruthFile, match="columns File Name, x"):
            read(tmp_path, text)
        return
    truth = read(tmp_path, text)
    assert (names(truth.labels, tmp_path), truth.captions) == (expected, {})
    assert truth.layout == "labels" and truth.warnings == ()
    assert truth.classes == tuple(sorted({label for v in expected.values() for label in v}))
    assert truth.multi_label == any(len(v) > 1 for v in expected.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,caption\na.jpg,a dog\na.jpg,one dog\n", {"a.jpg": ("a dog", "one dog")}),
        ("image,caption\na.jpg,a dog, and a cat\n", {"a.jpg": ("a dog, and a cat",)}),
        ('image,caption\na.jpg,"a ""big"" dog"\n', {"a.jpg": ('a "big" dog',)}),
        ("a.jpg,a dog runs on grass\n", {"a.jpg": ("a dog runs on grass",)}),
        ("image_name| comment_number| comment\na.jpg| 0| Two dogs .\n", {"a.jpg": ("Two dogs .",)}),
        ('a.jpg\t"a dog" runs on grass\n', {"a.jpg": ('"a dog" runs on grass',)}),
    ],
)
def test_tables_of_captions(
    tmp_path: Path, text: str, expected: dict[str, tuple[str, ...]]
) -> None:
    truth = read(tmp_path, text)
    assert (names(truth.captions, tmp_path), truth.labels) == (expected, {})
    assert truth.layout == "captions"


def test_the_bundled_captions_are_read_whole() -> None:
    samples = Path(__file__).parents[2] / "clipsearch" / "samples"
    captions = read_ground_truth(samples / "captions.csv").captions
    assert len(captions) == 300
    assert captions[str(samples / "scene-000.webp")] == ("an orange boy riding a blue horse",)


def test_a_layout_that_is_given_beats_what_the_rows_look_like(tmp_path: Path) -> None:
    text = "a.jpg,a dog runs on grass\n"
    assert read(tmp_path, text, layout="labels").classes == ("a dog runs on grass",)
    assert read(tmp_path, "a.jpg,dog\n", layout="captions").captions
    with pytest.raises(BadTruthFile, match="unknown layout 'voc'"):
        read(tmp_path, text, layout="voc")


def test_labels_and_captions_may_stand_in_one_table(tmp_path: Path) -> None:
    truth = read(tmp_path, "path,label,caption\na.jpg,cat,a cat, asleep\n")
    assert names(truth.labels, tmp_path) == {"a.jpg": ("cat",)}
    assert names(truth.captions, tmp_path) == {"a.jpg": ("a cat, asleep",)}


def test_a_folder_a_class(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "cat/deep/2.png", "dog/1.webp", "dog/notes.txt", "empty/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loose.jpg").touch()
    (tmp_path / ".hidden").mkdir()
    truth = read_ground_truth(tmp_path)
    assert names(truth.labels, tmp_path) == {
        "cat/1.jpg": ("cat",), "cat/deep/2.png": ("cat",), "dog/1.webp": ("dog",)
    }  # fmt: skip
    assert truth.layout == "folders"
    first, second = truth.warnings
    assert first.endswith("empty holds no images: the class is left out.")
    assert "1 images lie in no class's folder" in second


def test_flickr8k_token_lines(tmp_path: Path) -> None:
    text = "1_a.jpg#0\tA dog .\n1_a.jpg#1\tOne dog , running .\n2_b.jpg#0\tA cat .\n"
    truth = read(tmp_path, text, "Flickr8k.token.txt", images=tmp_path / "Images")
    assert names(truth.captions, tmp_path / "Images") == {
        "1_a.jpg": ("A dog .", "One dog , running ."), "2_b.jpg": ("A cat .",)
    }  # fmt: skip
    assert truth.layout == "flickr8k"
    with pytest.raises(
        BadTruthFile, match=r"line 2: not `name\.jpg#0`, a tab and a caption: 'x y'"
    ):
        read(tmp_path, "a.jpg#0\tA dog .\nx y\n")


def test_coco_captions_and_instances(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}]
    captions = [{"image_id": 9, "caption": "a dog"}, {"image_id": 9, "caption": "one dog"}]
    whole: dict[str, Any] = {"images": images, "annotations": captions}
    truth = read(tmp_path, json.dumps(whole), "captions.json")
    assert names(truth.captions, tmp_path) == {"b.jpg": ("a dog", "one dog")}
    boxes = [{"image_id": 7, "category_id": c} for c in (2, 1, 2)]
    kinds = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    whole = {"images": images, "annotations": boxes, "categories": kinds}
    truth = read(tmp_path, json.dumps(whole), "instances.json")
    assert names(truth.labels, tmp_path) == {"a.jpg": ("dog", "cat")}


def test_absolute_paths_stay_and_others_start_from_the_file_or_from_images(tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert set(read(tmp_path, f"{other}/a.jpg,cat\n").labels) == {f"{other}/a.jpg"}
    assert set(read(tmp_path, "x/../a.jpg,cat\n").labels) == {f"{tmp_path}/a.jpg"}
    assert set(read(tmp_path, "a.jpg,cat\n", images=other).labels) == {f"{other}/a.jpg"}


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    truth = read(tmp_path, "path,label\na.jpg,cat\nb.jpg,\nc.jpg\n\n")
    assert names(truth.labels, tmp_path) == {"a.jpg": ("cat",)}
    (warning,) = truth.warnings
    assert warning.endswith("2 rows without a label are left out.")


@pytest.mark.parametrize(
    ("text", "name", "complaint"),
    [
        ("", "t.csv", "is empty"),
        ("\n \n", "t.csv", "is empty"),
        ("foo,bar\na.jpg,cat\n", "t.csv", "columns foo, bar: needed are the path"),
        ("path,size\na.jpg,12\n", "t.csv", "columns path, size: needed"),
        ("a.jpg\n", "t.csv", "columns a.jpg: needed"),
        ("path,label\n", "t.csv", "holds no labels and no captions"),
        ("path,label\n,cat\n", "t.csv", "line 2: no image is named"),
        ('path,label\n"a.jpg,cat\n', "t.csv", "line 2: a quote is not closed"),
        ("{", "t.json", "is not JSON"),
        ('{"images": []}', "t.json", "is not COCO's JSON"),
        ('{"images": []}', "t.json", "it has no 'annotations'"),
        ('{"images": [], "annotations": [{"image_id": 3}]}', "t.json", "it has no 3"),
    ],
)
def test_files_that_are_no_truth(tmp_path: Path, text: str, name: str, complaint: str) -> None:
    with pytest.raises(BadTruthFile, match=complaint):
        read(tmp_path, text, name)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadTruthFile, match="No such file"):
        read_ground_truth(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadTruthFile, match="not text in UTF-16"):
        read_ground_truth(tmp_path / "binary.csv")
    with pytest.raises(BadTruthFile, match="no folders in it"):
        read_ground_truth(tmp_path)


# --- files as programs write them ---------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "id,label\na.jpg,cat\nb.jpg,dog\n",
        "filename;class\r\na.jpg;cat\r\nb.jpg;dog\r\n",
        "IMAGE,Category\na.jpg,cat\nb.jpg,dog\n",
        "Image Name\tLabel\na.jpg\tcat\nb.jpg\tdog\n",
        "sep=;\nDatei;Klasse\na.jpg;cat\nb.jpg;dog\n",
        ",image,label\n0,a.jpg,cat\n1,b.jpg,dog\n",
        "label;path\ncat;a.jpg\n\n ; \ndog;b.jpg\n",
        'id,path,class\n7,"a.jpg","cat"\n8, "b.jpg", "dog"\n',
        "\ufeffpfad|kategorie\na.jpg|cat\nb.jpg|dog\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_headers_and_delimiters_of_any_usual_kind(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    truth = read_ground_truth(tmp_path / "t.csv")
    assert names(truth.labels, tmp_path) == {"a.jpg": ("cat",), "b.jpg": ("dog",)}
    assert truth.warnings == ()


def test_windows_1252_is_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path;label\na.jpg;Käse\n".encode("cp1252"))
    truth = read_ground_truth(tmp_path / "t.csv")
    assert truth.classes == ("Käse",)
    assert ["Windows-1252" in warning for warning in truth.warnings] == [True]


def test_spellings_of_a_label_are_one(tmp_path: Path) -> None:
    text = "path,label\na.jpg,Cat\nb.jpg,cat\nc.jpg,cat\nd.jpg,Ka\u0308se\ne.jpg,K\u00e4se\nf.jpg,DOG\n"
    truth = read(tmp_path, text)
    assert len(truth.classes) == 3 and "cat" in truth.classes and "DOG" in truth.classes
    [warning] = truth.warnings
    assert warning == "2 spellings of labels are taken for others: 'Cat' for 'cat'."
    spelled = truth.spelled_as(["dog", "CAT", "x"])
    assert names(spelled, tmp_path)["f.jpg"] == ("dog",)
    assert names(spelled, tmp_path)["b.jpg"] == ("CAT",)


def test_names_with_composed_letters_are_those_of_the_files(tmp_path: Path) -> None:
    composed, apart = "K\u00e4se.jpg", "Ka\u0308se.jpg"
    (tmp_path / apart).write_bytes(b"x")
    truth = read(tmp_path, f"path,label\n{composed},cheese\n")
    assert list(truth.labels) == [str(tmp_path / apart)]
    (tmp_path / composed).write_bytes(b"x")
    truth = read(tmp_path, f"path,label\n{composed},cheese\n{apart},other\n")
    assert names(truth.labels, tmp_path) == {composed: ("cheese",), apart: ("other",)}


def test_paths_from_windows_lead_to_folders(tmp_path: Path) -> None:
    truth = read(tmp_path, "path,label\nsub\\a.jpg,cat\n")
    assert names(truth.labels, tmp_path) == {"sub/a.jpg": ("cat",)}
