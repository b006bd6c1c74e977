"""The HTTP API: its answers are those of the library, its errors clear, its files the library's."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from conftest import ToyEncoder
from curl_lines import parse_curl, run_curl, send
from fastapi.testclient import TestClient
from serving import client, running

import clipsearch
from clipsearch import errors
from clipsearch.encoders import list_models
from clipsearch.heads.head import Head
from clipsearch.library import Library
from clipsearch.output.formats import write_value
from clipsearch.serve import guard
from clipsearch.serve.service import Service
from clipsearch.types import Results, Term

Make = Callable[..., list[Path]]
SAMPLES = Path(clipsearch.__file__).with_name("samples")


@pytest.fixture
def paths(make_images: Make) -> list[Path]:
    return make_images(12)


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder, paths: list[Path]) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        made.index([paths[0].parent])
        yield made


@pytest.fixture
def service(library: Library) -> Service:
    return Service(library, {"pets": library.head(["cat", "dog"])})


@pytest.fixture
def http(service: Service) -> TestClient:
    return client(service)


def as_the_command_line_writes(results: Results) -> Any:
    stream = io.StringIO()
    write_value(results, "hits", "json", stream)
    return json.loads(stream.getvalue())


def found(response: Any) -> list[tuple[str, float]]:
    assert response.status_code == 200, response.text
    return [(one["path"], one["score"]) for one in response.json()["results"]]


# --- calibration ---------------------------------------------------------------------------


def test_questions_are_those_of_the_library(http: TestClient, library: Library) -> None:
    asked: dict[str, Any] = {"labels": ["cat", "dog"], "n": 5, "where": 'name < "0008"', "seed": 3}
    answer = http.get("/v1/questions", params=asked)
    expected = library.calibration_questions(["cat", "dog"], 5, where='name < "0008"', seed=3)
    assert answer.json() == {"questions": [one.to_dict() for one in expected]}
    assert len(expected) == 5


def test_answers_are_kept_and_fitted_where_the_server_may(library: Library) -> None:
    http = client(Service(library, calibrates=True))
    questions = http.get("/v1/questions", params={"labels": "cat", "n": 12}).json()["questions"]
    answers = [
        {"path": one["path"], "label": "cat", "holds": one["probability"] > 0.2}
        for one in questions
    ]
    assert http.post("/v1/answers", json={"answers": answers[:3]}).json() == {"answers": 3}
    few = http.post("/v1/calibrate")
    assert (few.status_code, few.json()["error"]) == (400, "TooFewExamples")
    assert http.post("/v1/answers", json={"answers": answers[3:]}).json() == {"answers": 12}
    assert [one.to_dict() for one in library.answers()] == sorted(answers, key=lambda a: a["path"])
    fitted = http.post("/v1/calibrate").json()
    assert fitted["pairs"] == 12
    assert fitted["calibration"] == library.calibration().to_dict()
    status = http.get("/v1/status").json()
    assert (status["calibration"], status["calibrates"]) == ("fitted", True)


def test_a_server_that_only_reads_refuses_answers(http: TestClient, library: Library) -> None:
    answer = {"path": library.records()[0].path, "label": "cat", "holds": True}
    for refused in (
        http.post("/v1/answers", json={"answers": [answer]}),
        http.post("/v1/calibrate"),
    ):
        assert (refused.status_code, refused.json()["error"]) == (403, "NotAllowed")
        assert "serve --calibrate" in refused.json()["message"]
    assert library.answers() == [] and library.calibration().source == "assumed"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"answers": [{"path": "/none.png", "label": "cat", "holds": True}]}, 404),
        ({"answers": []}, 422),
        ({"answers": [{"path": "/none.png", "label": "cat"}]}, 422),
        ({"answers": [{"path": "/a", "label": "b", "holds": True, "more": 1}]}, 422),
    ],
)
def test_answers_that_say_nothing_are_refused(library: Library, body: Any, status: int) -> None:
    assert client(Service(library, calibrates=True)).post("/v1/answers", json=body).status_code == (
        status
    )


# --- search --------------------------------------------------------------------------------


def test_a_search_answers_what_the_library_does(http: TestClient, library: Library) -> None:
    answer = http.get("/v1/search", params={"text": "a red square", "k": 5})
    expected = library.search("a red square", k=5)
    assert len(expected) == 5
    assert answer.json() == {
        "results": as_the_command_line_writes(expected),
        "relevant": expected.relevant,
        "searched": 12,
        "warnings": [],
    }
    assert answer.headers["content-type"] == "application/json"


def test_every_option_of_a_search_counts(
    http: TestClient, library: Library, paths: list[Path]
) -> None:
    each: tuple[dict[str, Any], ...] = (
        {"text": ["2:horse", "snow"], "exclude": ["rain"]},
        {"text": ["horse"], "image": [f"0.5:{paths[3]}"]},
        {"text": ["horse"], "where": f'name in ("{paths[4].name}", "{paths[7].name}")'},
        {"text": ["horse"], "under": str(paths[5])},
        {"text": ["horse"], "min_score": 0.05},
        {"text": ["horse"], "relevant": True},
        {"text": ["horse " * 90], "truncate": True},
    )
    for options in each:
        own = dict(options)
        images = own.pop("image", ())
        expected = library.search(own.pop("text"), images=images, k=12, **own)
        same = [(hit.path, hit.score) for hit in expected]
        assert found(http.get("/v1/search", params={**options, "k": 12})) == same
        assert found(http.post("/v1/search", json={**options, "k": 12})) == same


def test_ten_images_come_unless_told(http: TestClient) -> None:
    assert len(found(http.get("/v1/search", params={"text": "x"}))) == 10
    assert len(found(http.post("/v1/search", json={"text": "x", "k": None}))) == 10
    assert len(found(http.post("/v1/search", json={"text": "x", "k": 11}))) == 11


def test_an_image_can_be_sent_with_words(
    http: TestClient, library: Library, tmp_path: Path, make_images: Make
) -> None:
    (other,) = make_images(1, folder="other", seed=5)
    answer = http.post(
        "/v1/search",
        data={"text": ["horse", "2:snow"], "k": "4"},
        files={"upload": ("C:\\photos\\other.png", other.read_bytes())},
    )
    expected = library.search(["horse", "2:snow"], images=[Term.image(str(other))], k=4)
    assert [path for path, _ in found(answer)] == [hit.path for hit in expected]
    assert [score for _, score in found(answer)] == pytest.approx([hit.score for hit in expected])


def test_what_is_sent_and_is_no_image_is_named_as_its_sender_does(http: TestClient) -> None:
    answer = http.post("/v1/search", files={"upload": ("../../notes.txt", b"no image")})
    assert (answer.status_code, answer.json()["error"]) == (422, "UnreadableImage")
    assert answer.json()["message"].startswith("notes.txt: not an image")


def test_a_head_is_searched_by_its_name(http: TestClient, library: Library) -> None:
    head = library.head(["cat", "dog"])
    answer = http.get("/v1/search", params={"head": "pets", "label": "dog", "k": 3})
    assert found(answer) == [(h.path, h.score) for h in library.search(head, label="dog", k=3)]
    unknown = http.get("/v1/search", params={"head": "/etc/passwd"})
    assert unknown.status_code == 400 and "There are: pets" in unknown.json()["message"]


def test_neighbours_are_those_of_the_library(
    http: TestClient, library: Library, paths: list[Path]
) -> None:
    answer = http.get("/v1/similar", params={"path": str(paths[2]), "k": 4})
    expected = library.similar(paths[2], k=4)
    assert answer.json()["results"] == as_the_command_line_writes(expected)
    assert str(paths[2]) not in [path for path, _ in found(answer)]


def test_what_is_indexed_meanwhile_is_found(
    http: TestClient, library: Library, make_images: Make
) -> None:
    assert len(found(http.get("/v1/search", params={"text": "x", "k": 50}))) == 12
    (new,) = make_images(1, folder="new", seed=3)
    library.index([new.parent])
    again = found(http.get("/v1/search", params={"text": "x", "k": 50}))
    assert len(again) == 13 and str(new) in [path for path, _ in again]


def test_many_ask_at_once_and_each_gets_the_right_answer(service: Service) -> None:
    service.warm()
    texts = [f"image number {n}" for n in range(24)]
    with running(service) as address:
        import httpx2

        def ask(text: str) -> list[str]:
            answer = httpx2.get(f"{address}/v1/search", params={"text": text, "k": 3}, timeout=60)
            return [path for path, _ in found(answer)]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, texts))
    assert answers == [[h.path for h in service.library.search(text, k=3)] for text in texts]


# --- classify ------------------------------------------------------------------------------


def test_a_classification_answers_what_the_library_does(http: TestClient, library: Library) -> None:
    answer = http.post("/v1/classify", json={"labels": ["cat", "dog"], "mode": "closed"}).json()
    expected = library.classify(["cat", "dog"], mode="closed")
    assert answer["results"] == as_the_command_line_writes(expected)
    assert answer["total"] == 12
    labels = [one.label for one in expected]
    assert answer["counts"] == {label: labels.count(label) for label in set(labels)}


def test_every_option_of_a_classification_counts(http: TestClient, library: Library) -> None:
    for options in (
        {"labels": {"cat": ["a kitten", "a tomcat"], "dog": []}},
        {"labels": ["cat", "dog", "cow"], "mode": "multi", "threshold": 0.1},
        {"labels": ["cat", "dog"], "mode": "multi", "threshold": {"cat": 0.9, "dog": 0.05}},
        {"labels": ["cat", "dog", "cow"], "top": 2},
        {"labels": ["cat", "dog"], "mode": "closed", "min_probability": 0.6},
        {"labels": ["cat", "dog"], "where": 'name > "0004"'},
    ):
        labels, *_ = [options.pop("labels")]  # type: ignore[call-overload]
        expected = library.classify(labels, **options)  # type: ignore[arg-type]
        answer = http.post("/v1/classify", json={"labels": labels, **options}).json()
        assert answer["results"] == as_the_command_line_writes(expected)
    templates = ["a drawing of a {}.", "plain"]
    head = library.head(["cat", "dog"], templates=["a drawing of a {}.", "{}"])
    answer = http.post("/v1/classify", json={"labels": ["cat", "dog"], "template": templates})
    assert answer.json()["results"] == as_the_command_line_writes(library.classify(head))


def test_few_are_listed_and_all_are_counted(http: TestClient) -> None:
    answer = http.post("/v1/classify", json={"head": "pets", "mode": "closed", "k": 2}).json()
    assert (len(answer["results"]), answer["total"], sum(answer["counts"].values())) == (2, 12, 12)


def test_one_image_is_classified_by_its_path_or_when_sent(
    http: TestClient, library: Library, paths: list[Path]
) -> None:
    (expected,) = library.classify(["cat", "dog"], under=paths[6])
    question = {"labels": ["cat", "dog"]}
    known = http.post("/v1/classify", json={**question, "path": str(paths[6])}).json()["results"]
    assert known == [expected.to_dict()]
    sent = http.post(
        "/v1/classify", data=question, files={"upload": ("mine.png", paths[6].read_bytes())}
    ).json()["results"]
    assert sent[0]["path"] == "mine.png"
    assert sent[0]["probability"] == pytest.approx(expected.probability, abs=0.01)


# --- the library ---------------------------------------------------------------------------


def test_status_and_models_are_those_of_the_command_line(
    http: TestClient, library: Library
) -> None:
    more = {"heads": {"pets": ["cat", "dog"]}, "calibration": "assumed", "calibrates": False}
    status = json.loads(json.dumps(library.status().to_dict()))
    assert http.get("/v1/status").json() == {**status, **more}
    assert http.get("/v1/models").json() == list_models()
    assert {"mini", "default"} <= {one["name"] for one in list_models()}


def test_the_details_of_an_image_are_texts_with_labels(http: TestClient, paths: list[Path]) -> None:
    answer = http.get("/v1/details", params={"path": str(paths[0])})
    assert answer.json() == {"details": [{"label": "Format", "text": "PNG"}]}
    assert http.get("/v1/details", params={"path": "/not/known.png"}).status_code == 404


def test_thumbnails_are_made_to_size_and_not_sent_twice(
    http: TestClient, tmp_path: Path, library: Library
) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    PIL.Image.new("RGB", (400, 200), "red").save(folder / "red.png")
    library.index([folder])
    question: Any = {"path": str(folder / "red.png"), "size": 100}
    answer = http.get("/v1/image", params=question)
    with PIL.Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("JPEG", (100, 50))
        assert image.getpixel((50, 25)) == pytest.approx((254, 0, 0), abs=3)
    again = http.get(
        "/v1/image", params=question, headers={"if-none-match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    PIL.Image.new("RGB", (400, 200), "blue").save(folder / "red.png")
    changed = http.get("/v1/image", params=question)
    assert changed.headers["etag"] != answer.headers["etag"]


def test_an_image_is_sent_as_it_was_indexed(http: TestClient, paths: list[Path]) -> None:
    answer = http.get("/v1/image", params={"path": str(paths[0])})
    assert answer.content == paths[0].read_bytes()
    assert answer.headers["content-type"] == "image/png"
    paths[0].write_bytes(paths[1].read_bytes())
    changed = http.get("/v1/image", params={"path": str(paths[0])})
    assert changed.status_code == 422 and "has changed" in changed.json()["message"]
    paths[0].unlink()
    for size in ({}, {"size": 64}):
        gone = http.get("/v1/image", params={"path": str(paths[0]), **size})
        assert (gone.status_code, gone.json()["error"]) == (422, "UnreadableImage")


@pytest.mark.parametrize("size", [None, 64])
def test_no_other_file_is_sent(http: TestClient, paths: list[Path], size: int | None) -> None:
    (paths[0].parent / "secret.txt").write_text("secret", "utf-8")
    unknown = paths[0].with_name("unknown.png")
    unknown.write_bytes(paths[0].read_bytes())
    asked = ["/etc/passwd", str(unknown), str(paths[0].parent / "secret.txt"), paths[0].name]
    asked += [f"{paths[0]}\0.png", f"{paths[0]}/../secret.txt", f"file://{paths[0]}", "~", ""]
    for path in asked:
        question: Any = {"path": path} if size is None else {"path": path, "size": size}
        answer = http.get("/v1/image", params=question)
        assert (answer.status_code, answer.json()["error"]) == (404, "UnknownImage"), path
        assert http.get("/v1/similar", params={"path": path}).status_code == 404
        assert http.post("/v1/classify", json={"head": "pets", "path": path}).status_code == 404


def test_no_other_file_is_a_term(http: TestClient, paths: list[Path]) -> None:
    unknown = paths[0].parent.parent / "unknown.png"
    unknown.write_bytes(paths[0].read_bytes())
    for image in (str(unknown), f"2:{unknown}", "/etc/passwd"):
        answer = http.get("/v1/search", params={"image": image})
        assert (answer.status_code, answer.json()["error"]) == (404, "UnknownImage")
    # A label's prompt is a text, whatever it looks like.
    prompts = {"labels": {"a": [f"image:{unknown}"], "b": ["b"]}, "mode": "closed"}
    assert http.post("/v1/classify", json=prompts).status_code == 200


# --- what cannot be answered ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "status", "error", "words"),
    [
        ({}, 400, "EmptyQuery", "the query is empty"),
        ({"text": "x", "where": "widht > 3"}, 400, "BadFilter", "Did you mean `width`"),
        ({"text": "0:x"}, 400, "BadTerm", "other than 0"),
        ({"text": "x", "k": 0}, 422, "BadRequest", "k has to be at least 1."),
        ({"text": "x", "k": 1001}, 422, "BadRequest", "k has to be at most 1000."),
        ({"text": "x", "k": "many"}, 422, "BadRequest", "k has to be a whole number."),
        ({"text": "x", "count": 3}, 422, "BadRequest", "count is no field of this request."),
        ({"text": "x" * 20_001}, 422, "BadRequest", "text of at most 20000 characters."),
        ({"text": ["x"] * 101}, 422, "BadRequest", "text has to hold at most 100 values."),
        ({"text": "x", "head": "pets"}, 400, "QueryError", "leave out"),
        ({"text": "x", "label": "cat"}, 400, "QueryError", "that of a head"),
    ],
)
def test_a_bad_question_is_told_so(
    http: TestClient, question: dict[str, Any], status: int, error: str, words: str
) -> None:
    for answer in (
        http.get("/v1/search", params=question),
        http.post("/v1/search", json=question),
        http.post("/v1/search", data={k: v if isinstance(v, list) else str(v) for k, v in question.items()} or {"text": " "}),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["error"]) == (status, error), answer.text
        assert words in answer.json()["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"text": "\\ud800"}', b'"x"', b"\xff"])
def test_a_body_that_is_no_question_is_told_so(http: TestClient, body: bytes) -> None:
    for url in ("/v1/search", "/v1/classify"):
        answer = http.post(url, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.json()["error"] in ("QueryError", "BadRequest")


def test_labels_and_a_head_are_one_too_many(http: TestClient, paths: list[Path]) -> None:
    for question in ({}, {"labels": ["cat"], "head": "pets"}):
        answer = http.post("/v1/classify", json=question)
        assert (answer.status_code, answer.json()["error"]) == (400, "QueryError")
    answer = http.post(
        "/v1/classify",
        data={"head": "pets", "where": "width > 1"},
        files={"upload": ("a.png", paths[0].read_bytes())},
    )
    assert answer.status_code == 400 and "not both" in answer.json()["message"]


def test_a_body_that_is_too_large_is_refused_at_once(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, paths: list[Path]
) -> None:
    monkeypatch.setattr(guard, "_MAX_REQUEST_BYTES", 1000)
    told = http.post("/v1/search", files={"upload": ("a.png", b"x" * 2000)})
    assert (told.status_code, told.json()["error"]) == (413, "ImageTooLarge")

    def pieces() -> Iterator[bytes]:  # sent without saying how much there will be
        yield from (b"x" * 100 for _ in range(50))

    untold = http.post("/v1/search", content=pieces(), headers={"content-type": "application/json"})
    assert (untold.status_code, untold.json()["error"]) == (413, "ImageTooLarge")


def test_what_is_not_there_and_what_breaks_is_json_too(
    http: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert http.get("/v1/nothing").json()["error"] == "NotFound"
    assert http.delete("/v1/search").json()["error"] == "MethodNotAllowed"

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(Library, "search", broken)
    answer = http.get("/v1/search", params={"text": "x"})
    assert (answer.status_code, answer.json()["error"]) == (500, "Defect")
    assert "secret" not in answer.text and "Traceback" not in answer.text


def test_errors_of_the_library_have_their_status(
    http: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for error, status in (
        (errors.LibraryLocked(tmp_path), 503),
        (errors.LibraryCorrupt(tmp_path, "damaged"), 500),
        (errors.ModelUnavailable("x", "gone", "fetch it"), 503),
    ):

        def failing(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(Library, "search", failing)
        answer = http.get("/v1/search", params={"text": "x"})
        assert answer.status_code == status
        assert answer.json() == {"error": type(error).__name__, "message": str(error)}


# --- description, page, start --------------------------------------------------------------


def test_the_api_describes_itself_without_other_servers(http: TestClient) -> None:
    described = http.get("/v1/openapi.json").json()
    assert set(described["paths"]) == {
        f"/v1/{name}"
        for name in (
            *("search", "similar", "classify", "status", "models", "details", "image"),
            *("questions", "answers", "calibrate"),
        )
    }
    names = {p["name"] for p in described["paths"]["/v1/search"]["get"]["parameters"]}
    assert {"text", "exclude", "image", "k", "where", "under", "min_score", "relevant"} <= names
    body = described["paths"]["/v1/search"]["post"]["requestBody"]["content"]
    assert "upload" in body["multipart/form-data"]["schema"]["properties"]
    assert http.get("/docs").status_code == http.get("/redoc").status_code == 404


def test_the_page_is_served_and_loads_nothing_from_elsewhere(http: TestClient) -> None:
    kinds = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}
    kinds["/calibrate.js"] = "text/javascript"
    assert http.get("/other.js").status_code == http.get("/v1/page.js").status_code == 404
    for path, kind in kinds.items():
        answer = http.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        others = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in others and "https:" not in others
        assert "innerHTML" not in others
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy
        assert "unsafe" not in policy and answer.headers["x-content-type-options"] == "nosniff"


def test_a_server_is_warm_before_it_answers(service: Service, toy_encoder: ToyEncoder) -> None:
    service.warm()
    other = Head(("a",), [[1.0] + [0.0] * 31], ((),), "other", "f", 1.0)  # type: ignore[arg-type]
    with pytest.raises(errors.ModelMismatch):
        Service(service.library, {"other": other}).warm()


def test_sha256_of_results_is_that_of_the_file(http: TestClient, paths: list[Path]) -> None:
    first = http.get("/v1/search", params={"text": "x", "k": 1}).json()["results"][0]
    assert first["sha256"] == hashlib.sha256(Path(first["path"]).read_bytes()).hexdigest()


@pytest.mark.slow
def test_every_request_of_the_documentation_is_answered(
    toy_encoder: ToyEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    for number in range(12):
        shutil.copy(SAMPLES / f"scene-{number:03}.webp", tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    pages = sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))
    text = "\n".join(page.read_text("utf-8") for page in pages)
    lines = re.findall(r"^curl .*$", text, re.MULTILINE)
    assert len(lines) >= 10
    curl = shutil.which("curl")
    assert curl or not os.environ.get("CI"), "on a build server nothing is left out: install curl"
    with Library.create(tmp_path / "library", encoder=toy_encoder) as library:
        library.index(["images"])
        with running(Service(library, calibrates=True)) as address:
            for line in lines:
                line = line.replace("http://127.0.0.1:8417", address)
                answer = send(parse_curl(line))
                if curl:
                    assert run_curl(line) == answer, f"{line}\nis not read as curl reads it"
                if "-o small.jpg" in line:
                    with PIL.Image.open(io.BytesIO(answer)) as image:
                        assert image.size == (128, 128)
                    continue
                value = json.loads(answer)
                unsure = "relevant=true" in line  # random vectors may have nothing relevant
                found = value.get("results") or value.get("questions") or value.get("answers")
                assert unsure or found or value["files"] == 12
