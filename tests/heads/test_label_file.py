"""Files of labels: lines, tables, JSON and YAML, from whatever program they come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipsearch._util import ClipsearchWarning
from clipsearch.errors import BadLabelFile, TooFewLabels
from clipsearch.heads.label_file import labels_from_file
from clipsearch.types import Term

# --- files of labels -------------------------------------------------------------------------


EXPECTED = {"cat": ["a cat", "a kitten"], "no": [], "12:30": ["noon, nearly"], "Ünïcödé": []}
FILES = {
    "labels.txt": "# animals\ncat: a cat; a kitten\n\nno\n12:30: noon, nearly;\n  Ünïcödé:  \n",
    "labels": "cat: a cat\ncat: a kitten\nno:\n12:30: noon, nearly\nÜnïcödé",
    "labels.csv": 'Label,prompt\ncat,a cat,a kitten\nno,\n12:30,"noon, nearly"\n\nÜnïcödé,,\n',
    "labels.tsv": "cat\ta cat\ncat\ta kitten\nno\n12:30\tnoon, nearly\nÜnïcödé\n",
    "labels.json": json.dumps({**EXPECTED, "no": None, "12:30": "noon, nearly"}),
    "labels.yaml": "cat: [a cat, a kitten]\nno:\n12:30: noon, nearly\nÜnïcödé: null\n",
    "labels.YML": "cat:\n  - a cat\n  - a kitten\nno: []\n'12:30': ['noon, nearly']\nÜnïcödé: ~\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
def test_labels_and_prompts_are_read_from_every_kind_of_file(
    tmp_path: Path, name: str, mark: str
) -> None:
    (tmp_path / name).write_text(mark + FILES[name], "utf-8")
    assert labels_from_file(tmp_path / name) == EXPECTED


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "cat\ndog\n"),
        ("a.csv", "cat\r\ndog\r\n"),
        ("a.json", '["cat", "dog"]'),
        ("a.yaml", "- cat\n- dog\n"),
    ],
)
def test_a_plain_list_of_labels_is_enough(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert labels_from_file(tmp_path / name) == {"cat": [], "dog": []}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", "{", "cannot be read"),
        ("a.json", "3", "a list of labels"),
        ("a.json", "[3]", "must be texts"),
        ("a.json", '{"cat": 3}', "must be texts"),
        ("a.json", '{"cat": {"a": "b"}}', "'cat' has 'a', where only texts and images are known"),
        ("a.json", '{"cat": {"images": [3]}}', "must be texts"),
        ("a.yaml", "cat: {texts: {a: b}}", "must be texts"),
        ("a.yaml", "? [cat]\n: a cat", "cannot be read"),
        ("a.txt", "cat: image:", "without the path of an image"),
        ("a.yaml", "a: [", "cannot be read"),
        ("a.yaml", "cat\ndog\n", "a list of labels"),
        ("a.txt", "\udc81", "cannot be read"),
        ("a.xlsx", "cat", r"from \.txt, \.csv, \.tsv, \.json, \.yaml, \.yml, not from \.xlsx"),
    ],
)
def test_a_file_without_labels_in_it_is_refused(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    (tmp_path / name).write_text(content, "utf-8", errors="surrogateescape")
    with pytest.raises(BadLabelFile, match=told):
        labels_from_file(tmp_path / name)


def test_a_missing_file_of_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadLabelFile, match=r"gone\.txt cannot be read"):
        labels_from_file(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", "# none\n\n"), ("a.yaml", ""), ("a.json", "[]"), ("a.csv", "")]
)
def test_an_empty_file_has_too_few_labels(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(TooFewLabels, match="holds no labels"):
        labels_from_file(tmp_path / name)


# --- example images ----------------------------------------------------------------------

WITH_IMAGES = {
    "labels.txt": "rex: my dog; image:rex.jpg; image: ../b c.png\nthing: image:/t.webp\nno\n",
    "labels.csv": "label,prompts\nrex,my dog,image:rex.jpg,image:../b c.png\nthing,image:/t.webp\nno\n",
    "labels.json": json.dumps(
        {
            "rex": {"texts": ["my dog"], "images": ["rex.jpg", "../b c.png"]},
            "thing": {"images": "/t.webp"},
            "no": {},
        }
    ),
    "labels.yaml": "rex:\n  texts: my dog\n  images: [rex.jpg, ../b c.png]\n"
    "thing: {images: /t.webp, texts: }\nno:\n",
}


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_images_are_named_beside_the_texts_relative_to_the_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / name).write_text(WITH_IMAGES[name])
    monkeypatch.chdir(tmp_path)
    rex = [Term.image(str(folder / "rex.jpg")), Term.image(str(tmp_path / "b c.png"))]
    assert labels_from_file(Path("labels") / name) == {
        "rex": ["my dog", *rex],
        "thing": [Term.image("/t.webp")],
        "no": [],
    }


def test_a_text_may_begin_like_an_image_where_the_format_tells_them_apart(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("cat: ['image: a cat', '@cat']")
    assert labels_from_file(tmp_path / "a.yaml") == {"cat": ["image: a cat", "@cat"]}


# --- tables as programs write them --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("label;prompt\nPferd;a horse\nKatze;a cat\n", {"Pferd": ["a horse"], "Katze": ["a cat"]}),
        ("sep=;\nPferd;a horse, brown\n", {"Pferd": ["a horse, brown"]}),
        ("cat\ta cat\ndog\ta dog\n", {"cat": ["a cat"], "dog": ["a dog"]}),
        ("id,label\n1,cat\n2,dog\n", {"cat": [], "dog": []}),
        ("ID;Name\n1;cat\n", {"cat": []}),
        (",label\n0,cat\n1,dog\n", {"cat": [], "dog": []}),
        ("filename,class\na.jpg,cat\nb.jpg,dog\nc.jpg,cat\n", {"cat": [], "dog": []}),
        ("image,category\na.jpg,cat\n", {"cat": []}),
        ("path,labels\na.jpg,cat;dog\nb.jpg,dog\n", {"cat": [], "dog": []}),
        ("a.jpg,cat\nb.png,dog\n", {"cat": [], "dog": []}),
        ("Kategorie;Beschreibung\nPferd;ein Pferd\n", {"Pferd": ["ein Pferd"]}),
        ('"Klasse";"Text"\r\n"Hund";"ein ""guter"" Hund; braun"\r\n', {"Hund": ['ein "guter" Hund; braun']}),
        ("CLASS\ncat\n\n;;\ndog\n", {"cat": [], "dog": []}),
        ("label,prompt,,\ncat,a cat,a kitten,a tom\n", {"cat": ["a cat", "a kitten", "a tom"]}),
        ("label,prompt 1,prompt 2,color\ncat,a cat,a kitten,#ff0000\n", {"cat": ["a cat", "a kitten"]}),
        ("class,a school class\ncat,a cat\n", {"class": ["a school class"], "cat": ["a cat"]}),
        ("name\ncat\n", {"name": [], "cat": []}),
        ("cat, \"a cat, asleep\"\n", {"cat": ["a cat, asleep"]}),
        ("cat,a cat; a kitten\ndog,a dog\n", {"cat": ["a cat; a kitten"], "dog": ["a dog"]}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_tables_of_any_usual_kind(
    tmp_path: Path, text: str, labels: dict[str, list[str]], encoding: str
) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert labels_from_file(tmp_path / "a.csv") == labels


def test_windows_1252_is_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Käse: „feiner“ Käse\r\n".encode("cp1252"))
    with pytest.warns(ClipsearchWarning, match="a.txt: it is not UTF-8"):
        assert labels_from_file(tmp_path / "a.txt") == {"Käse": ["„feiner“ Käse"]}


@pytest.mark.slow
def test_files_beyond_the_bounds_are_refused_at_once(tmp_path: Path) -> None:
    for name, text, told in (
        ("a.txt", "x" * 10_000_001, "larger than 10 MB"),
        ("a.txt", "a\n" * 300_001, "more than 300,000 labels and prompts"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", "[" + "9" * 5000 + "]", "5,000 digits"),
        ("a.yaml", "cat: [&a [x, y]" + ", *a" * 300_000 + "]", "aliases"),
        ("a.csv", 'cat,"a cat\n', "a quote is not closed"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(BadLabelFile, match=told):
            labels_from_file(tmp_path / name)
