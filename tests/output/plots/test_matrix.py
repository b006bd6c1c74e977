"""Figures of matrices: every value is where it belongs, and all words are on the page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import FigureTooLarge
from clipsearch.library.matrix import Matrix
from clipsearch.output import plots
from clipsearch.output.plots.matrix import confusion_matrix, find_most_confused, heatmap
from clipsearch.types import Failure

VALUES = np.array([[0.31, 0.05, 0.2], [0.3, -0.004, 0.25]], dtype=np.float32)
IMAGE = np.full((20, 40, 3), 200, np.uint8)


def drawn(values: np.ndarray = VALUES, **changes: object) -> object:
    rows, columns = values.shape
    given = {
        "captions": [f"text {i}" for i in range(rows)],
        "names": [f"{i}.jpg" for i in range(columns)],
        "images": [IMAGE] * columns,
    }
    return heatmap(values, **(given | changes))  # type: ignore[arg-type]


# --- the matrix ----------------------------------------------------------------------------


def test_every_cell_says_its_value() -> None:
    (axes, _) = drawn().axes  # type: ignore[attr-defined]
    said = {
        (round(t.get_position()[0]), round(t.get_position()[1])): t.get_text() for t in axes.texts
    }
    assert [[said[column, row] for column in range(3)] for row in range(2)] == [
        [".310", ".050", ".200"],
        [".300", "-.004", ".250"],
    ]
    (axes, _) = drawn(probabilities="calibrated").axes  # type: ignore[attr-defined]
    assert [t.get_text() for t in axes.texts] == [".31", ".05", ".20", ".30", ".00", ".25"]


def test_the_best_of_each_row_and_column_are_marked() -> None:
    values = np.array([[0.3, 0.1, 0.2], [0.4, 0.0, 0.5]])
    (axes, _) = drawn(values).axes  # type: ignore[attr-defined]
    lines = [(line, np.asarray(line.get_xydata())) for line in axes.lines]
    dots = [xy for line, xy in lines if line.get_marker() == "o"]
    assert [(round(x), round(y)) for x, y in dots[0]] == [(0, 0), (2, 1)]
    frames = [xy[:4].mean(axis=0) for line, xy in lines if line.get_color() == plots.INK]
    assert np.round(frames).tolist() == [[0, 1], [1, 0], [2, 1]]


def test_one_text_or_one_image_has_no_best_to_be_marked() -> None:
    (axes, _) = drawn(VALUES[:, :1]).axes  # type: ignore[attr-defined]
    assert [line for line in axes.lines if line.get_marker() == "o"] == []
    (axes, _) = drawn(VALUES[:1]).axes  # type: ignore[attr-defined]
    assert [line for line in axes.lines if line.get_color() == plots.INK] == []


def test_colours_run_over_the_values_and_over_all_probabilities() -> None:
    (axes, bar) = drawn().axes  # type: ignore[attr-defined]
    np.testing.assert_allclose(axes.images[0].get_clim(), (-0.004, 0.31), atol=1e-6)
    assert bar.get_ylabel() == "cosine"
    (axes, bar) = drawn(probabilities="sigmoid").axes  # type: ignore[attr-defined]
    assert axes.images[0].get_clim() == (0, 1)
    assert bar.get_ylabel() == "probability (sigmoid)"


def test_images_lie_above_their_columns_in_their_own_proportions() -> None:
    (axes, _) = drawn(images=[IMAGE, None, IMAGE.transpose(1, 0, 2)]).axes  # type: ignore[attr-defined]
    wide, tall = (image.get_extent() for image in axes.images[1:])
    assert (wide[0] + wide[1]) / 2 == 0 and (tall[0] + tall[1]) / 2 == 2
    for extent, ratio in ((wide, 2), (tall, 0.5)):
        assert (extent[1] - extent[0]) / (extent[2] - extent[3]) == pytest.approx(ratio)
        assert (extent[2] + extent[3]) / 2 == pytest.approx(-1)
    assert "gone" in [text.get_text() for text in axes.texts]


def test_long_captions_are_wrapped_into_their_row_and_names_keep_their_ends() -> None:
    caption = "an orange boy who rides a blue horse " * 20
    name = "a-very-long-name-of-a-holiday-image-0001.jpg"
    made = drawn(captions=[caption, "$5 and $10"], names=[name, "b", "c"])
    (axes, _) = made.axes  # type: ignore[attr-defined]
    lines = axes.get_yticklabels()[0].get_text().split("\n")
    assert 1 < len(lines) <= 7 and max(map(len, lines)) <= 38 and lines[-1].endswith("…")
    assert axes.get_yticklabels()[1].get_text() == "$5 and $10"
    assert not axes.get_yticklabels()[1].get_parse_math()
    shown = axes.get_xticklabels()[0].get_text()
    assert len(shown) <= 28 and shown.endswith("image-0001.jpg"[-14:]) and "…" in shown


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (10, 10), (30, 30), (3, 40), (40, 3)])
def test_all_words_are_on_the_page(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(shape)
    made = drawn(values, captions=["a caption of some length"] * shape[0])
    made.canvas.draw()  # type: ignore[attr-defined]
    width, height = made.get_size_inches() * made.dpi  # type: ignore[attr-defined]
    (axes, bar) = made.axes  # type: ignore[attr-defined]
    words = [*axes.get_yticklabels(), *axes.get_xticklabels(), bar.yaxis.label, *made.texts]  # type: ignore[attr-defined]
    for box in (word.get_window_extent() for word in words if word.get_text()):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    assert max(width, height) / made.dpi <= 22  # type: ignore[attr-defined]


def test_a_figure_that_nobody_could_read_is_refused() -> None:
    with pytest.raises(FigureTooLarge, match="61 x 1 is too large"):
        drawn(np.zeros((61, 1)))


# --- the value -----------------------------------------------------------------------------


def matrix(paths: tuple[str, ...], texts: tuple[str, ...] = ("a cat", "a dog")) -> Matrix:
    scores = np.array([[0.3, 0.2], [0.1, 0.25]], dtype=np.float32)[: len(paths), : len(texts)]
    gone = Failure("/gone.jpg", "the file is not there (any more)")
    return Matrix(paths, texts, scores, scores / 2, "calibrated", "toy", (gone,))


def test_json_holds_every_number_and_every_failure() -> None:
    found = matrix(("/a.jpg", "/b.jpg")).to_dict()
    assert found == {
        "model": "toy",
        "normalisation": "calibrated",
        "texts": ["a cat", "a dog"],
        "images": [
            {
                "path": "/a.jpg",
                "best_text": "a cat",
                "scores": pytest.approx([0.3, 0.2]),
                "probabilities": pytest.approx([0.15, 0.1]),
            },
            {
                "path": "/b.jpg",
                "best_text": "a dog",
                "scores": pytest.approx([0.1, 0.25]),
                "probabilities": pytest.approx([0.05, 0.125]),
            },
        ],
        "best_images": {"a cat": "/a.jpg", "a dog": "/b.jpg"},
        "failures": [{"path": "/gone.jpg", "reason": "the file is not there (any more)"}],
    }


def test_a_matrix_shows_itself_with_its_images(make_images, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    paths = tuple(map(str, make_images(2)))
    found = matrix((paths[0], "/gone.jpg"))
    assert found._repr_png_().startswith(b"\x89PNG")  # type: ignore[union-attr]
    (axes, _) = found.figure().axes
    assert len(axes.images) == 2 and "gone" in [text.get_text() for text in axes.texts]
    # Images stand in columns here: texts, being longer, are read in lines.
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a cat", "a dog"]
    found.save(tmp_path / "m.png")
    assert (tmp_path / "m.png").read_bytes() == found._repr_png_()
    found.save(tmp_path / "p.png", probabilities=True)
    assert (tmp_path / "p.png").read_bytes() != found._repr_png_()


def test_a_matrix_that_is_too_large_shows_no_image() -> None:
    n = 61
    scores = np.zeros((n, 1), np.float32)
    paths = tuple(map(str, range(n)))
    assert Matrix(paths, ("x",), scores, scores, "calibrated", "toy")._repr_png_() is None


# --- confusion matrices ----------------------------------------------------------------------


def test_a_confusion_matrix_shows_counts_coloured_by_their_share_of_the_row() -> None:
    counts = np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]])
    (axes,) = confusion_matrix(counts, ["ape", "cat", "owl"], title="animals").axes
    (cells,) = axes.images
    assert np.asarray(cells.get_array()).tolist() == [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "3", (1, 0): "1", (1, 1): "2"}
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["ape", "cat", "owl"]
    assert axes.get_title(loc="left") == "animals"


def test_of_very_many_labels_the_most_confused_are_shown() -> None:
    n = 50
    counts = 5 * np.eye(n, dtype=np.int64)
    counts[7, 40] = counts[45, 3] = 2
    assert find_most_confused(counts, 4).tolist() == [3, 7, 40, 45]
    (axes,) = confusion_matrix(counts, [f"label {j}" for j in range(n)]).axes
    shown = [tick.get_text() for tick in axes.get_yticklabels()]
    assert len(shown) == 40
    assert {"label 3", "label 7", "label 40", "label 45"} <= {*shown}
    assert f"40 of {n} labels" in axes.get_title(loc="left")
    assert not axes.texts  # no room for numbers
