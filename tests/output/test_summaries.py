"""Tables about a library, its models, calibrations, few-shot results and tokens: what each row says."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.calibration.fit import Fitted, Reliability, ReliabilityBins
from clipsearch.calibration.platt import PlattCalibration
from clipsearch.encoders.compiler.compile import Compilation
from clipsearch.encoders.compiler.store import Gate, Manifest
from clipsearch.evaluation.results import Measure
from clipsearch.fewshot.cross_validation import CurvePoint
from clipsearch.fewshot.result import FewShotResult, LabelGain
from clipsearch.heads.head import Head
from clipsearch.output.formats import Kind, WriteOptions, write_value
from clipsearch.output.summaries import describe_left_out
from clipsearch.text.tokens import Piece, Token, TokenTable
from clipsearch.types import Failure, Finding, IndexReport, Status

STATUS = Status(
    path="/index",
    format=3,
    model="mini",
    models={"mini": 1200},
    files=1200,
    contents=1200,
    failed=0,
    bytes_on_disk=2_500_000,
    roots=("/photos",),
    labels={},
    index_kind=None,
    indexed=0,
    tail=1200,
    stale=0,
)
COMPRESSED = replace(
    STATUS,
    index_kind="compressed",
    indexed=1000,
    tail=200,
    index_bytes=1500,
    index_memory=999,
    index_recall=0.9914,
    index_queries="texts",
    index_texts=400,
    index_tuned={"depth": 1500},
)


def shown(value: Any, kind: Kind) -> list[str]:
    """Return the lines of a table, its cells apart by one bar."""
    stream = io.StringIO()
    write_value(value, kind, "table", stream, WriteOptions())
    lines = [line.split("  ") for line in stream.getvalue().splitlines()]
    return ["|".join(cell.strip() for cell in line if cell.strip()) for line in lines]


def rows(value: Any, kind: Kind) -> list[str]:
    """Return the lines of a table but its heads."""
    return shown(value, kind)[1:]


# --- a library -------------------------------------------------------------------------------


def test_a_new_library_says_that_nothing_was_indexed() -> None:
    new = replace(STATUS, model=None, models={}, files=0, contents=0, roots=(), tail=0)
    assert shown(new, "status")[0] == "library|/index"
    assert rows(new, "status") == [
        "images|0 files",
        "model|none yet",
        "last indexed|never",
        "vector index|none needed for 0 images",
        "on disk|2.5 MB",
        "format|3",
    ]


def test_the_status_counts_copies_failures_folders_labels_and_models() -> None:
    found = rows(
        replace(
            STATUS,
            files=1210,
            failed=1,
            models={"mini": 1200, "old": 1},
            roots=("/photos", "/scans"),
            labels={"cat": 1, "dog": 20},
            last_scan=datetime(2024, 5, 1, 12, 3, 59),
        ),
        "status",
    )
    assert found[:9] == [
        "images|1,210 files, 1,200 different",
        "not read|1 file (see `clipsearch errors`)",
        "model|mini",
        "models|mini (1,200 images)",
        "models|old (1 image)",
        "folder|/photos",
        "folder|/scans",
        "label|cat (1 image)",
        "label|dog (20 images)",
    ]
    assert "last indexed|2024-05-01 12:03" in found


def test_the_status_says_how_many_of_the_nearest_the_index_finds() -> None:
    assert rows(replace(COMPRESSED, stale=3), "status")[4:-2] == [
        "vector index|compressed, 1,000 vectors",
        "200 newer vectors beside it, searched as well",
        "finds|99.1 % of the ten nearest (recall@10)",
        "tuned on|400 captions of the model (depth 1,500)",
        "index size|999 bytes in memory, 1.5 kB on disk",
        "to clear|3 vectors of images that are gone",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"index_recall": None}, "finds|not measured"),
        ({"index_recall": 1.0, "index_queries": ""}, "finds|all: it compares every vector"),
        (
            {"index_queries": "simulated", "index_texts": 0, "index_tuned": {}},
            "tuned on|simulated texts",
        ),
        (
            {"index_queries": "both", "index_texts": 20},
            "tuned on|20 captions of the model and simulated texts (depth 1,500)",
        ),
        ({"index_queries": "words"}, "tuned on|words (depth 1,500)"),
    ],
)
def test_what_was_not_measured_is_not_claimed(changes: dict[str, Any], line: str) -> None:
    found = rows(replace(COMPRESSED, tail=0, **changes), "status")
    assert line in found
    assert not any("newer vector" in row or "to clear" in row for row in found)


def test_a_report_of_indexing_counts_files() -> None:
    report = IndexReport(added=1234, updated=2, unchanged=3, renamed=4, removed=5, failed=6)
    assert rows(report, "index_report") == [
        *("1,234|added", "2|updated", "3|unchanged", "4|renamed", "5|removed", "6|failed")
    ]


def test_what_a_run_left_out_is_one_line() -> None:
    report = IndexReport(left_out={"raw": 7, "video": 2, "unsupported": 1})
    assert describe_left_out(report) == (
        "left out: 7 raw files, 2 video files, 1 unsupported image file."
    )
    assert describe_left_out(IndexReport(left_out={"system": 3})) == (
        "left out: 3 system folders (--no-default-ignores includes these)."
    )


def test_failures_and_findings_say_what_to_do_and_no_table_stands_for_none() -> None:
    assert rows([Failure("/p/a\n.jpg", "it is empty")], "failures") == [r"/p/a\n.jpg|it is empty"]
    found = [
        Finding("file-missing", "1 file is gone.", "index again"),
        Finding("vector-damaged", "2 vectors.", "index again", repaired=True),
    ]
    assert rows(found, "findings") == [
        "file-missing|1 file is gone.|index again",
        "vector-damaged|2 vectors.|repaired",
    ]
    assert shown([], "failures") == [] and shown([], "findings") == []


# --- models ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compiled", "text"),
    [
        (None, "no"),
        ({"precision": "fp32", "gate": None}, "fp32"),
        ({"precision": "int8", "gate": None}, "int8"),
        ({"precision": "int8", "gate": {"cosine": 0.99712}}, "int8 (0.99712)"),
    ],
)
def test_a_table_of_models_says_what_is_on_disk_and_how_it_is_compiled(
    compiled: dict[str, Any] | None, text: str
) -> None:
    model = {
        "name": "default",
        "spec": "ViT-B-32/x",
        "size_mb": 1605,
        "languages": "English",
        "licence": "MIT",
        "on_disk": compiled is not None,
        "compiled": compiled,
        "about": "ok",
    }
    there = "no" if compiled is None else "yes"
    assert rows([model], "models") == [f"default|ViT-B-32/x|1,605 MB|English|MIT|{there}|{text}|ok"]


def compilation(gate: Gate | None, reason: str = "") -> Compilation:
    manifest = Manifest(
        fingerprint="f",
        dim=4,
        logit_scale=100.0,
        logit_bias=None,
        context_length=77,
        precision="int8" if gate else "fp32",
        preprocess={"size": (224, 224)},
        tokenizer={},
        cut=None,
        ways={"image": "written", "text": "exported"},
        proof={},
        gate=gate,
        files={"a": 1_000_000, "b": 500_000},
    )
    return Compilation("ViT-B-32/x", Path("/cache/x"), manifest, True, reason)


def test_a_compiled_model_says_how_near_int8_comes_to_fp32() -> None:
    made = compilation(Gate(120, 0.99712, 0.9901, True, 0.0271, 0.0034))
    assert shown(made, "compilation")[0] == "model|ViT-B-32/x"
    assert rows(made, "compilation") == [
        "precision|int8",
        "image tower|written by hand",
        "text tower|exported by torch, in fp32",
        "int8 compared|with fp32 on 120 images",
        "mean cosine|0.99712 (the least 0.99010)",
        "error of scores|2.7% ± 0.3%",
        "on disk|1.5 MB",
        f"folder|{Path('/cache/x')}",
    ]


def test_a_compiled_model_says_why_it_is_not_int8() -> None:
    found = rows(compilation(None, "it was asked for"), "compilation")
    assert "fp32, since|it was asked for" in found
    assert not any(row.startswith("int8 compared") for row in found)


# --- calibration and few-shot ----------------------------------------------------------------


def test_a_calibration_shows_the_errors_before_and_after() -> None:
    bins = ReliabilityBins(*(np.zeros(n) for n in (3, 2, 2, 2)))
    before, after = (
        Reliability(ece, brier, auroc, bins)
        for ece, brier, auroc in ((0.25, 0.1236, 0.9), (0.01, 0.1, math.nan))
    )
    fitted = Fitted(PlattCalibration(1.0, 0.0), before, after, 10, ("cat",))
    assert shown(fitted, "calibration")[0] == "probabilities|ECE|Brier|AUROC"
    assert rows(fitted, "calibration") == ["before|0.250|0.124|0.900", "after|0.010|0.100|–"]


def few_shot(**changes: Any) -> FewShotResult:
    head = Head(("cat", "dog"), np.eye(2, dtype=np.float32), (("a",), ("b",)), "mini", "f", 100.0)
    found = FewShotResult(
        head=head,
        method="probe",
        strength=1.0,
        images=1200,
        tested=1200,
        zero_shot=Measure(0.8),
        few_shot=Measure(0.9),
        gain=Measure(0.1, 0.05, 0.15),
        labels=(
            LabelGain("cat", 1000, 1000, 0.9, 0.85, "dog"),
            LabelGain("dog", 200, 200, 0.7, 0.95),
        ),
        confusion=None,
        curve=(),
        trial=None,
    )
    return replace(found, **changes)


def test_a_few_shot_result_shows_gains_with_their_sign_and_what_a_label_is_taken_for() -> None:
    assert rows(few_shot(), "few_shot") == [
        "all labels|1,200|80.0 %|90.0 %|+10.0|95 %: +5.0 to +15.0",
        "cat|1,000|90.0 %|85.0 %|-5.0|taken for dog",
        "dog|200|70.0 %|95.0 %|+25.0",
    ]


def test_shares_that_could_not_be_measured_stay_empty() -> None:
    nothing = Measure(math.nan)
    one = LabelGain("cat", 1, 0, math.nan, math.nan)
    changes = {"zero_shot": nothing, "few_shot": nothing, "gain": nothing, "labels": (one,)}
    assert rows(few_shot(**changes), "few_shot") == ["all labels|1,200", "cat|1"]


def test_the_learning_curve_stands_below_the_labels() -> None:
    curve = (CurvePoint(1, 0.8, 0.85, 0.8, 0.9, 20), CurvePoint(16, 0.8, 0.95, 0.942, 1.0, 20))
    found = shown(few_shot(curve=curve), "few_shot")
    assert found[4] == "" and found[5] == "images per label|zero-shot|few-shot|95 % of draws"
    assert found[6:] == ["1|80.0 %|85.0 %|80.0 to 90.0 %", "16|80.0 %|95.0 %|94.2 to 100.0 %"]


# --- tokens ----------------------------------------------------------------------------------

START, END, PAD = (
    Token(0, "<start>", "start"),
    Token(1, "<end>", "end"),
    Token(9, "<pad>", "padding"),
)
WORDS = (Token(10, "a", "text"), Token(11, "blue", "text"))


def tokens(*found: Token, length: int = 8, **changes: Any) -> TokenTable:
    table = TokenTable("a blue", "mini", length, found, PAD, (Piece("a blue", 4, 1.0),), "")
    return replace(table, **changes)


def test_a_text_that_fits_shows_its_tokens_with_places_and_one_row_for_the_padding() -> None:
    assert shown([tokens(START, *WORDS, END)], "tokens") == [
        "a blue",
        "4 of the 8 that mini reads, with start and end: 4 are left.",
        "",
        "place|id|piece",
        "0|0|<start>|start",
        "1|10|a",
        "2|11|blue",
        "3|1|<end>|end",
        "4-7|9|<pad>|padding",
    ]


@pytest.mark.parametrize(("length", "last"), [(5, "4|9|<pad>|padding"), (4, "3|1|<end>|end")])
def test_one_free_place_is_named_and_none_is_not(length: int, last: str) -> None:
    assert shown([tokens(START, *WORDS, END, length=length)], "tokens")[-1] == last


def test_padding_stands_before_the_token_that_a_model_wants_last() -> None:
    last = Token(2, "<cls>", "last")
    assert shown([tokens(START, *WORDS, last)], "tokens")[-3:] == [
        "2|11|blue",
        "3-6|9|<pad>|padding",
        "7|2|<cls>|last",
    ]


def test_a_text_that_is_too_long_says_how_it_is_read_and_what_truncate_would_cut() -> None:
    cut = Token(12, "\x1bhorse", "cut")
    pieces = (Piece("a blue", 4, 0.667), Piece("horse", 3, 0.333))
    found = tokens(START, *WORDS, cut, END, length=4, pieces=pieces, rest="\x1bhorse")
    lines = shown([found], "tokens")
    assert lines[1] == "5 tokens with start and end: 1 more than the 4 that mini reads."
    # What is cut has no place: the end of the text stands after the last word that is read.
    assert lines[7:9] == [r"12|\x1bhorse|cut", "3|1|<end>|end"]
    assert "It is read in 2 pieces, and their vectors are averaged:" in lines
    assert lines[-4:-2] == ["4|67 %|a blue", "3|33 %|horse"]
    assert lines[-1] == r"--truncate would cut this: \x1bhorse"


def test_the_tokens_of_several_texts_stand_apart() -> None:
    one = shown([tokens(START, *WORDS, END)], "tokens")
    assert shown([tokens(START, *WORDS, END)] * 2, "tokens") == [*one, "", *one]
