"""What models are called, and which of them are on this machine: without torch or network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clipsearch.encoders import engine_names, hub, load_encoder
from clipsearch.encoders import registry as models
from clipsearch.encoders.registry import PRESETS, check_files, resolve
from clipsearch.errors import EncoderError, ModelUnavailable, UnknownModel

DEFAULT = "ViT-B-32-256/datacomp_s34b_b86k"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def put(cache: Path, repo: str, file: str) -> Path:
    """Put a file into the cache, as the hub's client lays it out."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    target = folder / "snapshots" / ("0" * 40) / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"weights")
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("0" * 40)
    return target


# --- names ---------------------------------------------------------------------------------


def test_the_presets_are_those_that_were_promised() -> None:
    assert {preset.name: preset.spec for preset in PRESETS.values()} == {
        "mini": "mini",
        "default": DEFAULT,
        "multilingual": "ViT-B-32-SigLIP2-256/webli",
        "quality": "ViT-B-16-SigLIP2/webli",
        "max": "ViT-SO400M-16-SigLIP2-384/webli",
    }


@pytest.mark.parametrize("preset", [p for p in PRESETS.values() if p.repo], ids=lambda p: p.name)
def test_a_preset_is_the_model_that_it_stands_for(preset: models.Preset) -> None:
    spec = resolve(preset.name)
    assert spec == resolve(preset.spec)
    assert f"{spec.arch}/{spec.tag}" == spec.name == preset.spec
    assert spec.title == f"{preset.name} ({preset.spec}, {preset.size_mb} MB)"


@pytest.mark.parametrize(
    ("name", "arch", "tag"),
    [
        ("ViT-L-14/openai", "ViT-L-14", "openai"),
        ("ViT-L-14/DataComp-XL-s13b-b90k", "ViT-L-14", "datacomp_xl_s13b_b90k"),
        ("ViT-B/32/openai", "ViT-B-32", "openai"),
        ("ViT-B/32", "ViT-B-32", ""),
        ("ViT-B-32", "ViT-B-32", ""),
    ],
)
def test_an_architecture_and_its_tag_are_told_apart(name: str, arch: str, tag: str) -> None:
    spec = resolve(name)
    assert (spec.arch, spec.tag) == (arch, tag)
    assert spec.name == (f"{arch}/{tag}" if tag else arch)


def test_every_canonical_name_resolves_to_the_same_model_again(tmp_path: Path) -> None:
    specs = [
        *map(resolve, PRESETS),
        resolve("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        resolve(f"local-dir:{tmp_path}"),
        resolve("ViT-B-32", checkpoint=tmp_path / "a@b.pt"),
        resolve("ViT-L-14/openai", checkpoint="weights.safetensors"),
        resolve("default", checkpoint=tmp_path / "w.pt"),
    ]
    assert [resolve(spec.name) for spec in specs] == specs


def test_a_checkpoint_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = resolve("ViT-B-32", checkpoint="w.pt")
    assert spec.name == f"ViT-B-32@{tmp_path}/w.pt"
    assert (spec.arch, spec.checkpoint) == ("ViT-B-32", str(tmp_path / "w.pt"))
    assert resolve("ViT-B-32@w.pt") == spec


def test_a_folder_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("local-dir:m").folder == resolve("local-dir:~/m").folder == f"{tmp_path}/m"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("defualt", "'default'"),
        ("ViT-B-32-265/datacomp_s34b_b86k", "'ViT-B-32-256'"),
        ("VIT-b-32", "'ViT-B-32'"),
        ("", "clipsearch models"),
        ("hf-hub:", "hf-hub:ORG/REPO"),
        ("hf-hub:only-one", "hf-hub:ORG/REPO"),
        ("hf-hub:a/b@weights.pt", "hf-hub:ORG/REPO"),
        ("mini@weights.pt", "ARCH or ARCH/TAG"),
    ],
)
def test_a_name_that_is_wrong_is_answered_with_what_to_write(name: str, told: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        resolve(name)
    assert told in str(caught.value)
    assert repr(name) in str(caught.value)


def test_a_bare_folder_is_answered_with_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=f"local-dir:{tmp_path}"):
        resolve(str(tmp_path))


