"""Models from the hub: a stand-in on this machine serves random weights to fresh processes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_models

from clipsearch.encoders import hub as hub_module
from clipsearch.encoders import load_encoder
from clipsearch.errors import ModelUnavailable, UnknownModel

COMMIT = "1234567890" * 4
TEXTS = ["a blue horse", "Boy riding!"]

# Loads models from the hub and says what it got, or what it was told instead.
SCRIPT = """
import json, sys, time
from clipsearch import ClipsearchError, load_encoder
found = {}
for name in json.loads(sys.argv[1]):
    begun = time.perf_counter()
    try:
        encoder = load_encoder(name, device="cpu")
        rows = encoder.encode_texts(json.loads(sys.argv[2])).tolist()
        found[name] = {"name": encoder.info.name, "print": encoder.info.fingerprint, "rows": rows}
    except ClipsearchError as error:
        found[name] = {"error": type(error).__name__, "message": str(error)}
    found[name]["seconds"] = time.perf_counter() - begun
print(json.dumps(found))
"""


class Hub(ThreadingHTTPServer):
    """Serves the folders below `root` as repositories, as huggingface.co does."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.root = root
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self) -> Counter[str]:
        """How often each file was downloaded."""
        return Counter(path for verb, path in self.asked if verb == "GET" and "/resolve/" in path)


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        folder, file = self.server.root / repo, rest.partition("/")[2]
        if not rest or not folder.is_dir():
            return self.refuse(401 if rest else 404, "RepoNotFound")
        if not (folder / file).is_file():
            return self.refuse(404, "EntryNotFound")
        content = (folder / file).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    tiny_models.make_clip(root / "tiny" / "clip")
    tiny_models.make_siglip(root / "tiny" / "siglip")
    (root / "tiny" / "nothing").mkdir()
    server = Hub(root)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache, which the tests of this module fill one after another."""
    return tmp_path_factory.mktemp("home")


def load_in_a_fresh_process(
    names: list[str], *, endpoint: str, home: Path, **more: str
) -> dict[str, dict[str, Any]]:
    # A hub out of reach must not be reached through a proxy either.
    clean = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k[:3] != "HF_"}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(names), json.dumps(TEXTS)],
        env={**clean, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **more},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    found: dict[str, dict[str, Any]] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module")
def online(hub: Hub, home: Path) -> dict[str, dict[str, Any]]:
    """What a process got that reached the hub, after which the hub goes away."""
    names = ["hf-hub:tiny/clip", "hf-hub:tiny/siglip", "hf-hub:tiny/gone", "hf-hub:tiny/nothing"]
    found = load_in_a_fresh_process(names, endpoint=hub.url, home=home)
    hub.shutdown()
    hub.server_close()
    return found


@pytest.fixture(scope="module")
def offline(online: dict[str, dict[str, Any]], hub: Hub, home: Path) -> dict[str, dict[str, Any]]:
    """What a later process got, with the cache of the first and no hub."""
    names = ["hf-hub:tiny/clip", "hf-hub:tiny/siglip", "default", "multilingual"]
    return load_in_a_fresh_process(names, endpoint=hub.url, home=home)


@pytest.mark.parametrize("model", ["tiny/clip", "tiny/siglip"])
def test_a_model_of_the_hub_is_the_model_in_its_folder(
    hub: Hub, online: dict[str, dict[str, Any]], model: str
) -> None:
    local = load_encoder(f"local-dir:{hub.root / model}", device="cpu")
    found = online[f"hf-hub:{model}"]
    assert found["name"] == f"hf-hub:{model}"
    assert found["print"] == local.info.fingerprint
    np.testing.assert_allclose(found["rows"], local.encode_texts(TEXTS), atol=1e-5)


def test_every_file_is_downloaded_once(hub: Hub, online: dict[str, dict[str, Any]]) -> None:
    assert hub.gets() == {
        f"/tiny/{name}/resolve/main/{file}": 1
        for name, files in {
            "clip": ["open_clip_config.json", "open_clip_model.safetensors"],
            "siglip": [
                "open_clip_config.json",
                "open_clip_model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
            ],
        }.items()
        for file in files
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf-hub:tiny/clip", "hf-hub:tiny/siglip"])
def test_what_was_downloaded_loads_without_the_hub(
    online: dict[str, dict[str, Any]], offline: dict[str, dict[str, Any]], name: str
) -> None:
    assert offline[name]["print"] == online[name]["print"]
    assert offline[name]["rows"] == online[name]["rows"]


def test_a_repository_that_is_not_there_is_told(online: dict[str, dict[str, Any]]) -> None:
    found = online["hf-hub:tiny/gone"]
    assert found["error"] == "UnknownModel"
    assert "has no repository tiny/gone, or it is private: then set HF_TOKEN" in found["message"]


def test_a_repository_without_a_model_is_told(online: dict[str, dict[str, Any]]) -> None:
    found = online["hf-hub:tiny/nothing"]
    assert found["error"] == "ModelUnavailable"
    assert "tiny/nothing has no open_clip_model.safetensors or open_cl" in found["message"]


@pytest.mark.parametrize("preset", ["default", "multilingual"])
def test_a_preset_out_of_reach_is_one_clear_error_at_once(
    hub: Hub, offline: dict[str, dict[str, Any]], preset: str
) -> None:
    found = offline[preset]
    assert found["error"] == "ModelUnavailable"
    message = found["message"]
    assert message.startswith(f"cannot load model '{preset} (ViT-B-32-")
    for part in (hub.url, "--model mini", "--checkpoint FILE", "HF_HOME", "HF_HUB_OFFLINE=1"):
        assert part in message
    # The hub's own client tries again for 23 seconds.
    assert found["seconds"] < 15


# --- what the hub may answer, without a process of its own -------------------------------------


class StandIn:
    """huggingface_hub with a cache in a dictionary and a hub that gives files or raises errors."""

    def __init__(self, has: dict[str, str | Exception]) -> None:
        from huggingface_hub import errors

        self.errors, self.has = errors, has
        self.cache: dict[str, str] = {}
        self.constants = SimpleNamespace(
            HF_HUB_CACHE="/cache", HF_HUB_OFFLINE=False, ENDPOINT="https://hub.test"
        )

    def try_to_load_from_cache(self, repo: str, file: str) -> str | None:
        return self.cache.get(f"{repo}/{file}")

    def hf_hub_url(self, repo: str, file: str) -> str:
        return f"{repo}/{file}"

    def get_hf_file_metadata(self, url: str) -> None:
        answer = self.has.get(url, self.errors.EntryNotFoundError("404"))
        if isinstance(answer, Exception):
            raise answer

    def hf_hub_download(self, repo: str, file: str) -> str:
        found = self.cache[f"{repo}/{file}"] = str(self.has[f"{repo}/{file}"])
        return found


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., StandIn]:
    def make(has: dict[str, str | Exception]) -> StandIn:
        made = StandIn(has)
        monkeypatch.setattr(hub_module, "_huggingface_hub", lambda: made)
        return made

    return make


def test_the_best_file_that_a_repository_has_is_taken_and_then_found_in_the_cache(
    stand_in: Callable[..., StandIn],
) -> None:
    made = stand_in({"o/r/second": "/cache/second"})
    assert hub_module.find_cached("o/r", "first", "second") is None
    assert hub_module.fetch("o/r", "first", "second", model="m") == "/cache/second"
    made.has.clear()
    assert hub_module.fetch("o/r", "first", "second", model="m") == "/cache/second"
    with pytest.raises(ModelUnavailable, match=r"https://hub\.test/o/r has no a or b"):
        hub_module.fetch("o/r", "a", "b", model="m")


def test_settings_of_a_tokenizer_are_fetched_with_it_and_only_where_it_is_not_there(
    stand_in: Callable[..., StandIn],
) -> None:
    names = ("tokenizer_config.json", "config.json", "tokenizer.json")
    made = stand_in({f"o/r/{name}": f"/cache/r/{name}" for name in names})
    folder = str(Path("/cache/r"))
    assert hub_module.fetch_tokenizer("o/r", model="m") == folder
    assert set(made.cache) == set(made.has)
    del made.cache["o/r/config.json"]
    assert hub_module.fetch_tokenizer("o/r", model="m") == folder
    assert "o/r/config.json" not in made.cache


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        (
            "GatedRepoError",
            ModelUnavailable,
            "Accept it on https://hub.test/o/r, then set HF_TOKEN",
        ),
        ("RepositoryNotFoundError", UnknownModel, "https://hub.test has no repository o/r"),
        (
            "LocalEntryNotFoundError",
            ModelUnavailable,
            "downloading it from https://hub.test failed: it says no",
        ),
    ],
)
def test_each_refusal_of_the_hub_says_what_to_do(
    stand_in: Callable[..., StandIn], name: str, kind: type[Exception], told: str
) -> None:
    from huggingface_hub import errors

    cls = getattr(errors, name)
    error = cls.__new__(cls)  # what these are made of differs from version to version
    error.args = ("it says no.\nand more",)
    stand_in({"o/r/f": error})
    with pytest.raises(kind, match=re.escape(told)):
        hub_module.fetch("o/r", "f", model="m")


def test_a_full_disk_and_a_forbidden_network_are_told(stand_in: Callable[..., StandIn]) -> None:
    made = stand_in({"o/r/f": OSError()})
    with pytest.raises(ModelUnavailable, match=r"hub\.test failed: OSError"):
        hub_module.fetch("o/r", "f", model="m")
    made.constants.HF_HUB_OFFLINE = True
    with pytest.raises(ModelUnavailable, match="in the cache /cache, and HF_HUB_OFFLINE forbids"):
        hub_module.fetch("o/r", "f", model="m")
