"""Tables for people about a library, its models and what a command did.

A writer takes a value of its kind, an open stream of text, and `WriteOptions`, of which it
uses what concerns it; it returns nothing and leaves the stream open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from clipsearch._util import escape_unprintable, plural
from clipsearch.output.formats import WriteOptions
from clipsearch.output.text import bytes_text, shorten_path, table, three_digits
from clipsearch.types import Failure, Finding, IndexReport, PlacementReport, Status

if TYPE_CHECKING:
    from clipsearch.calibration.fit import Fitted
    from clipsearch.encoders.compiler.compile import Compilation
    from clipsearch.fewshot.result import FewShotResult
    from clipsearch.text.tokens import TokenTable

_LEFT_OUT = {"raw": "file", "video": "file", "unsupported": "image file", "system": "folder"}
_COMPILED_FROM = {"written": "written by hand", "exported": "exported by torch"}


# --- a library -------------------------------------------------------------------------------


def status_table(found: Status, stream: TextIO, options: WriteOptions) -> None:
    """Write what a library holds, one row per fact."""
    models = [f"{name} ({plural(count, 'image')})" for name, count in found.models.items()]
    labels = [f"{name} ({plural(count, 'image')})" for name, count in found.labels.items()]
    several = found.contents != found.files
    rows = [
        (
            "images",
            plural(found.files, "file") + (f", {found.contents:,} different" if several else ""),
        ),
        ("model", found.model or "none yet"),
        *[("models", line) for line in models if len(models) > 1],
        *[("folder", root) for root in found.roots],
        *[("label", line) for line in labels],
        ("last indexed", f"{found.last_scan:%Y-%m-%d %H:%M}" if found.last_scan else "never"),
        *index_rows(found),
        ("on disk", bytes_text(found.bytes_on_disk)),
        ("format", str(found.format)),
    ]
    if found.failed:
        rows.insert(1, ("not read", f"{plural(found.failed, 'file')} (see `clipsearch errors`)"))
    table(("library", found.path), rows, stream)


def index_rows(status: Status) -> list[tuple[str, str]]:
    """Describe the vector index of a library, one row per fact."""
    rows = []
    if status.index_kind is None:
        rows.append(("vector index", f"none needed for {plural(status.tail, 'image')}"))
    else:
        # What was indexed later is searched too, from the catalog.
        rows.append(("vector index", f"{status.index_kind}, {plural(status.indexed, 'vector')}"))
        if status.tail:
            rows.append(("", f"{plural(status.tail, 'newer vector')} beside it, searched as well"))
        rows += _recall_rows(status)
        size = (bytes_text(status.index_memory), bytes_text(status.index_bytes))
        rows.append(("index size", f"{size[0]} in memory, {size[1]} on disk"))
    if status.index_requested:
        kind, recall = status.index_requested["kind"], status.index_requested["recall"]
        rows.append(("as requested", f"kind {kind}, recall {recall} (`clipsearch rebuild`)"))
    if status.stale:
        rows.append(("to clear", f"{plural(status.stale, 'vector')} of images that are gone"))
    return rows


def _recall_rows(status: Status) -> list[tuple[str, str]]:
    if status.index_recall is None:
        return [("finds", "not measured")]
    if not status.index_queries:
        return [("finds", "all: it compares every vector")]
    texts = plural(status.index_texts, "caption") if status.index_texts else "captions"
    queries = {
        "texts": f"{texts} of the model",
        "simulated": "simulated texts",
        "both": f"{texts} of the model and simulated texts",
    }.get(status.index_queries, status.index_queries)
    tuned = ", ".join(f"{name} {value:,}" for name, value in status.index_tuned.items())
    return [
        ("finds", f"{100 * status.index_recall:.1f} % of the ten nearest (recall@10)"),
        ("tuned on", queries + (f" ({tuned})" if tuned else "")),
    ]


def index_report_table(report: IndexReport, stream: TextIO, options: WriteOptions) -> None:
    """Write what a run of `index` did, in files."""
    names = ("added", "updated", "unchanged", "renamed", "removed", "failed")
    table((">files", ""), [(f"{getattr(report, name):,}", name) for name in names], stream)


def describe_left_out(report: IndexReport) -> str:
    """Describe what a run of `index` left out, in one line.

    >>> describe_left_out(IndexReport(left_out={"raw": 7, "video": 1, "system": 2}))
    'left out: 7 raw files, 1 video file, 2 system folders (--no-default-ignores includes these).'
    """
    parts = [
        plural(report.left_out[kind], f"{kind} {noun}")
        for kind, noun in _LEFT_OUT.items()
        if report.left_out.get(kind)
    ]
    hint = " (--no-default-ignores includes these)" if report.left_out.get("system") else ""
    return f"left out: {', '.join(parts)}{hint}."


def failures_table(failures: Sequence[Failure], stream: TextIO, options: WriteOptions) -> None:
    """Write the files that could not be read, and why."""
    if failures:
        rows = [(shorten_path(one.path), one.reason) for one in failures]
        table(("file", "reason"), rows, stream)


def findings_table(findings: Sequence[Finding], stream: TextIO, options: WriteOptions) -> None:
    """Write what a check found, and what to do about it."""
    if findings:
        rows = [(f.kind, f.message, "repaired" if f.repaired else f.remedy) for f in findings]
        table(("finding", "problem", "remedy"), rows, stream)


def placement_table(report: PlacementReport, stream: TextIO, options: WriteOptions) -> None:
    """Write the images that come new into a folder, and the names that they have there."""
    rows = [(shorten_path(one.source), shorten_path(one.target)) for one in report.files if one.new]
    if rows:
        table(("image", "goes to"), rows, stream)


# --- models ----------------------------------------------------------------------------------


def models_table(models: Sequence[dict[str, Any]], stream: TextIO, options: WriteOptions) -> None:
    """Write the models that have a name of their own."""
    rows = [
        (
            *(one["name"], one["spec"], f"{one['size_mb']:,} MB", one["languages"]),
            *(one["licence"], "yes" if one["on_disk"] else "no"),
            *(_describe_compiled(one["compiled"]), one["about"]),
        )
        for one in models
    ]
    heads = ("preset", "model", ">size", "languages", "licence", "on disk", "compiled", "about")
    shorten = ("about", "model", "licence", "languages", "compiled")
    table(heads, rows, stream, shorten=shorten)


def _describe_compiled(compiled: dict[str, Any] | None) -> str:
    if compiled is None:
        return "no"
    near = compiled["precision"] == "int8" and compiled["gate"]
    return f"int8 ({near['cosine']:.5f})" if near else str(compiled["precision"])


def compilation_table(made: Compilation, stream: TextIO, options: WriteOptions) -> None:
    """Write what a compiled model is, and how near int8 comes to it."""
    measured = made.manifest.gate
    rows = [
        ("precision", made.manifest.precision),
        ("image tower", _COMPILED_FROM[made.manifest.ways["image"]]),
        ("text tower", f"{_COMPILED_FROM[made.manifest.ways['text']]}, in fp32"),
    ]
    if measured:
        rows += [
            ("int8 compared", f"with fp32 on {plural(measured.images, 'image')}"),
            ("mean cosine", f"{measured.cosine:.5f} (the least {measured.worst:.5f})"),
        ]
        if measured.error is not None:
            rows.append(
                ("error of scores", f"{measured.error:.1%} ± {measured.deviation or 0:.1%}")
            )
    if made.reason:
        rows.append(("fp32, since", made.reason))
    rows += [("on disk", bytes_text(made.bytes)), ("folder", str(made.folder))]
    table(("model", made.name), rows, stream)


# --- calibration and few-shot ----------------------------------------------------------------


def calibration_table(found: Fitted, stream: TextIO, options: WriteOptions) -> None:
    """Write the errors of the probabilities before and after a calibration."""
    sides = (("before", found.before), ("after", found.after))
    rows = [(name, *map(three_digits, (s.ece, s.brier, s.auroc))) for name, s in sides]
    table(("probabilities", ">ECE", ">Brier", ">AUROC"), rows, stream)


def few_shot_table(found: FewShotResult, stream: TextIO, options: WriteOptions) -> None:
    """Write accuracy with and without examples, per label, and the learning curve if measured."""
    gain = found.gain
    span = "" if math.isnan(gain.low) else f"95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f}"
    shares = (_share(found.zero_shot.value), _share(found.few_shot.value))
    rows = [("all labels", f"{found.images:,}", *shares, _points(gain.value), span)]
    for one in found.labels:
        confused = f"taken for {one.confused_with}" if one.confused_with else ""
        change = _points(one.few_shot - one.zero_shot)
        shares = (_share(one.zero_shot), _share(one.few_shot))
        rows.append((one.label, f"{one.examples:,}", *shares, change, confused))
    table(("label", ">images", ">zero-shot", ">few-shot", ">gain", ""), rows, stream)
    if found.curve:
        stream.write("\n")
        points = [
            (
                *(f"{p.shots}", _share(p.zero_shot), _share(p.few_shot)),
                f"{100 * p.low:.1f} to {100 * p.high:.1f} %",
            )
            for p in found.curve
        ]
        heads = (">images per label", ">zero-shot", ">few-shot", "95 % of draws")
        table(heads, points, stream)


def _share(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:+.1f}"


# --- tokens ----------------------------------------------------------------------------------


def tokens_table(tables: Sequence[TokenTable], stream: TextIO, options: WriteOptions) -> None:
    """Write the tokens of each text, how many are left, and what would be cut."""
    for number, one in enumerate(tables):
        if number:
            stream.write("\n")
        _tokens_of_text(one, stream)


def _tokens_of_text(found: TokenTable, stream: TextIO) -> None:
    reads = f"the {found.context_length} that {found.model} reads"
    fits = f"{found.count} of {reads}, with start and end: {found.left} are left."
    long = f"{plural(found.count, 'token')} with start and end: {found.over} more than {reads}."
    stream.write(f"{escape_unprintable(found.text)}\n{long if found.over else fits}\n\n")
    table((">place", ">id", "piece", ""), _token_rows(found), stream)
    if found.over:
        pieces = plural(len(found.pieces), "piece")
        stream.write(f"\nIt is read in {pieces}, and their vectors are averaged:\n\n")
        rows = [(f"{p.tokens}", f"{100 * p.weight:.0f} %", p.text) for p in found.pieces]
        table((">tokens", ">weight", "piece"), rows, stream)
        stream.write(f"\n--truncate would cut this: {escape_unprintable(found.rest)}\n")


def _token_rows(found: TokenTable) -> list[tuple[str, str, str, str]]:
    """Return a row per token, and one for all padding; tokens that are cut have no place."""
    rows, place = [], 0
    for token in found.tokens:
        if token.kind == "last":
            rows += _padding(found, place)
            place += found.left
        shown = "" if token.kind == "cut" else f"{place}"
        kind = "" if token.kind == "text" else token.kind
        rows.append((shown, f"{token.id}", token.piece, kind))
        place += token.kind != "cut"
    return rows if found.tokens[-1].kind == "last" else [*rows, *_padding(found, place)]


def _padding(found: TokenTable, place: int) -> list[tuple[str, str, str, str]]:
    if not found.left:
        return []
    places = f"{place}-{place + found.left - 1}" if found.left > 1 else f"{place}"
    return [(places, f"{found.padding.id}", found.padding.piece, "padding")]
