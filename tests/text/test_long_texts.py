"""Long texts from end to end: the library, `clipsearch tokens`, `--truncate`, and other languages."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from conftest import ToyEncoder

from clipsearch import cli as command_line
from clipsearch.cli.console import bar_chart
from clipsearch.encoders import load_tokenizer
from clipsearch.library import Library
from clipsearch.text.encode import encode_texts
from clipsearch.types import Term

ROOT = Path(__file__).parents[2]
LONG = "One two three four five. Six seven eight nine ten eleven. " * 3
GERMAN = "ein Hund am Strand"

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def library(tmp_path: Path, make_images: Callable[..., list[Path]]) -> Iterator[Library]:
    """Five images and an encoder that reads 16 tokens."""
    encoder = ToyEncoder(context_length=16)
    with Library.create(tmp_path / "library", encoder=encoder) as made:
        made.index(make_images(5))
        yield made


@pytest.fixture
def cli(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Cli]:
    """Run a command line in an empty folder: its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("CLIPSEARCH_LIBRARY", raising=False)
    before = warnings.showwarning

    def run(*arguments: object) -> tuple[int, str, str]:
        code = command_line.main([str(argument) for argument in arguments])
        return (code, *capfd.readouterr())

    yield run
    warnings.showwarning = before


# --- the library ---------------------------------------------------------------------------


def test_a_long_query_is_searched_whole_and_the_results_say_so(library: Library) -> None:
    hits = library.search(LONG, k=5)
    (note,) = hits.warnings
    assert "has 35 tokens, more than the 16 that toy reads: it was read in 3 pieces" in note
    with pytest.warns(UserWarning):
        (vector,) = encode_texts(library.encoder, [LONG])
    stored = library.embeddings()
    expected = dict(zip((r.path for r in stored.records), stored.vectors @ vector, strict=True))
    assert {hit.path: hit.score for hit in hits} == pytest.approx(expected, abs=1e-3)


def test_a_truncated_query_is_what_the_model_makes_of_it(library: Library) -> None:
    hits = library.search([LONG, "cat"], k=5, truncate=True)
    (note,) = hits.warnings
    assert note.endswith("the rest was cut.")
    start = " ".join(LONG.split()[:14])
    assert [hit.score for hit in hits] == pytest.approx(
        [hit.score for hit in library.search([start, "cat"], k=5)], abs=1e-5
    )
    assert library.search(start).warnings == ()


def test_long_labels_are_read_whole_and_the_predictions_say_so(library: Library) -> None:
    labels = {"story": [LONG], "cat": ["a cat"]}
    (note,) = library.classify(labels).warnings
    assert "read in 3 pieces" in note
    (note,) = library.classify(labels, truncate=True).warnings
    assert "the rest was cut" in note
    assert library.classify({"cat": ["a cat"], "dog": ["a dog"]}).warnings == ()


def test_heads_of_long_labels_differ_by_what_would_be_cut(library: Library) -> None:
    labels = [LONG + "cat", LONG + "dog"]
    with pytest.warns(UserWarning, match="read in 3 pieces") as caught:
        whole = library.head(labels)
    assert len(caught) == 1
    notes: list[str] = []
    cut = library.head(labels, templates=["{}"], truncate=True, on_warning=notes.append)
    assert len(notes) == 1
    np.testing.assert_array_equal(cut.vectors[0], cut.vectors[1])
    assert abs(whole.vectors[0] - whole.vectors[1]).max() > 0.01


def test_another_language_is_searched_and_remarked(library: Library) -> None:
    hits = library.search(GERMAN, k=5)
    assert len(hits) == 5
    assert "seems to be German" in hits.warnings[0]
    assert "seems to be German" in library.classify([GERMAN]).warnings[0]
    library.encoder.tokenizer.multilingual = True
    assert library.search(GERMAN).warnings == ()


def test_texts_that_are_left_out_count_too(library: Library) -> None:
    assert len(library.search("cat", exclude=[LONG]).warnings) == 1
    assert len(library.search(Term.text(LONG, 0.5)).warnings) == 1


def test_a_library_shows_the_tokens_of_its_model(library: Library) -> None:
    first, second = library.tokens(["one two", LONG])
    assert [token.piece for token in first.tokens] == ["<start>", "one", "two", "<end>"]
    assert (first.model, first.context_length, first.left) == ("toy", 16, 12)
    assert (second.count, second.over, len(second.pieces)) == (35, 19, 3)
    assert library.tokens("one two") == [first]


