"""The torch engine says what open_clip itself says, for both families of models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL.Image
import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from clipsearch.encoders import load_encoder
from clipsearch.encoders import registry as models
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import EncoderError, ModelUnavailable, UnknownModel
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import OPENCLIP_80, make_prompts
from clipsearch.text.encode import reading

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"


def load(name: str | Path, **options: Any) -> OpenClipEncoder:
    found = load_encoder(f"local-dir:{name}" if isinstance(name, Path) else name, **options)
    assert isinstance(found, OpenClipEncoder)
    return found


class Reference:
    """open_clip's own way from images and texts to features."""

    def __init__(self, *name: str) -> None:
        model, _, self.transform = open_clip.create_model_and_transforms(*name)
        self.model = model.eval()
        self.tokenizer = open_clip.get_tokenizer(name[0])

    def images(self, images: list[PIL.Image.Image]) -> np.ndarray:
        with torch.no_grad():
            batch = torch.stack([self.transform(image) for image in images])
            found: np.ndarray = self.model.encode_image(batch, normalize=True).numpy()
        return found

    def texts(self, texts: list[str]) -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = self.model.encode_text(
                self.tokenizer(texts), normalize=True
            ).numpy()
        return found


def images_of(encoder: OpenClipEncoder, images: list[PIL.Image.Image]) -> np.ndarray:
    return encoder.encode_images(np.stack([encoder.preprocess(image) for image in images]))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module", params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenClipEncoder:
    return load(folder, device="cpu")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(f"local-dir:{folder}")


