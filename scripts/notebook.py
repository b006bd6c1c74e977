"""Run examples/clipsearch.ipynb and store its outputs.

    python scripts/notebook.py

It runs in a new folder, whose path is replaced in the outputs.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "examples" / "clipsearch.ipynb"
_FOLDER = "/home/you/clipsearch"


def executed(notebook: Any, folder: Path) -> Any:
    """Run a notebook in a folder; return it with its new outputs."""
    os.environ |= {"XDG_DATA_HOME": str(folder / "data"), "HF_HUB_OFFLINE": "1"}
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in notebook.cells:
        cell.pop("id", None)
        cell.metadata = {}
        if "outputs" in cell:  # warnings of the machine are left out
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            _replace(output, str(folder))
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    notebook.nbformat_minor = 4  # the last without random ids of cells
    return notebook


def _replace(value: Any, folder: str) -> None:
    """Replace the folder in all strings of an output, in place; drop the plain text of an image."""
    if isinstance(value, dict):
        rich = {"text/html", "image/png"} & value.keys()
        if rich and "text/plain" in value:
            del value["text/plain"]
        for key, inner in value.items():
            if isinstance(inner, str):
                value[key] = re.sub(re.escape(folder), _FOLDER, inner)
            else:
                _replace(inner, folder)
    elif isinstance(value, list):
        for inner in value:
            _replace(inner, folder)


def main() -> int:
    """Run the notebook and write it."""
    with tempfile.TemporaryDirectory() as name:
        notebook = executed(nbformat.read(NOTEBOOK, as_version=4), Path(name).resolve())
    nbformat.write(notebook, NOTEBOOK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
