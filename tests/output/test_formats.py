"""The table of formats: every entry has a writer, and suffixes choose among them."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

import pytest
from result_values import hit, prediction

from clipsearch.errors import BadOutputFile
from clipsearch.output.formats import (
    FORMATS,
    Kind,
    format_names,
    format_of_file,
    format_suffixes,
    write_value,
)
from clipsearch.output.presenting import save
from clipsearch.types import Results


def test_every_writer_of_the_table_exists() -> None:
    for format in FORMATS.values():
        for kind, name in format.writers.items():
            module, _, function = name.partition(":")
            assert kind in get_args(Kind)
            assert callable(getattr(import_module(f"clipsearch.output.{module}"), function)), name


def test_every_kind_but_those_of_figures_alone_is_a_table_and_json() -> None:
    for kind in get_args(Kind):
        assert {"table", "json"} <= {*format_names(kind)} or kind in ("learning_curve", "confusion")


def test_no_suffix_names_two_formats() -> None:
    suffixes = [suffix for format in FORMATS.values() for suffix in format.suffixes]
    assert len(suffixes) == len({*suffixes})
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes)


@pytest.mark.parametrize(
    ("kind", "name", "format"),
    [
        ("hits", "a.CSV", "csv"),
        ("hits", "a.htm", "html"),
        ("predictions", "a.b.jsonl", "jsonl"),
        ("evaluation", "a.md", "md"),
        ("matrix", "a.svg", "svg"),
        ("confusion", "a.pdf", "pdf"),
    ],
)
def test_the_suffix_of_a_file_names_its_format(kind: Kind, name: str, format: str) -> None:
    assert format_of_file(kind, name).name == format


@pytest.mark.parametrize(
    ("kind", "name"),
    [("hits", "x.npy"), ("hits", "x.md"), ("evaluation", "x.png"), ("topics", "x")],
)
def test_another_suffix_is_an_error_that_lists_those_there_are(kind: Kind, name: str) -> None:
    with pytest.raises(BadOutputFile) as told:
        format_of_file(kind, name)
    assert name in str(told.value)
    assert all(suffix in str(told.value) for suffix in format_suffixes(kind))


def test_results_are_saved_by_the_suffix_and_not_at_all_for_another(tmp_path: Path) -> None:
    save(Results((hit("/a.jpg", 0.5),)), tmp_path / "hits.csv")
    save(Results((prediction("/a.jpg", cat=1.0),)), tmp_path / "labels.csv")
    assert (tmp_path / "hits.csv").read_text().startswith("path,score,relevance,bytes,width,")
    assert (tmp_path / "labels.csv").read_text().startswith("path,label,probability,score,none,")
    with pytest.raises(BadOutputFile):
        save(Results(()), tmp_path / "x.npy")
    assert len(list(tmp_path.iterdir())) == 2


def test_what_has_no_format_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="int has no output format"):
        save(3, "x.json")


def test_a_light_process_loads_the_table_without_any_writer() -> None:
    import subprocess
    import sys

    code = "import sys, clipsearch.output.formats; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in run.stdout.split() if name.startswith("clipsearch.output")}
    assert loaded == {"clipsearch.output", "clipsearch.output.formats"}
    assert not {"numpy", "jinja2", "matplotlib"} & {*run.stdout.split()}


def test_text_goes_to_a_text_stream_and_a_figure_to_a_binary_one() -> None:
    text = io.StringIO()
    write_value([hit("/a.jpg", 0.5)], "hits", "paths", text)
    assert text.getvalue() == "/a.jpg\n"


def test_results_without_items_are_written_as_their_kind(tmp_path: Path) -> None:
    columns = {}
    kinds: tuple[Literal["hits", "predictions"] | None, ...] = (None, "hits", "predictions")
    for kind in kinds:
        save(Results((), kind=kind), tmp_path / "empty.csv")
        columns[kind] = (tmp_path / "empty.csv").read_text("utf-8").split(",")[:3]
    assert columns[None] == columns["hits"] == ["path", "score", "relevance"]
    assert columns["predictions"] == ["path", "label", "probability"]
