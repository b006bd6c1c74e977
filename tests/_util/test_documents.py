"""Files that users wrote, whatever program they wrote them with: text, JSON, YAML and tables."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Thread

import pytest

from clipsearch._util.documents import (
    BadDocument,
    decode_document,
    parse_json,
    parse_table,
    parse_yaml,
    read_document,
    sniff_delimiter,
)


def cells(text: str, delimiter: str = "") -> list[list[str]]:
    return [[*map(str.strip, row.cells)] for row in parse_table(text, delimiter)]


# --- text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
)
def test_unicode_is_recognised_with_and_without_a_mark(encoding: str) -> None:
    text = "Käse;a cheese\nKatze;a cat\n"
    document = decode_document(text.encode(encoding))
    assert (document.text, document.note) == (text, "")


def test_windows_1252_is_read_with_a_note() -> None:
    document = decode_document("Käse;„fein“ 5 €\r\n".encode("cp1252"))
    assert document.text == "Käse;„fein“ 5 €\n"
    assert "Windows-1252" in document.note


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_end_of_a_line_is_one(end: str) -> None:
    assert decode_document(f"a{end}b{end}".encode()).text == "a\nb\n"


@pytest.mark.parametrize(
    "data",
    [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"caf\x81", b"\xff\xfea", b"\xff\xfe\x00\xd8a\0", b"a\0b"],
)
def test_what_is_no_text_is_refused(data: bytes) -> None:
    with pytest.raises(BadDocument, match="is not text"):
        decode_document(data)


def test_a_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"x" * 1000)
    assert len(read_document(file, 1000).text) == 1000
    with pytest.raises(BadDocument, match="larger than"):
        read_document(file, 999)
    with pytest.raises(BadDocument, match=r"^No such file or directory$"):
        read_document(tmp_path / "gone")
    with pytest.raises(BadDocument, match=r"^not a regular file$"):
        read_document("/dev/zero")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    with file.open("wb") as content:
        content.truncate(1 << 40)
    with pytest.raises(BadDocument, match="larger than 10 MB"):
        read_document(file)


def test_a_pipe_that_a_user_names_is_read_up_to_a_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for size in (1000, 1001):
        data = b"x" * size
        writer = Thread(target=(tmp_path / "pipe").write_bytes, args=(data,), daemon=True)
        writer.start()
        if size == 1000:
            assert read_document(tmp_path / "pipe", 1000).text == "x" * 1000
        else:
            with pytest.raises(BadDocument, match="larger than"):
                read_document(tmp_path / "pipe", 1000)
        writer.join()


# --- data --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" + "9" * 5000 + "]", "5,000 digits"),
        ("[NaN]", "NaN"),
        ("[-Infinity]", "Infinity"),
        ("", "Expecting value"),
        ('{"a": 1', "Expecting"),
        (r'{"caf\ud800": 1}', "half of a character"),
        (r'["a \uDC00"]', "half of a character"),
        (b'["\xed\xa0\x80"]', "half of a character"),
    ],
)
def test_json_that_cannot_be_used_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(BadDocument, match=reason) as error:
        parse_json(text)
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


def test_json_is_parsed() -> None:
    assert parse_json('{"a": [1, -2, 0.5, null, true]}') == {"a": [1, -2, 0.5, None, True]}
    assert parse_json(b"[1]") == [1]
    assert parse_json(r'["\ud83d\ude00"]') == parse_json(rb'["\ud83d\ude00"]') == ["\U0001f600"]


@pytest.mark.parametrize("text", ['"\\ud800"', '["a", "\\ud800"]', '{"\\ud800": [a]}'])
def test_yaml_with_half_of_a_character_is_refused(text: str) -> None:
    with pytest.raises(BadDocument, match="half of a character"):
        parse_yaml(text)


@pytest.mark.slow
def test_yaml_keeps_texts_and_refuses_bombs_at_once() -> None:
    assert parse_yaml("no: [1, null]\n") == {"no": ["1", "null"]}
    assert parse_yaml("a: &x [b]\nc: *x\n") == {"a": ["b"], "c": ["b"]}
    bomb = 'a0: &a0 ["x","x","x","x","x","x","x","x","x","x"]\n'
    for level in range(1, 10):
        bomb += f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]\n"
    start = time.monotonic()
    with pytest.raises(BadDocument, match="aliases make more than"):
        parse_yaml(bomb)
    with pytest.raises(BadDocument, match="nested too deeply"):
        parse_yaml("[" * 5000)
    for text in ("a: &a [*a]", "a: [b", "\x01", "a: *b", "? [a]\n: b", "%YAML 9"):
        with pytest.raises(BadDocument, match="not YAML") as error:
            parse_yaml(text)
        assert "\n" not in str(error.value)
    assert time.monotonic() - start < 60  # without the limits, for ever


# --- tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\nc,d\n", ","),
        ("label;prompt\nPferd;a horse\n", ";"),
        ("Pferd;a horse, brown\nKatze;a cat\n", ";"),
        ("cat,a cat; a kitten\ndog,a dog\n", ","),
        ("a\tb, c\nd\te\n", "\t"),
        ("a|b\nc|d\n", "|"),
        ('"a;b;c",d\n"e;f",g\n', ","),
        ("cat\ndog\n", ","),
        ("", ","),
    ],
)
def test_the_delimiter_is_the_one_that_most_rows_have(text: str, delimiter: str) -> None:
    assert sniff_delimiter(text) == delimiter


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "sep=; "])
def test_the_first_line_may_name_the_delimiter(first: str) -> None:
    rows = list(parse_table(f"{first}\na,b;c\n"))
    assert [(row.line, row.cells) for row in rows] == [(2, ["a,b", "c"])]
    assert cells("sep=\\t\na\tb\n") == cells("sep=\t\na\tb\n") == [["a", "b"]]


def test_quotes_blank_rows_and_space_around_cells() -> None:
    assert cells('a, "b, c" ,d\n\n , \n"e ""f""",g\n') == [["a", "b, c", "d"], ['e "f"', "g"]]
    assert cells('a\t"b"\n"c\td"\te\n') == [["a", "b"], ["c\td", "e"]]
    assert cells('5" disk\ta "b" c\n"x"\ty\n') == [['5" disk', 'a "b" c'], ['"x"', "y"]]
    assert cells('a;"b\nc"\n') == [["a", "b\nc"]]


def test_a_quote_that_is_not_closed_is_named_with_its_line() -> None:
    with pytest.raises(BadDocument, match="line 3"):
        cells('a,b\nc,"d\ne,f\n')
    assert cells('"a" b,c\n') == [["a b", "c"]]
    with pytest.raises(BadDocument, match="limit"):
        cells("x" * 200_000)
