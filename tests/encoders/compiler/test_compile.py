"""A compiled model is open_clip's own, on disk whole or not at all, and runs without torch."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import pytest
import tiny_models
from safetensors.numpy import load_file, save_file

from clipsearch import encoders
from clipsearch.encoders import load_encoder, load_tokenizer
from clipsearch.encoders.base import SharedEncoder
from clipsearch.encoders.compiler import compile as compiling
from clipsearch.encoders.compiler import export
from clipsearch.encoders.compiler.compile import Compilation, compile_model
from clipsearch.encoders.compiler.store import (
    MANIFEST_FILE,
    Manifest,
    find_compiled,
    folder_of,
    new_folder,
)
from clipsearch.encoders.onnx import OnnxEncoder, proof_image, token_rows
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.encoders.registry import ModelSpec, resolve
from clipsearch.encoders.sources import PROBES
from clipsearch.encoders.tokenizers.bpe import BytePairTokenizer
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import EncoderError, NotCompilable
from clipsearch.types import Progress

WEIGHTS = "open_clip_model.safetensors"
LABELS = [*tiny_models.texts(40), *PROBES, "", "horse " * 200, "<end_of_text> horse", "&amp; É 🐎"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the module a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("CLIPSEARCH_CACHE", str(folder))
        yield folder / "compiled"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module", params=["clip", "siglip", "mini"])
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    if request.param == "mini":
        return resolve("mini")
    return resolve(f"local-dir:{request.getfixturevalue(request.param)}")


@pytest.fixture(scope="module")
def exact(cache: Path, spec: ModelSpec) -> Compilation:
    return compile_model(spec.name, precision="fp32")


@pytest.fixture(scope="module")
def reference(spec: ModelSpec) -> OpenClipEncoder:
    return OpenClipEncoder.load(spec, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def encoder(exact: Compilation, spec: ModelSpec) -> OnnxEncoder:
    return OnnxEncoder.load(spec, precision="fp32")


def batch_of(encoder: Any, n: int) -> np.ndarray:
    return np.stack([encoder.preprocess(image) for image in tiny_models.images(n)])


# --- the same model ------------------------------------------------------------------------


def test_a_compiled_model_is_the_model(encoder: OnnxEncoder, reference: OpenClipEncoder) -> None:
    assert encoder.info == reference.info
    assert encoder.context_length == reference.context_length


def test_its_vectors_are_those_of_open_clip(
    encoder: OnnxEncoder, reference: OpenClipEncoder
) -> None:
    batch = batch_of(reference, 9)
    np.testing.assert_array_equal(batch_of(encoder, 9), batch)
    images, texts = reference.encode_images(batch), reference.encode_texts(LABELS)
    assert images.std(axis=0).max() > 0.02  # or every comparison would pass
    assert texts.std(axis=0).max() > 0.02
    np.testing.assert_allclose(encoder.encode_images(batch), images, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(LABELS), texts, atol=1e-5)


def test_few_texts_and_many_have_the_same_vectors(exact: Compilation, spec: ModelSpec) -> None:
    encoder = OnnxEncoder.load(spec, precision="fp32")
    few = np.stack([encoder.encode_texts([text])[0] for text in LABELS[:8]])
    many = encoder.encode_texts(LABELS)
    np.testing.assert_allclose(few, many[:8], atol=1e-6)


def test_threads_share_an_encoder(encoder: OnnxEncoder) -> None:
    batch = batch_of(encoder, 24)
    expected = encoder.encode_images(batch)
    with ThreadPoolExecutor(6) as pool:
        parts = pool.map(encoder.encode_images, [batch[n : n + 3] for n in range(0, 24, 3)])
        texts = pool.map(lambda text: encoder.encode_texts([text])[0], LABELS)
        np.testing.assert_allclose(np.concatenate(list(parts)), expected, atol=1e-6)
        np.testing.assert_allclose(np.stack(list(texts)), encoder.encode_texts(LABELS), atol=1e-6)


def test_a_chunk_runs_in_the_thread_that_asks(
    exact: Compilation, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = OnnxEncoder.load(spec, precision="fp32")
    assert isinstance(encoder, SharedEncoder)
    batch = batch_of(encoder, encoder.worker_chunk + 1)
    run, threads = encoder._image_run(), set[int]()

    def noted(part: np.ndarray) -> np.ndarray:
        threads.add(get_ident())
        return run(part)

    monkeypatch.setattr(encoder, "_image_run", lambda: noted)
    monkeypatch.setattr(encoder, "_threads", 2)
    encoder.encode_images(batch[1:])
    assert threads == {get_ident()}
    encoder.encode_images(batch)
    assert len(threads) > 1


def test_nothing_gives_no_rows(encoder: OnnxEncoder) -> None:
    assert encoder.encode_images(batch_of(encoder, 1)[:0]).shape == (0, encoder.info.dim)
    assert encoder.encode_texts([]).shape == (0, encoder.info.dim)


def test_what_is_no_batch_and_no_list_is_refused(encoder: OnnxEncoder) -> None:
    with pytest.raises(ValueError, match="takes uint8"):
        encoder.encode_images(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(TypeError, match="a list of texts"):
        encoder.encode_texts("horse")


def test_tokens_are_those_of_open_clip(encoder: OnnxEncoder, reference: OpenClipEncoder) -> None:
    rows = token_rows(encoder.tokenizer, LABELS, cut=None)
    assert rows == reference.raw_tokenizer(LABELS).tolist()
    assert encoder.tokenizer.multilingual == reference.tokenizer.multilingual


def test_rows_end_with_the_token_that_stands_for_the_text(encoder: OnnxEncoder) -> None:
    tokenizer = encoder.tokenizer
    whole = token_rows(tokenizer, ["a horse"], cut=None)[0]
    highest = whole[: whole.index(max(whole)) + 1]
    assert token_rows(tokenizer, ["a horse"], cut="highest") == [highest]
    assert token_rows(tokenizer, ["a horse"], cut=whole[1]) == [whole[:2]]
    # open_clip takes the first token where the one it looks for is missing.
    assert token_rows(tokenizer, ["a horse"], cut=-1) == [whole[:1]]


def test_images_and_texts_need_no_torch(exact: Compilation, spec: ModelSpec) -> None:
    code = f"""
