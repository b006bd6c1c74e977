"""Test reading what users write: terms of queries, and files of labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.errors import BadTerm, EmptyQuery, QueryError
from clipsearch.heads.query import parse_term, parse_terms
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


@pytest.mark.slow
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
