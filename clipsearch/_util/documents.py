"""Read text, JSON, YAML and tables that users wrote, whatever program they wrote them with.

Each reader ends within bounds of memory and time: it returns a value or raises BadDocument.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from clipsearch._util import describe_error, fold_label, is_utf8
from clipsearch._util.verified import read_bounded

LABEL_FILE_BYTES = 10_000_000
"""The largest file of labels."""
_YAML_NODES = 500_000
_YAML_DEPTH = 50
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_DELIMITERS = ",;\t|"
_SNIFFED_ROWS = 200
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<mark>[^"\n]|\\t)"?', re.IGNORECASE)
"""What Excel writes and reads as the first line of a CSV file."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LOCAL_ENCODING = "cp1252"
"""What programs on Windows in Western Europe and America write where they write no Unicode."""


class BadDocument(ValueError):
    """A file that cannot be read, and why; its reader says which file."""


# --- text --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Document:
    """The text of a file.

    Attributes
    ----------
    text
        With `\\n` as line end, whatever the file has.
    note
        What the user should know of how it was read; empty mostly.
    """

    text: str
    note: str = ""


def read_document(path: str | os.PathLike[str], most: int = LABEL_FILE_BYTES) -> Document:
    """Read a text file in UTF-8, UTF-16 or UTF-32, with or without a mark, else in Windows-1252.

    Parameters
    ----------
    path
        The file, or a pipe.
    most
        The largest number of bytes.

    Raises
    ------
    BadDocument
        It cannot be read, is too large, or is no text.
    """
    try:
        data = read_bounded(path, most, pipes=True)
    except (OSError, ValueError) as error:
        raise BadDocument(describe_error(error)) from error
    return decode_document(data)


def decode_document(data: bytes) -> Document:
    """Decode the bytes of a text file. Raises BadDocument if they are no text."""
    mark, encoding = next(((m, e) for m, e in _MARKS if data.startswith(m)), (b"", ""))
    if not encoding:
        encoding = _encoding_of(data)
    note = ""
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise BadDocument(f"it is not text in {encoding.upper()}: save it as UTF-8") from error
    if "\0" in text:
        raise BadDocument("it is not text: it holds zero bytes")
    if encoding == _LOCAL_ENCODING:
        note = "it is not UTF-8 and was read as Windows-1252: save it as UTF-8 if letters are wrong"
    text = text.lstrip("\ufeff")
    return Document(text.replace("\r\n", "\n").replace("\r", "\n"), note)


def _encoding_of(data: bytes) -> str:
    """Guess the encoding of a text without a mark."""
    zeros = [data[parity:4096:2].count(0) for parity in (0, 1)]
    if max(zeros) > len(data[:4096]) // 5 and min(zeros) * 10 < max(zeros):
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return _LOCAL_ENCODING
    return "utf-8"


# --- data --------------------------------------------------------------------------------------


def parse_json(text: str | bytes) -> Any:
    """Parse JSON. Raises BadDocument also where it is nested too deeply or has no finite numbers."""
    try:
        data = json.loads(text, parse_constant=_refuse_constant, parse_int=_parse_int)
        # Half of a character can come by its escape alone, or by bytes that are not UTF-8.
        if isinstance(text, bytes) or _HALF.search(text):
            _check_letters([json.dumps(data, ensure_ascii=False)])
        return data
    except BadDocument:
        raise
    except RecursionError:
        raise BadDocument("it is nested too deeply") from None
    except ValueError as error:
        raise BadDocument(f"it is not JSON: {describe_error(error)}") from error


def _check_letters(texts: Iterable[Any]) -> None:
    if not all(is_utf8(text) for text in texts if isinstance(text, str)):
        raise BadDocument("it holds half of a character, as \\ud800 is: write the whole one")


def _refuse_constant(name: str) -> Any:
    raise BadDocument(f"it is not JSON: {name} is no number in it")


def _parse_int(digits: str) -> int:
    if len(digits) > 400:  # beyond the range of floating-point numbers, and slow to convert
        raise BadDocument(f"it has a number of {len(digits):,} digits")
    return int(digits)


