"""Values of the wrong kind or size, at every public method of Library: one line of an error of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch import ClipsearchError, Library, QueryError, Term
from clipsearch._util.arrays import unit
from clipsearch.errors import BadTerm

NAN, INF = float("nan"), float("inf")
STRANGE: list[Any] = [3, 3.5, None, b"x", object(), [3], {"a": 3}, [None], True]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 90, 0)).save(folder / f"{number}.png")
    with Library.create(tmp_path_factory.mktemp("library"), encoder=ToyEncoder()) as library:
        library.index([folder])
        yield library


def refused(call: Callable[[], Any]) -> str:
    """Return the message of the error of ours that a call raises."""
    with pytest.raises(ClipsearchError) as error:
        call()
    message = str(error.value)
    assert message.isprintable() and len(message) <= 600
    return message


# --- terms and vectors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "weight"),
    [
        *(("text", "cat", weight) for weight in (0, NAN, INF, -INF, 1e30, -1e30, 1e-30, "2", None, True)),
        *(("text", value, 1) for value in (3, None, "", "  ", b"x", Path("a.jpg"))),
        ("image", 3, 1), ("image", "", 1), ("foo", "", 1), (3, "cat", 1), (None, "cat", 1),
    ],
)  # fmt: skip
def test_a_term_is_a_text_or_an_image_with_a_weight(kind: Any, value: Any, weight: Any) -> None:
    with pytest.raises(BadTerm) as error:
        Term(kind, value, weight)
    assert str(error.value).startswith(("a term is", "the weight of a term is"))
    with pytest.raises(QueryError):
        Term("foo")  # type: ignore[arg-type]


def test_terms_take_paths_and_every_weight_that_can_be_told_apart() -> None:
    assert Term.image(Path("a.jpg")) == Term("image", "a.jpg")  # type: ignore[arg-type]
    weights: tuple[Any, ...] = (1e-6, 1e6, -0.5, np.float32(2), 3)
    for weight in weights:
        assert Term.text("cat", weight).weight == weight


def test_vectors_of_any_length_point_somewhere(library: Library) -> None:
    dim = library.encoder.info.dim
    direction = np.linspace(-1, 1, dim)
    expected = [hit.path for hit in library.search(direction)]
    for scale in (1e300, 1e38, 1e-30, 1e-300):
        assert [hit.path for hit in library.search(direction * scale)] == expected
    assert [hit.path for hit in library.search((direction * 1e30).astype(np.float32))] == expected
    for bad in (NAN, INF, 0.0):
        refused(partial(library.search, np.full(dim, bad)))


def test_rows_of_large_numbers_become_unit_rows() -> None:
    rows = np.array([[3e38, 4e-3], [3e37, 4e37], [3, 4], [0, 0]], np.float32)
    expected = np.array([[1, 0], [0.6, 0.8], [0.6, 0.8], [0, 0]])
    np.testing.assert_allclose(unit(rows), expected, atol=1e-6)
    assert unit(rows).dtype == np.float32


def _or_three(value: Any) -> Any:
    """Return the value; None, which some arguments take, as a number, which none does."""
    return 3 if value is None else value


# --- methods -----------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Library, Any], Any]] = {
    "search": lambda library, value: library.search(value),
    "search where": lambda library, value: library.search("x", where=_or_three(value)),
    "search under": lambda library, value: library.search("x", under=_or_three(value)),
    "search images": lambda library, value: library.search("x", images=_or_three(value)),
    "search exclude": lambda library, value: library.search("x", exclude=_or_three(value)),
    "search label": lambda library, value: library.search("x", label=_or_three(value)),
    "similar": lambda library, value: library.similar(value),
    "head": lambda library, value: library.head(value),
    "head prompts": lambda library, value: library.head({"a": _or_three(value)}),
    "head templates": lambda library, value: library.head(["a"], templates=_or_three(value)),
    "classify": lambda library, value: library.classify(value),
    "learn": lambda library, value: library.learn(value),
    "evaluate": lambda library, value: library.evaluate(value),
    "calibrate": lambda library, value: library.calibrate(value),
    "calibration_questions": lambda library, value: library.calibration_questions(
        _or_three(value), 3
    ),
    "save_answers": lambda library, value: library.save_answers(value),
    "explain": lambda library, value: library.explain(library.head(["a"]), value),
    "index": lambda library, value: library.index(value),
    "index exclude": lambda library, value: library.index(["/"], exclude=_or_three(value)),
    "remove": lambda library, value: library.remove(value),
    "record": lambda library, value: library.record(value),
    "use": lambda library, value: library.use(value),
    "tokens": lambda library, value: library.tokens(value),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_value_of_the_wrong_kind_is_refused(library: Library, name: str) -> None:
    for value in STRANGE:
        refused(partial(CALLS[name], library, value))


@pytest.mark.parametrize("k", [0, -1, 1.5, "3", True, NAN])
def test_a_count_is_a_whole_number(library: Library, k: Any) -> None:
    refused(lambda: library.search("x", k=k))
    refused(lambda: library.similar(library.records()[0].path, k=k))
    refused(lambda: library.classify(["a", "b"], top=k))
    refused(lambda: library.calibration_questions(["a"], k))


@pytest.mark.parametrize("score", [NAN, INF, "0", b"0", [0]])
def test_a_score_is_a_finite_number(library: Library, score: Any) -> None:
    refused(lambda: library.search("x", min_score=score))
    refused(lambda: library.classify(["a", "b"], min_probability=score))
    refused(lambda: library.classify(["a", "b"], mode="multi", threshold=score))


def test_examples_are_paths_with_a_label_each(library: Library) -> None:
    path = library.records()[0].path
    message = refused(lambda: library.learn({"cat": [path]}))  # type: ignore[dict-item]
    assert message.startswith("examples are path -> label, a text: not [")


@pytest.mark.parametrize("text", ["x" * 20_001, "cat " * 125_000, "猫" * 500_000])
def test_a_text_of_thousands_of_characters_is_refused_at_once(library: Library, text: str) -> None:
    calls: list[Callable[[str], Any]] = [
        library.search,
        library.head,
        lambda text: library.head({"a": [text]}),
    ]
    for call in calls:
        assert "at most 20,000" in refused(partial(call, text))
    assert (
        len(library.head([text[:20_000]], templates=["{}"], on_warning=lambda _: None).labels) == 1
    )
    refused(lambda: library.head([str(n) for n in range(100_001)]))
