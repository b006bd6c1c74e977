"""The notebook of examples/ runs, and the outputs it stores are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "clipsearch.ipynb"
NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.fixture
def stored() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.mark.slow
def test_running_the_notebook_gives_the_outputs_it_stores(
    stored: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    from notebook import executed

    again = executed(nbformat.read(NOTEBOOK, as_version=4), tmp_path)
    for old, new in zip(stored.cells, again.cells, strict=True):
        assert [kinds(one) for one in old.get("outputs", [])] == [
            kinds(one) for one in new.get("outputs", [])
        ]
        before, after = printed(old), printed(new)
        assert NUMBER.sub("0", before) == NUMBER.sub("0", after)
        numbers = [float(one) for one in NUMBER.findall(before)]
        # Two digits of a score may round the other way on another processor, and one of a per cent.
        assert [float(one) for one in NUMBER.findall(after)] == pytest.approx(numbers, abs=1.01)


def kinds(output: Any) -> list[str]:
    """Return the kind of an output and the types of its data."""
    return [output.output_type, *sorted(output.get("data", {}))]


def printed(cell: Any) -> str:
    """Return the text that a cell printed."""
    return "".join(one.get("text", "") for one in cell.get("outputs", []))


def test_the_notebook_is_small_and_shows_a_sheet_a_matrix_and_text(stored: Any) -> None:
    assert NOTEBOOK.stat().st_size < 1_000_000
    outputs = [one for cell in stored.cells for one in cell.get("outputs", [])]
    shown = {name for one in outputs for name in kinds(one)}
    assert {"text/html", "image/png", "stream"} <= shown
    assert all(
        cell.outputs for cell in stored.cells if cell.cell_type == "code" and "\n" in cell.source
    )
    assert "/tmp" + "/" not in NOTEBOOK.read_text("utf-8")
    assert "error" not in shown
