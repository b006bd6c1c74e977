"""Texts of any length become vectors whole, or are cut where that is asked for: never unsaid."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder

import clipsearch
from clipsearch.heads.head import Head
from clipsearch.text.encode import ProgressReader, Reader, encode_texts, reading
from clipsearch.types import Progress, Term

PACKAGE = Path(clipsearch.__file__).parent
SHORT = "a blue horse"
LONG = "One two three four five. Six seven eight nine ten eleven. " * 3
"""33 tokens of the toy, 35 with start and end."""
SENTENCES = ["One two three four five.", "Six seven eight nine ten eleven."] * 3


@pytest.fixture
def encoder() -> ToyEncoder:
    """An encoder that reads 16 tokens."""
    return ToyEncoder(context_length=16)


def said(encoder: ToyEncoder, texts: Sequence[str], **options: bool) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encode_texts(encoder, texts, **options)
    return [str(warning.message) for warning in caught]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


# --- vectors -------------------------------------------------------------------------------


def test_texts_that_fit_are_left_to_the_encoder(encoder: ToyEncoder) -> None:
    texts = [SHORT, "", "cat " * 14]
    np.testing.assert_array_equal(encode_texts(encoder, texts), encoder.encode_texts(texts))
    assert said(encoder, texts) == []
    assert encode_texts(encoder, [SHORT][:0] or [SHORT]).dtype == np.float32


@pytest.mark.filterwarnings("ignore")
def test_a_long_text_is_the_mean_of_its_pieces_by_their_tokens(encoder: ToyEncoder) -> None:
    rows = encode_texts(encoder, [SHORT, LONG, "a cat"])
    pieces = [" ".join(SENTENCES[:2]), " ".join(SENTENCES[2:4]), " ".join(SENTENCES[4:])]
    assert [len(piece.split()) for piece in pieces] == [11, 11, 11]
    expected = unit(encoder.encode_texts(pieces).mean(axis=0))
    np.testing.assert_allclose(rows[1], expected, atol=1e-6)
    np.testing.assert_allclose(rows[[0, 2]], encoder.encode_texts([SHORT, "a cat"]), atol=1e-6)
    uneven = "One two three four five six seven eight nine. Ten eleven twelve thirteen fourteen 15."
    nine, six = encoder.encode_texts(
        ["one two three four five six seven eight nine.", "ten eleven twelve thirteen fourteen 15."]
    )
    (found,) = encode_texts(encoder, [uneven])
    np.testing.assert_allclose(found, unit(9 * nine + 6 * six), atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_end_of_a_long_text_counts_unless_it_is_truncated(encoder: ToyEncoder) -> None:
    cat, dog = LONG + "cat", LONG + "dog"
    whole = encode_texts(encoder, [cat, dog])
    cut = encode_texts(encoder, [cat, dog], truncate=True)
    assert abs(whole[0] - whole[1]).max() > 0.01
    np.testing.assert_array_equal(cut[0], cut[1])
    np.testing.assert_array_equal(cut, encoder.encode_texts([cat, dog]))


def test_one_text_alone_is_refused(encoder: ToyEncoder) -> None:
    with pytest.raises(TypeError, match="list of texts"):
        encode_texts(encoder, SHORT)


# --- what is said --------------------------------------------------------------------------


def test_one_line_says_that_a_text_is_too_long(encoder: ToyEncoder) -> None:
    (line,) = said(encoder, [SHORT, LONG])
    assert line == (
        "'One two three four five. Six seven eight…' has 35 tokens, more than the 16 that toy "
        "reads: it was read in 3 pieces, and their vectors averaged."
    )
    (line,) = said(encoder, [LONG, SHORT, "cat " * 15, LONG])
    assert line.endswith("averaged. So were 2 more.")
    (line,) = said(encoder, ["cat " * 15, "dog " * 15])
    assert line.endswith("averaged. So was 1 more.")


def test_one_line_says_that_texts_were_cut(encoder: ToyEncoder) -> None:
    (line,) = said(encoder, [LONG], truncate=True)
    assert line == (
        "'One two three four five. Six seven eight…' has 35 tokens, more than the 16 that toy "
        "reads: the rest was cut."
    )


def test_letters_that_are_many_tokens_are_counted(encoder: ToyEncoder) -> None:
    """A short text of other letters than ASCII may have more tokens than letters."""

    class Bytes(type(encoder.tokenizer)):  # type: ignore[misc]
        def ids(self, texts: Sequence[str]) -> list[list[int]]:
            return [list(text.encode()) for text in texts]

    encoder.tokenizer = Bytes(16)
    assert said(encoder, ["naïve café ok"])[0].startswith("'naïve café ok' has 17 tokens")
    assert said(encoder, ["naive cafe ok"]) == []


def test_one_line_says_that_a_text_is_in_another_language(encoder: ToyEncoder) -> None:
    (line,) = said(encoder, [SHORT, "ein Hund am Strand", "собака на пляже"])
    assert line.startswith(
        "'ein Hund am Strand' seems to be German, but toy was trained on English"
    )
    assert "--model multilingual" in line
    assert len(said(encoder, [LONG, "ein Hund am Strand"])) == 2


def test_models_of_many_languages_are_asked_in_any(encoder: ToyEncoder) -> None:
    encoder.tokenizer.multilingual = True
    assert said(encoder, ["ein Hund am Strand", "собака на пляже"]) == []


def test_several_calls_have_one_report(encoder: ToyEncoder) -> None:
    notes: list[str] = []
    with reading(encoder, on_warning=notes.append) as reader:
        reader.encode_texts([LONG])
        encode_texts(reader, [LONG, SHORT])
        with reading(reader) as same:
            assert same is reader
            same.encode_texts(["ein Hund am Strand"])
        assert notes == []
    assert len(notes) == 2
    assert notes[0].endswith("So was 1 more.")


def test_a_reader_is_an_encoder(encoder: ToyEncoder) -> None:
    reader = Reader(encoder)
    assert isinstance(reader, clipsearch.Encoder)
    assert reader.info is encoder.info
    assert reader.context_length == 16


# --- no way around it ----------------------------------------------------------------------


def test_heads_are_made_of_whole_texts_and_say_so_once(encoder: ToyEncoder) -> None:
    with pytest.warns(UserWarning) as caught:
        head = Head.from_prompts(encoder, {"a": [LONG, SHORT], "b": [LONG + "b"], "c": ["c"]})
    assert len(caught) == 1
    with pytest.warns(UserWarning):
        whole = encode_texts(encoder, [LONG, SHORT])
    np.testing.assert_allclose(head.vectors[0], unit(whole.mean(axis=0)), atol=1e-6)
    with pytest.warns(UserWarning) as caught:
        query = Head.from_terms(encoder, [Term.text(LONG), Term.text("cat " * 20, 2)])
    assert len(caught) == 1
    with pytest.warns(UserWarning):
        first, second = encode_texts(encoder, [LONG, "cat " * 20])
    np.testing.assert_allclose(query.vectors[0], unit(first + 2 * second), atol=1e-6)


def test_many_labels_in_parts_are_one_report(
    encoder: ToyEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.heads.head._PROMPTS_AT_ONCE", 2)
    with pytest.warns(UserWarning, match="So were 8 more") as caught:
        Head.from_prompts(encoder, {str(i): [LONG + str(i)] for i in range(9)})
    assert len(caught) == 1


def calls_past(folder: Path) -> list[str]:
    """Return where modules call the `encode_texts` of an encoder themselves; encoders may."""
    found = []
    encoders = folder / "encoders"
    for path in sorted(p for p in folder.rglob("*.py") if encoders not in p.parents):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "encode_texts":
                owner = ast.unparse(node.value)
                if path.parent.name != "text" and owner not in ("texts", "reader"):
                    found.append(f"{path.relative_to(folder)}:{node.lineno}: {owner}.encode_texts")
    return found


def test_nothing_encodes_texts_past_this_module(tmp_path: Path) -> None:
    assert calls_past(PACKAGE) == []
    (tmp_path / "m.py").write_text("x = self.encoder.encode_texts(texts)\n", "utf-8")
    assert calls_past(tmp_path) == ["m.py:1: self.encoder.encode_texts"]


def test_many_texts_are_encoded_in_parts_and_each_is_reported(encoder: ToyEncoder) -> None:
    texts, steps = [f"text {i}" for i in range(130)], list[Progress]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # long ones are read in pieces, without a word
        rows = ProgressReader(encoder, "captions", steps.append).encode_texts([*texts, LONG])
    np.testing.assert_array_equal(rows[:130], encoder.encode_texts(texts))
    assert rows.shape == (131, 32) and rows.dtype == np.float32
    assert steps == [Progress("captions", done, 131) for done in (0, 64, 128, 131)]


def test_a_head_of_a_reader_with_progress_is_the_same(encoder: ToyEncoder) -> None:
    prompts = {"horse": [SHORT], "cat": ["a cat", "cats"]}
    steps: list[Progress] = []
    head = Head.from_prompts(ProgressReader(encoder, "vocabulary", steps.append), prompts)
    np.testing.assert_array_equal(head.vectors, Head.from_prompts(encoder, prompts).vectors)
    assert steps == [Progress("vocabulary", 0, 3), Progress("vocabulary", 3, 3)]