def test_the_tokens_of_a_stored_model_need_no_weights(tmp_path: Path) -> None:
    folder = tiny_models.make_siglip(tmp_path / "siglip")
    with Library.create(tmp_path / "library", model=f"local-dir:{folder}"):
        pass
    (folder / "open_clip_model.safetensors").write_bytes(b"damaged")
    with Library.open(tmp_path / "library") as library:
        (table,) = library.tokens("blue horse")
    assert (table.context_length, table.tokens[-1].piece) == (16, "</s>")
    assert [token.kind for token in table.tokens].count("start") == 0


# --- the command line ----------------------------------------------------------------------


def test_without_a_library_the_tokens_of_clip_are_shown(cli: Cli) -> None:
    code, out, err = cli("tokens", "a blue horse")
    assert code == 0
    assert "these are the tokens of `mini`" in err
    lines = out.splitlines()
    assert lines[0] == "a blue horse"
    assert lines[1] == "5 of the 77 that mini reads, with start and end: 72 are left."
    assert [re.split(r"  +", line.strip()) for line in lines[3:]] == [
        ["place", "id", "piece"],
        ["0", "49406", "<start_of_text>", "start"],
        ["1", "320", "a</w>"],
        ["2", "1746", "blue</w>"],
        ["3", "4558", "horse</w>"],
        ["4", "49407", "<end_of_text>", "end"],
        ["5-76", "0", "!", "padding"],
    ]


def test_a_long_text_is_shown_with_its_pieces_and_what_would_be_cut(cli: Cli) -> None:
    text = "A cat sits on the mat. " * 12 + "Last comes a green horse."
    code, out, err = cli("tokens", text, "--model", "mini")
    assert (code, err) == (0, "")
    assert "92 tokens with start and end: 15 more than the 77 that mini reads." in out
    assert out.count(" cut\n") == 15
    assert re.search(r"^\s+76 +49407 +<end_of_text> +end$", out, re.MULTILINE)
    assert "It is read in 6 pieces, and their vectors are averaged" in out
    assert out.rstrip().endswith("mat . last comes a green horse .")


def test_tokens_as_json_are_those_of_the_api(cli: Cli, library: Library) -> None:
    texts = ["a cat", "über 犬 " * 40]
    code, out, _ = cli("tokens", *texts, "--model", "mini", "-f", "json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)
    assert [one["text"] for one in found] == texts
    tokenizer = load_tokenizer("mini")
    for one in found:
        ids = [token["id"] for token in one["tokens"] if token["kind"] in ("text", "cut")]
        assert [ids] == tokenizer.ids([one["text"]])
    assert [one["over"] > 0 for one in found] == [False, True]


def test_a_library_and_a_model_are_not_both_asked(cli: Cli, library: Library) -> None:
    code, _, err = cli("tokens", "a cat", "--model", "mini", "-L", library.path)
    assert code == 2
    assert "name one" in err


def test_a_library_that_is_named_must_be_there(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("tokens", "a cat", "-L", tmp_path / "none")
    assert (code, out) == (1, "")
    assert err.startswith("error: no library in")


def test_unknown_models_are_errors(cli: Cli) -> None:
    code, _, err = cli("tokens", "a cat", "--model", "minni")
    assert code == 1
    assert "Did you mean 'mini'" in err


@pytest.mark.slow
@pytest.mark.filterwarnings("always::UserWarning")
@pytest.mark.parametrize("command", ["query", "classify"])
def test_one_warning_line_a_run(cli: Cli, tmp_path: Path, command: str) -> None:
    folder = tiny_models.make_siglip(tmp_path / "siglip")
    with Library.create(tmp_path / "library", model=f"local-dir:{folder}"):
        pass
    text = "a photo of a blue horse in rain. " * 9
    for option, said in ((), "pieces"), (("--truncate",), "the rest was cut"):
        code, _, err = cli(command, text, text + "cat", *option, "-L", tmp_path / "library")
        assert code == 0
        (line,) = [line for line in err.splitlines() if line.startswith("warning: ")]
        assert line.startswith("warning: 'a photo of a blue horse in rain.")
        assert "more than the 16" in line and said in line
    code, _, err = cli(command, "cat", "dog", "-L", tmp_path / "library")
    assert "warning" not in err


def test_a_chart_shows_how_long_labels_begin(capsys: pytest.CaptureFixture[str]) -> None:
    bar_chart({LONG: 3, "cat": 1}, 4)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("One two three four five. Six seven eigh…  █")
    assert second.startswith("cat                                       █")