def parse_yaml(text: str) -> Any:
    """Parse YAML, in which every value is a text, a list or a mapping.

    Raises
    ------
    BadDocument
        Also where it is nested too deeply or grows too large by its aliases.
    """
    import yaml

    try:
        # The base loader keeps texts: to others, the label `no` is False.
        data = yaml.load(text, yaml.BaseLoader)
    except RecursionError:
        raise BadDocument("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise BadDocument(f"it is not YAML: {describe_error(error)}") from error
    _check_values(data)
    return data


def _check_values(data: Any) -> None:
    """Count the values of YAML with those of aliases as often as they are named, and check texts."""
    left = _YAML_NODES
    todo: list[tuple[Any, int]] = [([data], -1)]
    while todo:
        value, depth = todo.pop()
        inner = (
            [*value.keys(), *value.values()]
            if isinstance(value, dict)
            else value
            if isinstance(value, list)
            else []
        )
        _check_letters(inner)
        left -= 1 + len(inner)
        if left < 0 or depth > _YAML_DEPTH:
            raise BadDocument(f"its aliases make more than {_YAML_NODES:,} values of it")
        todo += [(one, depth + 1) for one in inner if isinstance(one, dict | list)]


# --- tables ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes
    ----------
    line
        The number of its last line in the file, from 1.
    cells
        With the space around them.
    """

    line: int
    cells: list[str]


def parse_table(text: str, delimiter: str = "") -> Iterator[Row]:
    """Yield the rows of a table that are not empty.

    The delimiter is the one that a first line `sep=;` names, else the one given, else the one of
    comma, semicolon, tab and bar that most rows have outside of quotes.

    Parameters
    ----------
    text
        Of a CSV file, with `\\n` as line end.
    delimiter
        The delimiter, where it is known.

    Raises
    ------
    BadDocument
        A quote is not closed, or a cell is longer than the module `csv` reads.
    """
    first, _, rest = text.partition("\n")
    skipped = 0
    if found := _SEPARATOR_LINE.fullmatch(first.strip(" ")):
        delimiter, text, skipped = found["mark"].replace("\\t", "\t"), rest, 1
    delimiter = delimiter or sniff_delimiter(text)
    plain = delimiter in "\t|" and not _is_quoted(text, delimiter)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
        skipinitialspace=re.search(f'{re.escape(delimiter)} +"', text) is not None,
        strict=not plain and _closes_quotes(text, delimiter),
    )
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield Row(reader.line_num + skipped, cells)
    except csv.Error as error:
        reason = "a quote is not closed" if "unexpected end" in str(error) else str(error)
        raise BadDocument(f"line {reader.line_num + skipped}: {reason}") from error


def sniff_delimiter(text: str) -> str:
    """Return the delimiter that most of the first rows have; a comma where none has any.

    Of two that as many rows have, the one that stands first in more of them.
    """
    having: Counter[str] = Counter()
    leading: Counter[str] = Counter()
    for line in islice(filter(str.strip, text.split("\n", _SNIFFED_ROWS)), _SNIFFED_ROWS):
        bare = re.sub(r'"[^"]*"', "", line[:10_000])
        places = {mark: place for mark in _DELIMITERS if (place := bare.find(mark)) >= 0}
        having.update(places.keys())
        if places:
            leading[min(places, key=places.__getitem__)] += 1
    return max(_DELIMITERS, key=lambda mark: (having[mark], leading[mark]))


def _is_quoted(text: str, delimiter: str) -> bool:
    """Tell whether quotes of a table with tabs or bars are around cells, not part of them."""
    mark = re.escape(delimiter)
    quoted = re.compile(rf'(?:^|{mark})"(?:[^"\n]|"")*"(?={mark}|$)', re.MULTILINE)
    return text.count('"') > 0 and '"' not in quoted.sub("", text)


def _closes_quotes(text: str, delimiter: str) -> bool:
    """Tell whether to insist that quotes end with their cell: only the last one may be the fault."""
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


# --- columns -----------------------------------------------------------------------------------

PATH_COLUMNS = {
    *("path", "paths", "file", "files", "filename", "filenames", "file_name", "filepath"),
    *("file_path", "image", "images", "image_name", "image_path", "image_file", "imagename"),
    *("image_filename", "img", "img_name", "img_path", "picture", "photo", "relative_path", "src"),
    *("datei", "dateiname", "dateipfad", "pfad", "bild", "bilddatei", "bildname", "foto"),
    *("fichier", "chemin", "nom_fichier", "archivo", "fichero", "ruta", "imagen", "immagine"),
    *("percorso", "arquivo", "imagem", "bestand", "afbeelding"),
}
"""Names of columns with paths of images, as `fold_name` returns them; so all below."""
LABEL_COLUMNS = {
    *("label", "class", "category", "classname", "class_name", "label_name", "labelname", "tag"),
    *(
        "category_name",
        "true_label",
        "ground_truth",
        "klasse",
        "kategorie",
        "etikett",
        "klassenname",
    ),
    *("classe", "catégorie", "étiquette", "clase", "categoría", "etiqueta", "categoria"),
    *("etichetta", "categorie", "klass", "類別", "类别", "标签", "ラベル", "クラス"),
}
MANY_LABELS_COLUMNS = {
    *("labels", "classes", "categories", "tags", "keywords"),
    *(
        "klassen",
        "kategorien",
        "schlagwörter",
        "étiquettes",
        "catégories",
        "etiquetas",
        "categorías",
    ),
}
CAPTION_COLUMNS = {
    *("caption", "captions", "text", "sentence", "description", "comment", "raw"),
    *("beschreibung", "bildunterschrift", "satz", "légende", "descripción", "descrizione"),
}
PROMPT_COLUMNS = {
    *("prompt", "prompts", "texts", "descriptions", "phrase", "phrases", "query", "template"),
    *("beschreibungen", "satz", "sätze", "text", "texte"),
}
NAME_COLUMNS = {"name", "names", "title", "bezeichnung", "titel", "nom", "nombre", "nome"}
"""Names that a table of labels may have for them, and that may be labels as well."""
ID_COLUMNS = {
    *("id", "ids", "index", "idx", "nr", "no", "number", "num", "nummer", "count", "anzahl"),
    *("class_id", "category_id", "label_id", "image_id", "klassen_id", "wnid", "synset", "split"),
    *("supercategory", "color", "colour", "farbe", "key", "code", "unnamed:_0"),
}


def fold_name(cell: str) -> str:
    """Return the name of a column without case, and with one `_` for space, dashes and dots."""
    return re.sub(r"[\s_\-.]+", "_", fold_label(cell)).strip("_")