def test_an_unknown_engine_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(EncoderError, match=r"'tensorflow'.*torch"):
        load_encoder(f"local-dir:{tmp_path}", engine="tensorflow")
    assert "torch" in engine_names()


# --- files on this machine -----------------------------------------------------------------


def test_a_missing_checkpoint_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=f"no file {tmp_path}/gone.pt"):
        check_files(resolve("ViT-B-32", checkpoint=tmp_path / "gone.pt"))


def test_a_folder_needs_its_configuration_and_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    spec = resolve(f"local-dir:{folder}")
    with pytest.raises(ModelUnavailable, match=f"no folder {folder}"):
        check_files(spec)
    folder.mkdir()
    with pytest.raises(ModelUnavailable, match=r"has no open_clip_config\.json"):
        check_files(spec)
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match=r"has no weights"):
        check_files(spec)
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    check_files(spec)


def test_the_bundled_model_without_its_weights_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_MINI", tmp_path)
    with pytest.raises(ModelUnavailable, match=r"reinstall clipsearch"):
        load_encoder("mini")
    assert not PRESETS["mini"].on_disk
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    assert PRESETS["mini"].on_disk


def test_a_preset_is_on_disk_when_the_cache_has_its_weights(hub_cache: Path) -> None:
    preset = PRESETS["default"]
    assert not preset.on_disk
    put(hub_cache, preset.repo, "open_clip_pytorch_model.bin")
    assert preset.on_disk
    assert not PRESETS["quality"].on_disk


def test_a_preset_with_its_own_tokenizer_needs_that_too(hub_cache: Path) -> None:
    preset = PRESETS["multilingual"]
    put(hub_cache, preset.repo, "open_clip_model.safetensors")
    put(hub_cache, preset.repo, "tokenizer_config.json")
    assert not preset.on_disk
    put(hub_cache, preset.repo, "tokenizer.json")
    assert preset.on_disk


# --- the hub -------------------------------------------------------------------------------


def fail(error: Exception) -> object:
    """Return a function that raises."""

    def raising(*args: object, **kwargs: object) -> None:
        raise error

    return raising


def test_what_the_cache_holds_is_taken_without_asking_the_hub(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", fail(AssertionError("asked")))
    put(hub_cache, "a/b", "second.bin")
    assert hub.fetch("a/b", "first.bin", "second.bin", model="m") == hub.find_cached(
        "a/b", "second.bin"
    )
    first = put(hub_cache, "a/b", "first.bin")
    assert hub.fetch("a/b", "first.bin", "second.bin", model="m") == str(first)


def test_a_hub_out_of_reach_is_told_with_all_remedies(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError("[Errno -2] Name or service not known\nmore")
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", fail(error))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.example")
    with pytest.raises(ModelUnavailable) as caught:
        hub.fetch("laion/x", "w.bin", model=resolve("default").title)
    message = str(caught.value)
    for part in (
        f"default ({DEFAULT}, 605 MB)",
        "laion/x is not in the cache",
        str(hub_cache),
        "downloading it from https://hub.example failed: Name or service not known.",
        "--model mini",
        "--checkpoint FILE",
        "HF_HOME",
        "HF_HUB_OFFLINE=1",
    ):
        assert part in message
    assert "more" not in caught.value.reason


def test_offline_mode_is_told_as_the_reason(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE forbids to download it"):
        hub.fetch("laion/x", "w.bin", model="m")


def test_wrong_names_fail_without_loading_torch() -> None:
    code = (
        "import sys; from clipsearch import load_encoder, UnknownModel\n"
        "try: load_encoder('defualt')\n"
        "except UnknownModel as error: print(error)\n"
        "from clipsearch.encoders.registry import PRESETS; PRESETS['default'].on_disk\n"
        "print('torch' in sys.modules, 'open_clip' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, loaded = run.stdout.splitlines()
    assert "Did you mean 'default'" in message
    assert loaded == "False False"