import sys
import PIL.Image
from clipsearch import load_encoder, load_tokenizer
encoder = load_encoder({spec.name!r}, device="cpu", precision="fp32")
vector = encoder.encode_images(encoder.preprocess(PIL.Image.new("RGB", (99, 77)))[None])[0]
texts = encoder.encode_texts(["a horse", "naïve & 🐎"] * 6)
load_tokenizer({spec.name!r}).ids(["a horse"])
heavy = {{"torch", "torchvision", "open_clip", "transformers", "onnx"}} & set(sys.modules)
print(round(float(vector @ vector), 4), texts.shape[0], sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=2) == ["1.0", "12", "[]\n"]
    assert done.stderr == ""


# --- int8 ----------------------------------------------------------------------------------


def test_mini_passes_the_gate_and_runs_in_int8(
    cache: Path, make_images: Callable[..., list[Path]]
) -> None:
    steps: list[Progress] = []
    made = compile_model(
        "mini",
        precision="int8",
        images=make_images(3),
        force=True,
        progress=steps.append,
    )
    measured = made.manifest.gate
    assert measured is not None and measured.passed
    assert (made.manifest.precision, made.reason, measured.images) == ("int8", "", 103)
    assert 0.995 < measured.worst <= measured.cosine < 1
    assert 0.95 <= measured.overlap <= 1
    assert steps[0] == Progress("compile", 0, 3)
    assert steps[-2:] == [Progress("gate", 206, 206), Progress("compile", 3, 3)]
    assert [step.done for step in steps] == [0, 1, 2, 32, 64, 96, 103, 135, 167, 199, 206, 3]

    encoder = OnnxEncoder.load(resolve("mini"))
    assert encoder.precision == "int8"
    reference = OpenClipEncoder.load(resolve("mini"), device="cpu")
    batch = batch_of(reference, 12)
    found, expected = encoder.encode_images(batch), reference.encode_images(batch)
    assert 1e-4 < abs(found - expected).max() < 0.05
    assert (found * expected).sum(axis=1).min() > 0.995
    # An image has one vector, whichever images are encoded with it.
    np.testing.assert_array_equal(encoder.encode_images(batch[5:6]), found[5:6])
    np.testing.assert_allclose(
        encoder.encode_texts(LABELS), reference.encode_texts(LABELS), atol=1e-5
    )


