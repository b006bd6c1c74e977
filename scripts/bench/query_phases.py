"""One query in a fresh process, its time by phase; or the floor, what no such query does without.

    python scripts/bench/query_phases.py NOTE query TEXT -L LIBRARY ...
    python scripts/bench/query_phases.py NOTE floor TOWER

NOTE becomes a JSON file of CPU seconds by phase. Calls are wrapped from here: the product
measures nothing. TOWER is a text tower of a compiled model. Time counts for the innermost phase of
its thread.
"""

from __future__ import annotations

import builtins
import importlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMPORTS, TOWER, ENCODE = "imports", "text tower opened", "text encoded"
CATALOG, VECTORS, REST = "catalog", "vectors", "the rest"
START = "Python's start"
PHASES = (START, IMPORTS, TOWER, ENCODE, CATALOG, VECTORS, REST)

_seconds = {START: time.process_time()}


class _Phases(threading.local):
    """The phases that a thread is in, the innermost last, and since when."""

    def __init__(self) -> None:
        self.stack = [REST]
        self.since = time.thread_time()

    def account(self) -> None:
        """Count the time since the last change for the present phase."""
        now = time.thread_time()
        _seconds[self.stack[-1]] = _seconds.get(self.stack[-1], 0.0) + now - self.since
        self.since = now


_phases = _Phases()


def enter(phase: str) -> None:
    """Begin a phase within the present one."""
    _phases.account()
    _phases.stack.append(phase)


def leave() -> None:
    """End the present phase."""
    _phases.account()
    _phases.stack.pop()


def within(phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose time counts for a phase."""

    def measured(*args: Any, **options: Any) -> Any:
        enter(phase)
        try:
            return call(*args, **options)
        finally:
            leave()

    return measured


def measure_imports() -> None:
    """Count the time of modules that are imported from now on, wherever that happens."""
    plain = builtins.__import__

    def imported(name: str, *args: Any, **options: Any) -> Any:
        if name in sys.modules:  # nearly always for nothing, or for a name within a package
            return plain(name, *args, **options)
        return within(IMPORTS, plain)(name, *args, **options)

    builtins.__import__ = imported
    importlib.import_module = within(IMPORTS, importlib.import_module)


def wrap(owner: Any, phase: str, *names: str) -> None:
    """Count the time of some methods of a class, by default of all public ones, for a phase."""
    for name in names or [name for name in vars(owner) if not name.startswith("_")]:
        found = vars(owner).get(name)
        if isinstance(found, (classmethod, staticmethod)):
            setattr(owner, name, type(found)(within(phase, found.__func__)))
        elif callable(found):
            setattr(owner, name, within(phase, found))


def query(arguments: list[str]) -> int:
    """Run `clipsearch query` with its parts wrapped."""
    from clipsearch.__main__ import start_lightly

    start_lightly(["query"])
    from clipsearch.catalog import Catalog
    from clipsearch.cli import main
    from clipsearch.encoders import onnx
    from clipsearch.vectors.live import LiveVectors
    from clipsearch.vectors.searcher import Searcher
    from clipsearch.vectors.snapshots import Snapshots

    opening = onnx.open_graph
    onnx.open_graph = lambda *args, **options: within(  # type: ignore[assignment]
        ENCODE, within(TOWER, opening)(*args, **options)
    )
    wrap(onnx.OnnxEncoder, ENCODE, "encode_texts")
    wrap(Catalog, CATALOG)
    for owner in (Searcher, LiveVectors, Snapshots):
        wrap(owner, VECTORS)
    return main(["query", *arguments])


def floor(tower: str) -> int:
    """Open a text tower and encode one text of ten tokens by it."""
    import numpy as np
    import onnxruntime

    enter(TOWER)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(tower, options, providers=["CPUExecutionProvider"])
    leave()
    enter(ENCODE)
    session.run(None, {session.get_inputs()[0].name: np.ones((1, 10), np.int32)})
    leave()
    return 0


if __name__ == "__main__":
    note, way, *rest = sys.argv[1:]
    measure_imports()
    code = floor(*rest) if way == "floor" else query(rest)
    _phases.account()
    Path(note).write_text(
        json.dumps({phase: _seconds.get(phase, 0.0) for phase in PHASES}), "utf-8"
    )
    sys.exit(code)
