"""Test reading what users write: terms of queries, and files of labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import BadLabelFile, BadTerm, EmptyQuery, QueryError, TooFewLabels
from clipsearch.heads.query import labels_from_file, parse_term, parse_terms
from clipsearch.types import Term

plain = st.text(min_size=1).map(str.strip).filter(lambda t: t and t[0] not in "+-.0123456789\\")
weights = st.decimals(-1000, 1000, places=3).filter(bool)


@pytest.mark.parametrize(
    ("text", "value", "weight"),
    [
        ("a blue horse", "a blue horse", 1),
        ("2:horse", "horse", 2),
        ("0.5: horse ", "horse", 0.5),
        (".5:horse", "horse", 0.5),
        ("2.:horse", "horse", 2),
        ("-1:rain", "rain", -1),
        ("+3:sun", "sun", 3),
        ("  2:horse", "horse", 2),
        ("2:30 pm", "30 pm", 2),
        (r"\2:30 pm", "2:30 pm", 1),
        (r"\-1:0 defeat", "-1:0 defeat", 1),
        (r"\\2:30", r"\2:30", 1),
        (r"\horse", r"\horse", 1),
        ("2:3:horse", "3:horse", 2),
        (r"2:\3:horse", r"\3:horse", 2),
        ("title: a horse", "title: a horse", 1),
        ("2 :horse", "2 :horse", 1),
        ("1e3:horse", "1e3:horse", 1),
        ("--1:horse", "--1:horse", 1),
        ("٢:horse", "٢:horse", 1),
        ("2:a\nb", "a\nb", 2),
    ],
)
def test_a_term_is_an_optional_weight_and_a_value(text: str, value: str, weight: float) -> None:
    assert parse_term(text) == Term("text", value, weight)


def test_an_image_follows_the_same_grammar() -> None:
    assert parse_term("0.5:a dog.jpg", "image") == Term("image", "a dog.jpg", 0.5)
    assert parse_term(r"C:\dog.jpg", "image") == Term("image", r"C:\dog.jpg")
    assert parse_term(r"\\server\dog.jpg", "image") == Term("image", r"\\server\dog.jpg")


@given(plain, weights)
def test_a_weight_before_any_text_is_read_back(value: str, weight: object) -> None:
    assert parse_term(f"{weight}:{value}") == Term("text", value, float(str(weight)))


@given(plain, weights)
def test_a_backslash_makes_any_weight_part_of_the_text(value: str, weight: object) -> None:
    assert parse_term(f"\\{weight}:{value}") == Term("text", f"{weight}:{value}")


@given(st.text())
def test_any_text_is_a_term_or_a_query_error(text: str) -> None:
    try:
        term = parse_term(text)
    except QueryError:
        assert not text.strip() or ":" in text
    else:
        assert term.value
        assert term.weight != 0
        assert text.strip().endswith(term.value)


@pytest.mark.parametrize("text", ["0:horse", "-0.0:horse", f"{'9' * 400}:horse"])
def test_a_weight_must_weigh_something(text: str) -> None:
    with pytest.raises(BadTerm, match="other than 0") as caught:
        parse_term(text)
    assert f"\\{text}" in str(caught.value)


@pytest.mark.parametrize("text", ["2:", "-1:  "])
def test_a_weight_alone_is_refused(text: str) -> None:
    with pytest.raises(BadTerm, match="without anything to weigh"):
        parse_term(text)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_is_no_term(text: str) -> None:
    with pytest.raises(EmptyQuery):
        parse_term(text)


def test_a_query_is_its_texts_then_images_then_what_it_should_not_be() -> None:
    ready = Term.image("b.jpg", 3)
    assert parse_terms(["2:horse", "boy"], images=["a.jpg", ready], exclude=["rain", "2:snow"]) == (
        Term("text", "horse", 2),
        Term("text", "boy"),
        Term("image", "a.jpg"),
        ready,
        Term("text", "rain", -1),
        Term("text", "snow", -2),
    )


def test_what_is_excluded_counts_against_whatever_its_sign() -> None:
    terms = parse_terms(exclude=["-2:rain", Term.text("snow", -3), Term.text("fog")])
    assert [term.weight for term in terms] == [-2, -3, -1]


def test_one_text_is_one_term() -> None:
    assert parse_terms("horse") == (Term("text", "horse"),)


def test_a_query_without_terms_is_empty() -> None:
    with pytest.raises(EmptyQuery, match="in words or with an image"):
        parse_terms()


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
        ("a.txt", "\udcff", "cannot be read"),
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
