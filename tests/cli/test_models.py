"""`clipsearch compile` and what `clipsearch models` says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from clipsearch._util import processes
from clipsearch.cli import main
from clipsearch.cli.models import choose_model
from clipsearch.encoders import compile_once
from clipsearch.encoders.compiler import compile as compiling
from clipsearch.encoders.compiler import export, gate, store
from clipsearch.encoders.compiler.store import Manifest, find_compiled
from clipsearch.encoders.registry import resolve
from clipsearch.library import Library

Out = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no library and no cache be in reach but those of the test."""
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("COLUMNS", "200")


def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record how the compiler is asked, in place of compiling."""
    calls: list[dict[str, Any]] = []

    def record(name: str, **options: Any) -> None:
        calls.append({"name": name, **options})
        raise compiling.EncoderError("enough")

    monkeypatch.setattr(compiling, "compile_model", record)
    return calls


@pytest.mark.slow
def test_a_model_is_compiled_once_and_its_figures_are_shown(capsys: Out) -> None:
    assert main(["compile", "mini", "--precision", "int8"]) == 0
    first = capsys.readouterr()
    assert "int8" in first.out and "written by hand" in first.out
    assert "with fp32 on 64 images" in first.out and "mean cosine" in first.out
    assert "compiled in" in first.err
    assert main(["compile", "mini", "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["fresh"], found["precision"]) == ("mini", False, "int8")
    assert found["towers"] == {"text": "written", "image": "written"}
    assert found["gate"]["passed"] and found["gate"]["images"] == 64
    files = [path for path in Path(found["folder"]).iterdir() if path.name != "model.json"]
    assert found["bytes"] == sum(path.stat().st_size for path in files)

    assert main(["models", "-f", "json"]) == 0
    models = {preset["name"]: preset for preset in json.loads(capsys.readouterr().out)}
    assert models["mini"]["compiled"] == {"precision": "int8", "gate": found["gate"]}
    assert models["max"]["compiled"] is None
    assert main(["models"]) == 0
    assert f"int8 ({found['gate']['cosine']:.5f})" in capsys.readouterr().out


@pytest.mark.slow
def test_fp32_is_not_compared(capsys: Out) -> None:
    assert main(["compile", "mini", "--precision", "fp32"]) == 0
    shown = capsys.readouterr()
    assert "fp32" in shown.out and "cosine" not in shown.out
    assert main(["compile", "mini", "--precision", "fp32"]) == 0
    assert "compiled already; --force compiles it again." in capsys.readouterr().err


@pytest.mark.slow
def test_without_a_model_it_is_that_of_the_library_with_its_images(
    make_images: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = make_images(2)[0].parent
    with Library.create(tmp_path / "library", model="mini") as library:
        library.index([folder])
    calls = asked(monkeypatch)
    main(["compile"])
    main(["compile", "ViT-B-32/openai", "--images", "elsewhere", "--precision", "int8", "--force"])
    first, second = calls
    assert (first["name"], first["images"], first["precision"]) == ("mini", [folder], "auto")
    assert (second["name"], second["images"]) == ("ViT-B-32/openai", [Path("elsewhere")])
    assert (second["precision"], second["force"]) == ("int8", True)


def test_without_a_library_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = asked(monkeypatch)
    main(["compile"])
    assert (calls[0]["name"], list(calls[0]["images"])) == ("default", [])


@pytest.mark.slow
def test_what_cannot_be_compiled_is_one_line(
    tmp_path: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_TOLERANCE", -1)
    folder = tiny_models.make_clip(tmp_path / "clip")
    assert main(["compile", f"local-dir:{folder}"]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: local-dir:{folder} cannot be compiled: text tower")
    assert said.endswith("It runs on torch all the same.")


# --- at the first index --------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a model that is quickly compiled, on a machine without a graphics card."""
    monkeypatch.setenv("CLIPSEARCH_COMPILE", "yes")
    monkeypatch.setenv("CLIPSEARCH_DEVICE", "cpu")
    monkeypatch.setattr(gate, "_IMAGES", 12)
    # In this process, where it can be watched.
    monkeypatch.setattr(processes, "can_start", lambda: False)
    return f"local-dir:{tiny_models.make_clip(tmp_path / 'clip')}"


@pytest.mark.slow
def test_the_first_index_compiles_the_model(
    clip: str,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: Out,
) -> None:
    monkeypatch.setattr(compiling, "_SMALL", 0)  # or the gate would not be asked
    folder, spec = make_images(3)[0].parent, resolve(clip)
    assert main(["index", str(folder), "--model", clip, "--no-compile"]) == 0
    assert find_compiled(spec) is None
    assert main(["index", str(tmp_path / "mistyped")]) == 1
    assert find_compiled(spec) is None
    capsys.readouterr()
    assert main(["index", str(folder)]) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"model: {clip}\ncompiling the model, once for each model: ")
    found = Manifest.read(find_compiled(spec) or tmp_path)
    assert found is not None and found.gate is not None
    assert found.gate.images == 12
    calls = asked(monkeypatch)
    capsys.readouterr()
    assert main(["index", str(folder)]) == 0
    assert calls == []
    assert f"model: {clip}\n" in capsys.readouterr().err


@pytest.mark.slow
def test_what_cannot_be_compiled_is_indexed_on_torch_and_not_tried_again(
    clip: str,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Out,
) -> None:
    monkeypatch.setattr(export, "_TOLERANCE", -1)
    folder = str(make_images(2)[0].parent)
    reason = f"{clip} cannot be compiled: text tower"
    assert main(["index", folder, "--model", clip]) == 0
    shown = capsys.readouterr()
    assert reason in shown.err
    assert "added" in shown.out
    calls = asked(monkeypatch)
    assert main(["index", folder]) == 0
    assert reason in capsys.readouterr().err
    assert calls == []
    # Another version may be able to.
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    assert store.refusal(resolve(clip)) == ""


@pytest.mark.slow
def test_where_the_cache_cannot_be_written_images_are_indexed_all_the_same(
    clip: str,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Out,
) -> None:
    images = make_images(2)
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(images[0]))
    assert main(["index", str(images[0].parent), "--model", clip]) == 0
    assert "could not be compiled (" in capsys.readouterr().err


def test_on_a_graphics_card_nothing_is_compiled(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = asked(monkeypatch)
    monkeypatch.setenv("CLIPSEARCH_DEVICE", "cuda")
    assert compile_once(clip) == ""
    assert calls == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--checkpoint", "x.pt"], 2, "--checkpoint needs a MODEL"),
        (["mini", "--precision", "int4"], 2, "'int4' is not one of"),
        (["nothing"], 1, "unknown model 'nothing'"),
        (["mini", "-L", "missing"], 1, "no library in"),
    ],
)
def test_mistakes_are_told(arguments: list[str], code: int, message: str, capsys: Out) -> None:
    assert main(["compile", *arguments]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (None, "model: ViT-B-32-256/datacomp_s34b_b86k (default)"),
        ("mini", "model: mini"),
        ("ViT-B-32/openai", "model: ViT-B-32/openai"),
        ("no-such-model", "model: no-such-model"),
    ],
)
def test_the_model_that_indexes_is_named(
    given: str | None, line: str, tmp_path: Path, capsys: Out
) -> None:
    assert choose_model(given, tmp_path / "none") == (given or "default")
    assert capsys.readouterr().err == f"{line}\n"
