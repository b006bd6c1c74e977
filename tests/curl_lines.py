"""The `curl` lines of the documentation, sent with and without curl."""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import httpx2


@dataclass
class CurlRequest:
    """What a line asks for."""

    url: str = ""
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, Path]] = field(default_factory=list)
    output: str | None = None


def parse_curl(line: str) -> CurlRequest:
    """Read a line with the options that the documentation uses: -F, -H, -d and -o."""
    words = [word.replace("$PWD", os.getcwd()) for word in shlex.split(line)]
    assert words.pop(0) == "curl"
    request = CurlRequest()
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(":")
            request.headers[name] = value.strip()
        elif word == "-d":
            request.body, request.method = words.pop(0), "POST"
        elif word == "-o":
            request.output = words.pop(0)
        elif word == "-F":
            request.method = "POST"
            name, _, value = words.pop(0).partition("=")
            if value.startswith("@"):
                request.files.append((name, Path(value[1:])))
            else:
                request.fields.append((name, value))
        else:
            assert not word.startswith("-"), f"{word} is not known here: {line}"
            assert not request.url, f"two addresses: {line}"
            request.url = word
    return request


def send(request: CurlRequest) -> bytes:
    """Send a request and return the body of the answer, which must be a success."""
    texts: dict[str, list[str]] = {}
    for name, value in request.fields:
        texts.setdefault(name, []).append(value)
    answer = httpx2.request(
        request.method,
        request.url,
        headers=request.headers,
        content=request.body,
        data=texts or None,
        files=[(name, (path.name, path.read_bytes())) for name, path in request.files] or None,
        timeout=60,
        trust_env=False,
    )
    assert answer.is_success, f"{request.url}: {answer.status_code} {answer.text}"
    return answer.content


def run_curl(line: str) -> bytes:
    """Run a line in bash with curl itself, and return the body of the answer."""
    output = parse_curl(line).output
    command = line.replace("curl ", "curl -sS --noproxy '*' --fail-with-body ", 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout!r}{done.stderr!r}"
    return done.stdout if output is None else Path(output).read_bytes()
