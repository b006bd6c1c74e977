"""A compiled model is on disk whole or not at all, and is not used once its sources changed."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from safetensors.numpy import load_file, save_file

from clipsearch.encoders import compile_once
from clipsearch.encoders.compiler import compile as compiling
from clipsearch.encoders.compiler.compile import Compilation, compile_model
from clipsearch.encoders.compiler.store import (
    MANIFEST_FILE,
    Manifest,
    find_compiled,
    new_folder,
    note_refusal,
    refusal,
)
from clipsearch.encoders.onnx import OnnxEncoder
from clipsearch.encoders.registry import resolve
from clipsearch.encoders.sources import PROBES
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import EncoderError

WEIGHTS = "open_clip_model.safetensors"
LABELS = [*tiny_models.texts(40), *PROBES, "", "horse " * 200, "<end_of_text> horse", "&amp; É 🐎"]


def batch_of(encoder: Any, n: int) -> np.ndarray:
    return np.stack([encoder.preprocess(image) for image in tiny_models.images(n)])


def test_a_compiled_model_is_found_again_and_not_made_again(made: Compilation) -> None:
    spec = resolve(made.name)
    assert find_compiled(spec) == find_compiled(spec, "fp32") == made.folder
    again = compile_model(made.name, precision="fp32")
    assert (made.fresh, again.fresh) == (True, False)
    assert again.manifest == Manifest.read(made.folder)
    assert compile_model(made.name, precision="fp32", force=True).fresh


def test_the_same_weights_under_another_name_are_not_compiled_again(
    made: Compilation, tmp_path: Path
) -> None:
    other = shutil.copytree(made.name.removeprefix("local-dir:"), tmp_path / "other")
    again = compile_model(f"local-dir:{other}", precision="fp32")
    assert (again.fresh, again.folder) == (False, made.folder)
    assert OnnxEncoder.load(resolve(f"local-dir:{other}")).info.name == f"local-dir:{other}"


def test_weights_that_changed_are_compiled_anew(made: Compilation) -> None:
    file = Path(made.name.removeprefix("local-dir:")) / WEIGHTS
    state = load_file(file)
    state["visual.proj"][0, 0] += 1
    save_file(state, file)
    assert find_compiled(resolve(made.name)) is None
    again = compile_model(made.name, precision="fp32")
    assert again.fresh
    assert again.folder != made.folder
    reference = OpenClipEncoder.load(resolve(made.name), device="cpu")
    batch = batch_of(reference, 2)
    found = OnnxEncoder.load(resolve(made.name)).encode_images(batch)
    np.testing.assert_allclose(found, reference.encode_images(batch), atol=1e-5)


def test_weights_that_are_touched_only_are_not_compiled_again(made: Compilation) -> None:
    file = Path(made.name.removeprefix("local-dir:")) / WEIGHTS
    os.utime(file, ns=(1, 1))
    assert find_compiled(resolve(made.name)) is None
    assert not compile_model(made.name, precision="fp32").fresh
    assert find_compiled(resolve(made.name)) == made.folder


FILES = ("image.onnx", "image.bin", "text.onnx", "few.onnx", "text.bin", "tokens.db", MANIFEST_FILE)


@pytest.mark.parametrize("file", FILES)
def test_a_model_that_is_not_whole_is_made_again_and_never_used(
    made: Compilation, file: str
) -> None:
    spec, path = resolve(made.name), made.folder / file
    whole = path.read_bytes()
    for damaged in (whole[:-1], b"", None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        assert find_compiled(spec) is None
        with pytest.raises(EncoderError, match="is not compiled: `clipsearch compile"):
            OnnxEncoder.load(spec)
    assert compile_model(made.name, precision="fp32").fresh
    assert find_compiled(spec) == made.folder
    assert path.stat().st_size == len(whole)


@pytest.mark.parametrize(
    ("file", "use"),
    [
        ("image.bin", lambda encoder: encoder.encode_images(batch_of(encoder, 1))),
        ("image.onnx", lambda encoder: encoder.encode_images(batch_of(encoder, 1))),
        ("text.bin", lambda encoder: encoder.encode_texts(LABELS)),
        ("few.onnx", lambda encoder: encoder.encode_texts(["horse"])),
        ("tokens.db", lambda encoder: encoder.encode_texts(["horse"])),
    ],
)
def test_damage_that_keeps_the_size_is_found_and_the_model_is_made_again(
    made: Compilation, file: str, use: Callable[[OnnxEncoder], np.ndarray]
) -> None:
    before = use(OnnxEncoder.load(resolve(made.name)))
    path = made.folder / file
    whole = path.read_bytes()
    for place in (len(whole) // 2, len(whole) - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.warns(UserWarning, match=rf"is damaged \({file}\): it is compiled again"):
            after = use(OnnxEncoder.load(resolve(made.name)))
        np.testing.assert_array_equal(after, before)
        assert path.read_bytes() == whole or file == "tokens.db"


def test_a_damaged_model_that_cannot_be_made_again_is_not_used(
    made: Compilation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*anything: object, **options: object) -> None:
        raise EncoderError("no weights here")

    monkeypatch.setattr(compiling, "compile_model", refuse)
    path = made.folder / "text.bin"
    path.write_bytes(bytes(path.stat().st_size))
    encoder = OnnxEncoder.load(resolve(made.name))
    with (
        pytest.warns(UserWarning, match="compiled again"),
        pytest.raises(
            EncoderError, match=r"is damaged .* and was deleted\. Make it again.*no weights"
        ),
    ):
        encoder.encode_texts(["horse"])
    assert not made.folder.exists()


@pytest.mark.parametrize(
    "fault", [RuntimeError("std::bad_alloc"), OSError(13, "Permission denied"), MemoryError()]
)
def test_a_fault_that_passes_deletes_nothing(
    made: Compilation, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*anything: object, **options: object) -> None:
        raise fault

    encoder = OnnxEncoder.load(resolve(made.name))
    with monkeypatch.context() as patch:
        patch.setattr("clipsearch.encoders.onnx.open_graph", fail)
        with pytest.raises((EncoderError, MemoryError)):
            encoder.encode_texts(["horse"])
        if isinstance(fault, OSError):
            patch.setattr("clipsearch.encoders.onnx.damaged_files", fail)
            with pytest.raises(EncoderError, match=r"cannot be opened.*Permission denied"):
                encoder.encode_texts(["horse"])
    assert encoder.encode_texts(["horse"]).shape == (1, 32)


def test_the_command_compares_every_file_and_makes_a_damaged_one_again(made: Compilation) -> None:
    path = made.folder / "image.bin"
    whole, state = path.read_bytes(), path.stat()
    assert not compile_model(made.name, precision="fp32").fresh
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.warns(UserWarning, match=r"is damaged \(image.bin\)"):
        assert compile_model(made.name, precision="fp32").fresh
    assert path.read_bytes() == whole


def test_a_tower_that_gives_other_vectors_here_is_made_again(made: Compilation) -> None:
    manifest = Manifest.read(made.folder)
    assert manifest is not None
    wrong = manifest._replace(proof={**manifest.proof, "image": manifest.proof["image"][::-1]})
    (made.folder / MANIFEST_FILE).write_text(wrong.to_json())
    encoder = OnnxEncoder.load(resolve(made.name))
    with pytest.warns(UserWarning, match="gives other vectors on this processor"):
        assert encoder.encode_images(batch_of(encoder, 1)).shape == (1, 32)
    assert Manifest.read(made.folder) == manifest


def test_a_manifest_that_was_changed_is_none(made: Compilation) -> None:
    path = made.folder / MANIFEST_FILE
    manifest = Manifest.read(made.folder)
    assert manifest is not None
    assert manifest.digests.keys() == manifest.files.keys() == {*FILES} - {MANIFEST_FILE}
    scale = json.loads(path.read_text())["logit_scale"]
    path.write_text(path.read_text().replace(f'"logit_scale": {scale}', '"logit_scale": 7.5'))
    assert Manifest.read(made.folder) is None
    assert find_compiled(resolve(made.name)) is None


def test_a_folder_of_an_earlier_version_has_no_checksums_and_is_used(made: Compilation) -> None:
    path = made.folder / MANIFEST_FILE
    content = json.loads(path.read_text())
    del content["digests"], content["seal"]
    path.write_text(json.dumps(content))
    assert OnnxEncoder.load(resolve(made.name)).encode_texts(["horse"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("fault", "kept"),
    [
        (OSError(28, "No space left on device"), False),
        (RuntimeError("[Errno 28] No space left on device"), False),
        (RuntimeError("std::bad_alloc"), False),
        (MemoryError(), False),
        (ValueError("no such operator"), True),
    ],
)
def test_only_a_model_that_can_never_be_compiled_is_remembered(
    empty_cache: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, kept: bool
) -> None:
    def fail(*anything: object) -> None:
        raise fault

    name = f"local-dir:{clip}"
    with monkeypatch.context() as patch:
        patch.setattr("clipsearch.encoders.compiler.export.write_text_graph", fail)
        patch.setattr("clipsearch.encoders.compiler.original.export_texts", fail)
        assert compile_once(name, device="cpu")
    assert bool(refusal(resolve(name))) == kept
    assert bool(compile_once(name, device="cpu")) == kept


def test_a_passing_fault_that_an_earlier_version_remembered_is_forgotten(
    empty_cache: Path, clip: Path
) -> None:
    spec = resolve(f"local-dir:{clip}")
    note_refusal(spec, "text tower, written: OSError [Errno 28] No space left on device")
    assert refusal(spec) == ""


def test_another_format_is_not_used(made: Compilation) -> None:
    path = made.folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    assert find_compiled(resolve(made.name)) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": 3}', "null", "[" * 100_000])
def test_a_damaged_note_is_no_compiled_model(
    made: Compilation, empty_cache: Path, text: str
) -> None:
    for note in (empty_cache / "names").iterdir():
        note.write_text(text)
    assert find_compiled(resolve(made.name)) is None


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_lies_in_the_place_of_a_note_or_a_manifest_is_damage(
    made: Compilation, empty_cache: Path, make: Callable[[Path], None]
) -> None:
    manifest = made.folder / MANIFEST_FILE
    content = manifest.read_bytes()
    manifest.unlink()
    make(manifest)
    assert Manifest.read(made.folder) is None
    assert find_compiled(resolve(made.name)) is None
    manifest.unlink()
    manifest.write_bytes(content)
    assert find_compiled(resolve(made.name)) == made.folder
    for note in [*(empty_cache / "names").iterdir()]:
        note.unlink()
        make(note)
    assert find_compiled(resolve(made.name)) is None
    assert refusal(resolve(made.name)) == ""


def test_an_interrupted_compilation_leaves_nothing_that_is_used(
    empty_cache: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*anything: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compiling.store, "publish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compile_model(f"local-dir:{clip}", precision="fp32")
    assert find_compiled(resolve(f"local-dir:{clip}")) is None
    assert [path.name for path in empty_cache.iterdir()] == ["vocabulary"]


def test_what_a_killed_compilation_left_is_deleted_after_a_day(empty_cache: Path) -> None:
    # No name that `new_folder` makes has a second dash: its own folder must not count here.
    for name in ("tmp-killed-old", "tmp-killed-new"):
        (empty_cache / name).mkdir(parents=True)
    long_ago = time.time() - 25 * 3600
    os.utime(empty_cache / "tmp-killed-old", (long_ago, long_ago))
    with new_folder():
        assert [path.name for path in empty_cache.glob("tmp-killed-*")] == ["tmp-killed-new"]