def test_a_small_model_stays_exact_unless_int8_is_asked_for(
    empty_cache: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = compile_model(f"local-dir:{clip}")
    assert (small.manifest.precision, small.manifest.gate) == ("fp32", None)
    assert "so small" in small.reason
    other = tmp_path / "other"
    shutil.copytree(clip, other)
    assert not compile_model(f"local-dir:{other}").fresh
    monkeypatch.setattr(compiling, "_SMALL", 0)
    assert compile_model(f"local-dir:{clip}", force=True).manifest.gate is not None


def test_what_is_asked_for_again_is_what_runs(cache: Path) -> None:
    for precision in ("int8", "fp32", "int8"):
        compile_model("mini", precision=precision)
        assert OnnxEncoder.load(resolve("mini")).precision == precision
    assert not compile_model("mini", precision="int8").fresh


def test_what_does_not_pass_the_gate_stays_fp32(
    empty_cache: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_LEAST_COSINE", 0.9999999)
    made = compile_model(f"local-dir:{clip}", precision="int8")
    measured = made.manifest.gate
    assert measured is not None and not measured.passed
    assert made.manifest.precision == "fp32"
    assert made.reason.startswith("int8 did not pass the gate: mean cosine 0.9999")
    assert sorted(path.name for path in made.folder.iterdir()) == [
        *(
            "few.onnx",
            "image.bin",
            "image.onnx",
            MANIFEST_FILE,
            "text.bin",
            "text.onnx",
            "tokens.db",
        )
    ]
    spec = resolve(f"local-dir:{clip}")
    assert find_compiled(spec) == made.folder == folder_of(made.manifest.fingerprint, "fp32")
    assert find_compiled(spec, "int8") is None
    with pytest.raises(EncoderError, match="int8"):
        OnnxEncoder.load(spec, precision="int8")
    for precision in ("int8", "auto"):
        again = compile_model(f"local-dir:{clip}", precision=precision)
        assert (again.fresh, again.folder, again.reason) == (False, made.folder, made.reason)


def test_the_gate_measures_cosines_and_neighbours() -> None:
    rng = np.random.default_rng(0)
    exact, texts = (_unit(rng.normal(size=(40, 16))) for _ in range(2))
    same = compiling.measure_gate(exact, exact, texts)
    assert (same.images, round(same.cosine, 6), same.overlap, same.passed) == (40, 1, 1, True)
    rounded = _unit(exact + 0.05 * rng.normal(size=exact.shape))
    measured = compiling.measure_gate(exact, rounded, texts)
    cosines = [float(a @ b) for a, b in zip(exact, rounded, strict=True)]
    assert measured.cosine == pytest.approx(np.mean(cosines))
    assert measured.worst == pytest.approx(min(cosines))
    by_text = [_shared(exact @ text, rounded @ text) for text in texts]
    by_image = []
    for n in range(40):
        others = np.arange(40) != n
        by_image.append(_shared((exact @ exact[n])[others], (rounded @ rounded[n])[others]))
    assert measured.overlap == pytest.approx(min(np.mean(by_text), np.mean(by_image)))
    assert not measured.passed


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _shared(first: np.ndarray, second: np.ndarray) -> float:
    return len({*np.argsort(-first)[:10]} & {*np.argsort(-second)[:10]}) / 10


def test_the_gate_asks_scenes_and_a_sample_of_ones_own_images(
    make_images: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_IMAGES", 5)
    folder = make_images(12)[0].parent
    (folder / "broken.png").write_bytes(b"no image")
    chosen = compiling._choose_images([folder])
    assert len(set(chosen)) == 5
    assert chosen == compiling._choose_images([folder])
    prepare = Preprocess((80, 80), "longest", "bicubic", 255)
    seen = list(compiling._gate_images(prepare, [folder]))
    assert len(seen) == 100 + 5 - sum(path.endswith("broken.png") for path in chosen)
    assert {pixels.shape for pixels in seen} == {(80, 80, 3)}
    assert len(set(compiling._gate_captions())) == 100


# --- what is kept --------------------------------------------------------------------------


@pytest.fixture
def made(empty_cache: Path, clip: Path, tmp_path: Path) -> Compilation:
    folder = shutil.copytree(clip, tmp_path / "copy")
    return compile_model(f"local-dir:{folder}", precision="fp32")


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
def test_damage_that_keeps_the_size_is_found_when_a_tower_is_opened(
    made: Compilation, file: str, use: Callable[[OnnxEncoder], object]
) -> None:
    path = made.folder / file
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(EncoderError, match=r"is damaged .* and was deleted\. Make it again"):
        use(OnnxEncoder.load(resolve(made.name)))
    assert not made.folder.exists()
    assert compile_model(made.name, precision="fp32").fresh


def test_another_format_is_not_used(made: Compilation) -> None:
    path = made.folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    assert find_compiled(resolve(made.name)) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": 3}', "null"])
def test_a_damaged_note_is_no_compiled_model(
    made: Compilation, empty_cache: Path, text: str
) -> None:
    for note in (empty_cache / "names").iterdir():
        note.write_text(text)
    assert find_compiled(resolve(made.name)) is None


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


# --- which engine runs it ------------------------------------------------------------------


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no graphics card show but by a file of the test's."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("CLIPSEARCH_DEVICE", raising=False)
    monkeypatch.setattr(encoders, "_GPU_TRACES", (str(tmp_path / "gpu"),))
    return tmp_path / "gpu"


def test_on_a_cpu_a_compiled_model_runs_compiled(
    made: Compilation, no_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(load_encoder(made.name), OnnxEncoder)
    assert isinstance(load_encoder(made.name, device="cpu"), OnnxEncoder)
    assert isinstance(load_encoder(made.name, engine="torch"), OpenClipEncoder)
    assert isinstance(load_encoder(made.name, precision="bf16"), OpenClipEncoder)
    assert isinstance(load_tokenizer(made.name), BytePairTokenizer)
    no_gpu.touch()
    assert isinstance(load_encoder(made.name), OpenClipEncoder)
    assert isinstance(load_encoder(made.name, engine="onnx"), OnnxEncoder)
    monkeypatch.setenv("CLIPSEARCH_DEVICE", "cpu")
    assert isinstance(load_encoder(made.name), OnnxEncoder)


def test_a_model_that_is_not_compiled_runs_on_torch(
    empty_cache: Path, clip: Path, no_gpu: Path
) -> None:
    assert isinstance(load_encoder(f"local-dir:{clip}"), OpenClipEncoder)
    with pytest.raises(EncoderError, match=r"is not compiled: `clipsearch compile local-dir:"):
        load_encoder(f"local-dir:{clip}", engine="onnx")
    with pytest.raises(EncoderError, match=r"is not compiled: .* --precision int8"):
        load_encoder(f"local-dir:{clip}", precision="int8")


@pytest.mark.parametrize(
    ("system", "machine", "device", "expected"),
    [
        ("linux", "x86_64", "auto", True),
        ("linux", "x86_64", "cpu", True),
        ("linux", "x86_64", "cuda", False),
        ("darwin", "arm64", "auto", False),
        ("darwin", "arm64", "cpu", True),
        ("darwin", "x86_64", "auto", True),
        ("win32", "AMD64", "auto", True),
    ],
)
def test_what_runs_on_the_cpu(
    no_gpu: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    machine: str,
    device: str,
    expected: bool,
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert encoders.runs_on_cpu(device) == expected


# --- what has no compiled form, or is asked wrongly ----------------------------------------


def uncompilable(folder: Path) -> Path:
    """Make a model with registers that stretches its positions, which torch cannot export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny_models.SIGLIP["vision_cfg"], "timm_model_name", "test_vit2")
        patch.setitem(tiny_models.SIGLIP["vision_cfg"], "timm_pool", "avg")
        return tiny_models.make_siglip(folder / "registers")


def test_a_model_that_cannot_be_compiled_says_why(empty_cache: Path, tmp_path: Path) -> None:
    folder = uncompilable(tmp_path)
    with pytest.raises(NotCompilable) as caught:
        compile_model(f"local-dir:{folder}")
    assert "written: not possible with register tokens" in caught.value.reason
    assert "exported: UnsupportedOperatorError" in caught.value.reason
    assert "It runs on torch all the same." in str(caught.value)
    assert list(empty_cache.iterdir()) == []


def test_vectors_that_are_not_the_models_are_not_kept(
    empty_cache: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_TOLERANCE", 1e-12)
    with pytest.raises(NotCompilable, match=r"text tower, written: its vectors differ by .*e-07"):
        compile_model(f"local-dir:{clip}")


def test_a_tower_that_torch_exports_is_the_model_too(empty_cache: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        vision = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 64}
        patch.setitem(tiny_models.CLIP, "vision_cfg", vision)
        patch.setitem(
            tiny_models.CLIP, "text_cfg", {**tiny_models.CLIP["text_cfg"], "embed_cls": True}
        )
        patch.setitem(tiny_models.CLIP, "custom_text", True)
        folder = tiny_models.make_clip(tmp_path / "resnet")
    made = compile_model(f"local-dir:{folder}")
    assert made.manifest.ways == {"text": "exported", "image": "exported"}
    assert made.manifest.precision == "fp32"
    assert "no plain transformer" in made.reason
    encoder = OnnxEncoder.load(resolve(made.name))
    reference = OpenClipEncoder.load(resolve(made.name), device="cpu")
    batch = batch_of(reference, 5)
    np.testing.assert_allclose(
        encoder.encode_images(batch), reference.encode_images(batch), atol=1e-4
    )
    np.testing.assert_allclose(
        encoder.encode_texts(LABELS), reference.encode_texts(LABELS), atol=1e-4
    )
    assert not compile_model(made.name).fresh


def test_other_devices_and_precisions_are_refused(made: Compilation) -> None:
    spec = resolve(made.name)
    with pytest.raises(EncoderError, match="run on the CPU, not on 'cuda'"):
        OnnxEncoder.load(spec, device="cuda")
    with pytest.raises(EncoderError, match="unknown precision 'fp16': choose auto, fp32 or int8"):
        OnnxEncoder.load(spec, precision="fp16")
    with pytest.raises(EncoderError, match="unknown precision 'int4'"):
        compile_model(made.name, precision="int4")


def test_the_image_of_the_proof_is_an_image() -> None:
    image = proof_image((32, 48))
    assert image.shape == (1, 32, 48, 3)
    assert len(np.unique(image)) > 100
