"""`clipsearch serve` as a process of its own: a real model, real requests, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from mcp import Client, StdioServerParameters
from mcp_types.version import LATEST_MODERN_VERSION

import clipsearch
from clipsearch.cli import main
from clipsearch.library import Library

SAMPLES = Path(clipsearch.__file__).with_name("samples")


@contextmanager
def serving(library: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the command on a free port; yield the address that it shows, and the process."""
    run = [sys.executable, "-m", "clipsearch", "serve", "-L", str(library), "--port", "0", *options]
    process = subprocess.Popen(run, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    watch = threading.Timer(300, process.kill)
    watch.start()
    try:
        said = ""
        while "Ctrl+C" not in said:  # which it says once the model is loaded
            line = process.stderr.readline()
            assert line, said
            said += line
        (address,) = re.findall(r"http://\S+", said)
        yield address, process
    finally:
        watch.cancel()
        process.kill()
        process.wait()
        process.stderr.close()


def get(address: str, path: str, headers: dict[str, str] | None = None, /, **question: Any) -> Any:
    url = f"{address.partition('?')[0].rstrip('/')}{path}?{urlencode(question, doseq=True)}"
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.loads(answer.read())


def refused(address: str, path: str, headers: dict[str, str] | None = None) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(address, path, headers)
    return error.value.code


@pytest.mark.slow
def test_a_process_answers_sees_new_images_and_ends_quietly(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        shutil.copy(SAMPLES / f"scene-{number:03}.webp", images)
    with Library.create(tmp_path / "library", model="mini") as library:
        library.index([images])
        with serving(tmp_path / "library") as (address, process):
            answer = get(address, "/v1/search", text=["a blue horse"], k=3)["results"]
            expected = library.search("a blue horse", k=3)
            assert [one["path"] for one in answer] == [hit.path for hit in expected]
            scores = [hit.score for hit in expected]
            assert [one["score"] for one in answer] == pytest.approx(scores, abs=1e-4)
            shutil.copy(SAMPLES / "scene-020.webp", images)
            library.index([images])
            new = str(images / "scene-020.webp")
            assert new in [one["path"] for one in get(address, "/v1/search", text="x")["results"]]
            assert get(address, "/v1/similar", path=new, k=1)["results"][0]["path"] != new
            assert refused(address, "/v1/status", {"Host": "evil.example"}) == 403
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
            assert process.wait(60) == 0
    token = "0123456789abcdef"
    with serving(tmp_path / "library", "--host", "0.0.0.0", "--token", token) as (address, _):
        assert address.endswith(f"/?token={token}")
        assert refused(address, "/v1/status") == 401
        bearer = {"Authorization": f"Bearer {token}"}
        assert get(address, "/v1/status", bearer)["files"] == 7
    with serving(tmp_path / "library", "--host", "0.0.0.0") as (address, _):
        made = address.partition("token=")[2]
        assert len(made) >= 32
        assert get(address, "/v1/status", {"Authorization": f"Bearer {made}"})["files"] == 7


@pytest.mark.slow
def test_a_process_speaks_mcp_and_nothing_else_on_stdout(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES, tmp_path / "images", ignore=lambda _, names: sorted(names)[6:])
    command = ["-m", "clipsearch", "serve", "-L", str(tmp_path / "library"), "--mcp"]
    here = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ))

    async def asked(mode: str) -> Any:
        async with Client(here, mode=mode) as client:
            return await client.call_tool("search_images", {"text": ["a blue horse"], "k": 3})

    with Library.create(tmp_path / "library", model="mini") as library:
        library.index([tmp_path / "images"])
        expected = [hit.path for hit in library.search("a blue horse", k=3)]
        # Both handshakes by name: to choose one, a client probes, and gives up after ten seconds,
        # in which a process on a busy machine may not have loaded its model.
        for mode in ("legacy", LATEST_MODERN_VERSION):
            answer = asyncio.run(asked(mode))
            assert [one["path"] for one in answer.structured_content["results"]] == expected


def test_what_cannot_be_served_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["serve", "-L", str(tmp_path / "none")]) == 1
    assert "no library in" in capsys.readouterr().err
    assert main(["serve", "--token", "short"]) == 2
    assert "at least 16 characters" in capsys.readouterr().err
    assert main(["serve", "--token", "0123456789; Path=/"]) == 2
    assert main(["serve", "--mcp", "--open"]) == 2
    assert main(["serve", "--mcp", "--calibrate"]) == 2
    assert main(["serve", "--port", "70000"]) == 2


@pytest.mark.parametrize(("options", "package"), [([], "fastapi"), (["--mcp"], "mcp")])
def test_a_missing_package_says_how_to_install_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    package: str,
) -> None:
    front = "mcp" if options else "http"
    for name in list(sys.modules):
        if name == package or name.startswith((f"{package}.", f"clipsearch.serve.{front}")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["serve", "-L", str(tmp_path), *options]) == 1
    extra = "mcp" if options else "serve"
    assert f"{package} is not installed: `pip install 'clipsearch[{extra}]'`" in (
        capsys.readouterr().err
    )


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from clipsearch.errors import CannotServe
    from clipsearch.serve.http import listen

    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotServe, match=f"cannot listen on 127.0.0.1, port {port}"):
            listen("127.0.0.1", port)
    with pytest.raises(CannotServe, match="Choose others"):
        listen("no.such.host.invalid", 0)


def test_the_environment_keeps_a_token_from_the_list_of_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSEARCH_TOKEN", "short")
    assert main(["serve"]) == 2
    assert "at least 16 characters" in capsys.readouterr().err
    assert os.environ["CLIPSEARCH_TOKEN"] == "short"
