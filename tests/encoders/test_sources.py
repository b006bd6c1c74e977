"""Where weights and preprocessing of a model come from, on tables made up for the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clipsearch.encoders import hub, sources
from clipsearch.encoders.registry import ModelSpec
from clipsearch.errors import ModelUnavailable, UnknownModel

CLIP = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28), "resize_mode": "shortest"}
HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}


class Tables:
    """One architecture, `tower`, with some tags."""

    def __init__(self, **tags: dict[str, Any]) -> None:
        self.tags = tags
        self.downloaded: list[dict[str, Any]] = []

    def get_model_config(self, model_name: str) -> dict[str, Any] | None:
        if model_name.startswith("local-dir:"):
            config = json.loads((Path(model_name[len("local-dir:") :]) / hub.CONFIG).read_text())
            found: dict[str, Any] = config.get("model_cfg", config)
            return found
        return {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}

    def list_pretrained_tags_by_model(self, model: str) -> list[str]:
        return list(self.tags)

    def get_pretrained_cfg(self, model: str, tag: str) -> dict[str, Any]:
        return self.tags.get(tag, {})

    def download_pretrained(self, cfg: dict[str, Any]) -> str:
        self.downloaded.append(cfg)
        return f"/cache/{cfg['url']}"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What was asked of the hub, which has all."""
    asked: list[tuple[str, ...]] = []

    def fetch(repo: str, *files: str, model: str) -> str:
        asked.append((repo, *files))
        return f"/hub/{repo}/{files[0]}"

    monkeypatch.setattr(hub, "fetch", fetch)
    return asked


def checkpoint(tmp_path: Path, tag: str = "") -> ModelSpec:
    file = tmp_path / "weights.pt"
    return ModelSpec(f"tower@{file}", "tower", tag, checkpoint=str(file))


@pytest.mark.parametrize(
    ("place", "asked"),
    [
        ("org/repo/", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")),
        ("org/repo/w.bin", ("w.safetensors", "w.bin")),
        ("org/repo/w.safetensors", ("w.safetensors",)),
        ("org/repo/w.npz", ("w.npz",)),
    ],
)
def test_weights_of_a_tag_are_fetched_safetensors_first(
    place: str, asked: tuple[str, ...], fetched: list[tuple[str, ...]]
) -> None:
    tables = Tables(tag={"hf_hub": place, **HALVES})
    found = sources.find_source(ModelSpec("tower/tag", "tower", "tag"), tables)
    assert fetched == [("org/repo", *asked)]
    assert found.weights == f"/hub/org/repo/{asked[0]}"
    assert found.preprocess == HALVES


def test_weights_outside_the_hub_are_downloaded_by_open_clip() -> None:
    tables = Tables(tag={"url": "w.pt", **CLIP})
    found = sources.find_source(ModelSpec("tower/tag", "tower", "tag"), tables)
    assert found.weights == "/cache/w.pt"
    assert len(tables.downloaded) == 1


@pytest.mark.parametrize("quick", [True, False])
def test_the_activation_is_that_of_the_tag(quick: bool, fetched: list[tuple[str, ...]]) -> None:
    tables = Tables(tag={"hf_hub": "a/b/", "quick_gelu": quick})
    assert sources.find_source(ModelSpec("t/tag", "t", "tag"), tables).quick_gelu is quick


def test_an_unknown_tag_is_answered_with_the_nearest_and_all() -> None:
    tables = Tables(openai={}, laion2b_s34b_b79k={})
    with pytest.raises(UnknownModel) as caught:
        sources.find_source(ModelSpec("tower/open_ai", "tower", "open_ai"), tables)
    assert "Did you mean 'tower/openai'?" in str(caught.value)
    assert "its tags are openai, laion2b_s34b_b79k" in str(caught.value)


def test_an_architecture_alone_is_never_loaded_untrained() -> None:
    with pytest.raises(UnknownModel, match=r"write tower/TAG \(its tags are openai\)"):
        sources.find_source(ModelSpec("tower", "tower"), Tables(openai={}))


def test_a_checkpoint_is_prepared_as_all_tags_agree(tmp_path: Path) -> None:
    tables = Tables(one=HALVES, two={**HALVES, "hf_hub": "x/y/"})
    spec = checkpoint(tmp_path)
    found = sources.find_source(spec, tables)
    assert (found.weights, found.preprocess) == (spec.checkpoint, HALVES)


def test_a_checkpoint_is_not_prepared_by_guess(tmp_path: Path) -> None:
    tables = Tables(one=CLIP, two=HALVES)
    with pytest.raises(ModelUnavailable, match=r"--model tower/TAG, with TAG of one, two"):
        sources.find_source(checkpoint(tmp_path), tables)
    assert sources.find_source(checkpoint(tmp_path, "two"), tables).preprocess == HALVES


def test_a_configuration_beside_a_checkpoint_decides(tmp_path: Path) -> None:
    config = {"preprocess_cfg": {"mean": [0, 0, 0], "resize_mode": "longest", "size": 8}}
    (tmp_path / hub.CONFIG).write_text(json.dumps(config))
    found = sources.find_source(checkpoint(tmp_path), Tables(one=CLIP, two=HALVES))
    assert found.preprocess == {"mean": [0, 0, 0], "resize_mode": "longest"}


def test_a_checkpoint_of_an_architecture_without_tags_takes_open_clips_defaults(
    tmp_path: Path,
) -> None:
    assert sources.find_source(checkpoint(tmp_path), Tables()).preprocess == {}


@pytest.mark.parametrize("content", ["", "[]", '{"model_cfg": {}}', '{"model_cfg": 3}', "{}"])
def test_a_folder_with_a_broken_configuration_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / hub.CONFIG).write_text(content)
    with pytest.raises(ModelUnavailable, match="cannot be read as an open_clip model"):
        sources.find_source(ModelSpec("local-dir:x", folder=str(tmp_path)), Tables())


def test_configuration_and_weights_are_of_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cache has weights of version 1; asking for the configuration finds version 2.
    version = ["1"]
    asked = []

    def fetch(repo: str, *files: str, model: str) -> str:
        asked.append(files[0])
        if files[0] == hub.CONFIG:
            version[0] = "2"
        folder = tmp_path / version[0]
        folder.mkdir(exist_ok=True)
        model_cfg = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}
        (folder / hub.CONFIG).write_text(json.dumps({"model_cfg": model_cfg}))
        return str(folder / files[0])

    monkeypatch.setattr(hub, "fetch", fetch)
    found = sources.find_source(ModelSpec("hf-hub:a/b", repo="a/b"), Tables())
    assert found.name == f"local-dir:{tmp_path / '2'}"
    assert asked == [hub.WEIGHTS[0], hub.CONFIG, hub.WEIGHTS[0]]