@pytest.fixture
def tiny_arch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make open_clip know the architecture `tiny`, with these pretrained tags."""

    def know(**tags: dict[str, Any]) -> None:
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", tiny_models.CLIP)
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", tags)
        monkeypatch.setattr(models, "architectures", lambda: frozenset({"tiny"}))

    return know


# --- the same numbers as open_clip ---------------------------------------------------------


def test_scores_of_100_images_and_50_texts_are_those_of_open_clip(
    encoder: OpenClipEncoder, reference: Reference
) -> None:
    images, texts = tiny_models.images(100), tiny_models.texts(50)
    scores = images_of(encoder, images) @ encoder.encode_texts(texts).T
    expected = reference.images(images) @ reference.texts(texts).T
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    # They are worth comparing: images and texts are told apart.
    assert expected.std(axis=0).min() > 0.02
    assert expected.std(axis=1).min() > 0.02


@pytest.mark.filterwarnings("ignore:.*tokens, more than the")  # some of the small model
def test_a_head_of_80_templates_is_open_clips_zero_shot_classifier(
    encoder: OpenClipEncoder, reference: Reference
) -> None:
    labels = ["cat", "blue horse", "boy riding a dog", "tree"]
    with reading(encoder, truncate=True) as reader:  # as open_clip does with what is too long
        head = Head.from_prompts(reader, make_prompts(labels, OPENCLIP_80))
    expected = open_clip.build_zero_shot_classifier(
        reference.model, reference.tokenizer, labels, open_clip.OPENAI_IMAGENET_TEMPLATES
    )
    np.testing.assert_allclose(head.vectors, expected.T.numpy(), atol=1e-5)


def test_the_80_templates_are_open_clips() -> None:
    expected = [template("blue cat") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert [template.replace("{}", "blue cat") for template in OPENCLIP_80] == expected


def test_probabilities_are_those_of_the_model(
    encoder: OpenClipEncoder, reference: Reference
) -> None:
    image = tiny_models.images(1)
    labels = {"cat": ["cat"], "dog": ["dog"]}
    head = Head.from_prompts(encoder, labels)
    with torch.no_grad():
        logits, _ = reference.model.get_logits(
            reference.transform(image[0])[None], reference.tokenizer(list(labels))
        )
    sigmoid = encoder.info.logit_bias is not None
    expected = logits.sigmoid() if sigmoid else logits.softmax(dim=-1)
    found = head.probabilities(head.scores(images_of(encoder, image)))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_images_are_prepared_in_every_way_of_open_clip(tmp_path: Path, mode: str) -> None:
    preprocess: dict[str, Any] = {
        "resize_mode": mode,
        "interpolation": "bilinear",
        "mean": [0.1, 0.5, 0.9],
        "std": [0.3, 0.2, 0.1],
        "fill_color": 99,
    }
    folder = tiny_models.make_clip(tmp_path, preprocess=preprocess)
    encoder, reference = load(folder), Reference(f"local-dir:{folder}")
    for image in tiny_models.images(20, seed=1):
        shaped = encoder.preprocess(image)
        assert shaped.dtype == np.uint8
        assert shaped.shape == (32, 32, 3)
        floats = (shaped / 255 - preprocess["mean"]) / preprocess["std"]
        expected = reference.transform(image).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(floats, expected, atol=2e-6)
    images = tiny_models.images(5, seed=2)
    np.testing.assert_allclose(images_of(encoder, images), reference.images(images), atol=1e-5)


@pytest.mark.parametrize("mode", ["shortest", "longest"])
@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (3, 5000)])
def test_a_very_long_image_is_cut_to_its_middle(
    tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    encoder = load(tiny_models.make_clip(tmp_path, preprocess={"resize_mode": mode}))
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    where = (rows + columns) * 255 // max(size)
    image = PIL.Image.fromarray(np.dstack([where] * 3).astype(np.uint8))
    shaped = encoder.preprocess(image)
    assert shaped.shape == (32, 32, 3)
    # What fits the longest side is a stripe in black.
    seen = shaped[shaped > 0] if mode == "longest" else shaped
    assert seen.size >= 32 * 3
    assert abs(seen.astype(int) - 127).max() <= 4


def test_long_texts_are_cut_as_open_clip_cuts_them(
    encoder: OpenClipEncoder, reference: Reference
) -> None:
    texts = ["horse " * 300, "horse " * 299 + "cat"]
    np.testing.assert_allclose(encoder.encode_texts(texts), reference.texts(texts), atol=1e-5)


# --- what a library keeps of a model -------------------------------------------------------


def test_a_clip_has_a_scale_and_no_bias(clip: Path) -> None:
    info = load(clip).info
    assert (info.dim, info.logit_bias) == (32, None)
    assert info.logit_scale == pytest.approx(1 / 0.07, rel=1e-6)
    assert load(clip).context_length == 77


def test_a_siglip_has_a_bias_and_its_own_context_length(siglip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(siglip, tmp_path / "copy"))
    state = load_file(folder / WEIGHTS)
    state["logit_bias"], state["logit_scale"] = torch.tensor(-16.5), torch.tensor(4.5)
    save_file(state, folder / WEIGHTS)
    encoder = load(folder)
    assert (encoder.info.dim, encoder.info.logit_bias) == (64, -16.5)
    assert encoder.info.logit_scale == pytest.approx(np.exp(4.5), rel=1e-6)
    assert encoder.context_length == 16


def test_the_name_of_a_model_loads_it_again(folder: Path, encoder: OpenClipEncoder) -> None:
    assert encoder.info.name == encoder.info.spec == f"local-dir:{folder}"
    assert load(encoder.info.spec).info == encoder.info


def change_weight(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    state["visual.proj"][0, 0] += 1e-3
    save_file(state, folder / WEIGHTS)


def change_config(*keys: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        inner = config
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        (folder / CONFIG).write_text(json.dumps(config))

    return change


@pytest.mark.parametrize(
    "change",
    [
        change_weight,
        change_config("preprocess_cfg", "resize_mode", value="squash"),
        change_config("preprocess_cfg", "mean", value=[0.5, 0.5, 0.5]),
        change_config("model_cfg", "quick_gelu", value=True),
        change_config("model_cfg", "text_cfg", "heads", value=4),
        change_config("model_cfg", "text_cfg", "tokenizer_kwargs", value={"clean": "whitespace"}),
    ],
    ids=["weight", "resize", "mean", "gelu", "heads", "tokenizer"],
)
def test_the_fingerprint_tells_models_apart_that_differ(
    clip: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "copy"))
    assert load(folder).info.fingerprint == load(clip).info.fingerprint
    change(folder)
    assert load(folder).info.fingerprint != load(clip).info.fingerprint


@pytest.mark.slow
def test_the_fingerprint_is_the_same_from_any_file_and_in_any_precision(
    clip: Path, tmp_path: Path, tiny_arch: Callable[..., None]
) -> None:
    tiny_arch()
    state = load_file(clip / WEIGHTS)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "epoch_3.pt")
    expected = load(clip).info.fingerprint
    assert load("tiny", checkpoint=tmp_path / "epoch_3.pt").info.fingerprint == expected
    assert load("tiny", checkpoint=clip / WEIGHTS).info.fingerprint == expected
    assert load(clip, precision="bf16").info.fingerprint == expected


# --- where weights come from ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["state.pt", "training.pt", "weights.safetensors", "half.pt"])
def test_checkpoint_files_are_loaded_into_their_architecture(
    clip: Path, tmp_path: Path, tiny_arch: Callable[..., None], kind: str
) -> None:
    tiny_arch()
    state, file = load_file(clip / WEIGHTS), tmp_path / kind
    if kind == "weights.safetensors":
        save_file(state, file)
    elif kind == "training.pt":
        # As open_clip's training writes it from several GPUs.
        wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"epoch": 1, "state_dict": wrapped, "optimizer": {}}, file)
    else:
        half = {name: tensor.half() for name, tensor in state.items()}
        torch.save(half if kind == "half.pt" else state, file)
    encoder = load("tiny", checkpoint=file)
    assert encoder.info.name == f"tiny@{file}"
    assert load(encoder.info.spec).info == encoder.info
    texts, images = tiny_models.texts(5), tiny_models.images(5)
    tolerance = 1e-2 if kind == "half.pt" else 1e-6
    original = load(clip)
    np.testing.assert_allclose(
        encoder.encode_texts(texts), original.encode_texts(texts), atol=tolerance
    )
    np.testing.assert_allclose(
        images_of(encoder, images), images_of(original, images), atol=tolerance
    )


def test_a_tag_brings_its_weights_preprocessing_and_activation(
    clip: Path, tiny_arch: Callable[..., None]
) -> None:
    tag = {"file": str(clip / WEIGHTS), "quick_gelu": True}
    tag |= {"mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
    tiny_arch(some_tag=tag)
    encoder = load("tiny/Some-Tag")
    assert encoder.info.name == "tiny/some_tag"
    model, _, transform = open_clip.create_model_and_transforms(
        "tiny", "some_tag", force_quick_gelu=True
    )
    image = tiny_models.images(3)[2]
    with torch.no_grad():
        expected = model.eval().encode_image(transform(image)[None], normalize=True)
    np.testing.assert_allclose(images_of(encoder, [image]), expected.numpy(), atol=1e-5)
    plain = images_of(load(clip), [image])
    assert abs(plain - expected.numpy()).max() > 1e-2


def test_real_names_are_known_without_their_weights() -> None:
    with pytest.raises(UnknownModel, match="its tags are datacomp_s34b_b86k"):
        load("ViT-B-32-256")
    with pytest.raises(UnknownModel, match="Did you mean 'ViT-B-32-256/datacomp_s34b_b86k'"):
        load("ViT-B-32-256/datacomp_s34b_b88k")


def test_every_preset_names_weights_that_open_clip_knows() -> None:
    for preset in models.PRESETS.values():
        if preset.repo:
            arch, tag = preset.spec.split("/")
            assert open_clip.get_pretrained_cfg(arch, tag)["hf_hub"] == f"{preset.repo}/"
            config = open_clip.get_model_config(arch)
            assert config["embed_dim"] == preset.dim
            assert ("hf_tokenizer_name" in config["text_cfg"]) == preset.hub_tokenizer


def missing(state: dict[str, torch.Tensor]) -> None:
    del state["visual.proj"]


def extra(state: dict[str, torch.Tensor]) -> None:
    state["another"] = torch.zeros(1)


def reshaped(state: dict[str, torch.Tensor]) -> None:
    state["visual.proj"] = torch.zeros(3, 3)


def empty(state: dict[str, torch.Tensor]) -> None:
    state.clear()


@pytest.mark.parametrize("damage", [missing, extra, reshaped, empty])
def test_weights_that_do_not_fill_the_model_exactly_are_refused(
    clip: Path, tmp_path: Path, damage: Callable[[dict[str, torch.Tensor]], None]
) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "copy"))
    state = load_file(folder / WEIGHTS)
    damage(state)
    save_file(state, folder / WEIGHTS)
    with pytest.raises(ModelUnavailable, match="cannot be read as an open_clip model") as caught:
        load(folder)
    assert str(folder) in caught.value.reason
    assert len(caught.value.reason) < 600


@pytest.mark.parametrize("keep", [0, 5, 5000])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_damaged_file_is_refused(
    clip: Path, tmp_path: Path, tiny_arch: Callable[..., None], name: str, keep: int
) -> None:
    tiny_arch()
    state = load_file(clip / WEIGHTS)
    torch.save(state, tmp_path / "w.pt")
    save_file(state, tmp_path / "w.safetensors")
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:keep])
    with pytest.raises(ModelUnavailable, match="cannot be read as weights of tiny"):
        load("tiny", checkpoint=tmp_path / name)


def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, tiny_arch: Callable[..., None]
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    tiny_arch()
    torch.save({"state_dict": Evil()}, tmp_path / "w.pt")
    with pytest.raises(ModelUnavailable):
        load("tiny", checkpoint=tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_its_tokenizer_is_refused(siglip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(siglip, tmp_path / "copy"))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelUnavailable, match="the tokenizer"):
        load(folder)


def test_a_model_is_made_once(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(open_clip.CLIP):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(open_clip.factory, "CLIP", Counted)
    load(clip)
    assert len(made) == 1


# --- devices and precision -----------------------------------------------------------------


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 1e-4), ("bf16", 5e-3)])
def test_half_precision_computes_in_half_and_returns_float32(
    folder: Path, encoder: OpenClipEncoder, precision: str, tolerance: float
) -> None:
    half = load(folder, device="cpu", precision=precision)
    images, texts = tiny_models.images(20), tiny_models.texts(20)
    for found, whole in (
        (images_of(half, images), images_of(encoder, images)),
        (half.encode_texts(texts), encoder.encode_texts(texts)),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose((found * whole).sum(axis=1), 1, atol=tolerance)
        assert abs(found - whole).max() > 1e-6  # float32 would be equal


def test_half_precision_is_the_default_on_cuda_alone() -> None:
    from clipsearch.encoders.torch import _half

    assert _half("auto", torch.device("cuda")) is torch.float16
    assert _half("auto", torch.device("cpu")) is None
    assert _half("auto", torch.device("mps")) is None
    assert _half("fp32", torch.device("cuda")) is None


def test_the_fastest_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipsearch.encoders.torch import _device

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert _device("auto").type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert _device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _device("auto").type == "cuda"


@pytest.mark.parametrize("device", ["cuda:99", "toaster", "mps:7", ""])
def test_a_device_that_is_not_there_is_told(clip: Path, device: str) -> None:
    with pytest.raises(EncoderError, match=f"device '{device}' is not available"):
        load(clip, device=device)


def test_the_environment_names_the_device_where_none_is_asked_for(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSEARCH_DEVICE", "toaster")
    with pytest.raises(EncoderError, match="device 'toaster' is not available"):
        load(clip)
    assert load(clip, device="cpu").device.type == "cpu"
    # An argument wins, `auto` too: it means the fastest device, not the variable.
    assert load(clip, device="auto").device.type != "toaster"


def test_an_unknown_precision_is_told(clip: Path) -> None:
    with pytest.raises(EncoderError, match="auto, fp32, fp16 or bf16"):
        load(clip, precision="int4")


# --- what goes in --------------------------------------------------------------------------


def test_the_wrong_kind_of_batch_is_refused(encoder: OpenClipEncoder) -> None:
    right = np.stack([encoder.preprocess(tiny_models.images(1)[0])])
    for wrong in (right[0], right.astype(np.float32), right[:, 1:], right[..., :2]):
        with pytest.raises(ValueError, match=r"takes uint8 \(n, \d+, \d+, 3\), not"):
            encoder.encode_images(wrong)
    with pytest.raises(TypeError, match="a list of texts"):
        encoder.encode_texts("cat")


def test_broken_unicode_is_read_as_a_question_mark(encoder: OpenClipEncoder) -> None:
    broken, clean = encoder.encode_texts(["horse \udcff", "horse ?"])
    np.testing.assert_allclose(broken, clean, atol=1e-6)


def test_numbers_that_are_not_finite_are_never_returned(clip: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(clip, tmp_path / "copy"))
    state = load_file(folder / WEIGHTS)
    state["visual.proj"][0, 0] = float("nan")
    save_file(state, folder / WEIGHTS)
    encoder = load(folder)
    with pytest.raises(EncoderError, match="not finite"):
        images_of(encoder, tiny_models.images(1))
