"""The search page in a real browser: it finds, compares and classifies, by mouse and by keyboard."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import chromium
import pytest
from conftest import ToyEncoder
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from serving import running
from toy_scores import use

from clipsearch.library import Library
from clipsearch.serve.service import Service
from clipsearch.types import NONE

pytestmark = pytest.mark.browser

WAIT = 60_000.0
"""Milliseconds: machines that test are busy."""
expect.set_options(timeout=WAIT)


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    # Its sandbox does not work for root, as whom machines that test often run.
    arguments = ["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        choice = chromium.choose_here(request.config.cache.mkdir("browser"), own)
        if choice.reason:
            (pytest.skip if chromium.may_leave_out(dict(os.environ)) else pytest.fail)(
                choice.reason
            )
        started = playwright.chromium.launch(
            executable_path=choice.executable, args=arguments, timeout=2 * WAIT
        )
        yield started
        started.close()


@pytest.fixture
def library(
    tmp_path: Path, toy_encoder: ToyEncoder, make_images: Callable[..., list[Path]]
) -> Iterator[Library]:
    # Cosines of the toy vary six times as much as those of a real model.
    toy_encoder.info = replace(toy_encoder.info, logit_scale=20.0)
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        made.index([make_images(14)[0].parent])
        yield made


@pytest.fixture
def address(library: Library) -> Iterator[str]:
    service = Service(library)
    service.warm()
    with running(service) as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """Open the page; whatever it complains of, or loads from elsewhere, fails the test."""
    opened = browser.new_page()
    opened.set_default_timeout(WAIT)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda m: complaints.append(m.text) if _is_complaint(m) else None)
    opened.on(
        "request",
        lambda r: (
            None if r.url.startswith((address, "blob:", "data:")) else complaints.append(r.url)
        ),
    )
    opened.goto(address)
    yield opened
    opened.close()
    assert complaints == []


def _is_complaint(message: ConsoleMessage) -> bool:
    # That a question was refused (status 400) is written by the browser itself.
    return message.type in ("error", "warning") and "status of 400" not in message.text


def search(page: Page, words: str) -> None:
    page.fill("#words", words)
    page.keyboard.press("Enter")
    expect(page.locator("#say")).to_contain_text("shown")


def names(page: Page) -> list[str]:
    return page.locator("#grid .name").all_text_contents()


def drawn(page: Page) -> int:
    """Return how many images of the grid can really be loaded and decoded."""
    load = "i => { i.loading = 'eager'; return i.decode().then(() => i.naturalWidth > 0); }"
    all_ = (
        f"images => Promise.all(images.map({load})).then(loaded => loaded.filter(Boolean).length)"
    )
    found: int = page.locator("#grid img").evaluate_all(all_)
    return found


@pytest.mark.slow
def test_a_search_shows_the_images_that_the_library_finds(page: Page, library: Library) -> None:
    expect(page.locator("#library")).to_have_text("14 images · toy")
    search(page, "a red square")
    hits = library.search("a red square", k=14)
    assert names(page) == [Path(hit.path).name for hit in hits]
    shares = page.locator("#grid .number").all_text_contents()
    assert [float(s.removesuffix(" %")) for s in shares] == pytest.approx(
        [100 * (hit.relevance or 0) for hit in hits], abs=0.51
    )
    assert drawn(page) == 14
    assert page.title().startswith("a red square")


@pytest.mark.slow
def test_a_filter_counts_and_a_wrong_one_is_explained(page: Page, library: Library) -> None:
    page.fill("[name=where]", 'name < "0003"')
    search(page, "x")
    assert sorted(names(page)) == ["0000.png", "0001.png", "0002.png"]
    page.fill("[name=where]", "widht > 3")
    page.keyboard.press("Enter")
    expect(page.locator("#say")).to_contain_text("Did you mean `width`?")
    expect(page.locator("#grid li")).to_have_count(0)


@pytest.mark.slow
def test_similar_images_are_found_and_back_leads_back(page: Page, library: Library) -> None:
    search(page, "x")
    first = library.search("x", k=1)[0].path
    page.locator("#grid figure").first.hover()
    page.locator("#grid .similar").first.click()
    expect(page).to_have_url(re.compile(r"like="))
    similar = [Path(hit.path).name for hit in library.similar(first, k=13)]
    expect(page.locator("#grid li")).to_have_count(13)
    assert names(page) == similar
    page.go_back()
    expect(page.locator("#grid li")).to_have_count(14)
    expect(page.locator("#words")).to_have_value("x")


@pytest.mark.slow
def test_an_image_of_ones_own_is_searched_by(
    page: Page, library: Library, make_images: Callable[..., list[Path]]
) -> None:
    (mine,) = make_images(1, folder="mine", seed=4)
    page.set_input_files("#file", mine)
    expect(page.locator("#grid li")).to_have_count(14)
    assert names(page) == [Path(hit.path).name for hit in library.similar(mine, k=14)]
    assert page.locator("#image img").evaluate("i => i.decode().then(() => i.naturalWidth)") == 48


@pytest.mark.slow
def test_an_image_can_be_dropped(page: Page, library: Library) -> None:
    first = Path(library.search("x", k=1)[0].path)
    data = page.evaluate_handle(
        """async (address) => {
            const data = new DataTransfer();
            const bytes = await (await fetch(address)).blob();
            data.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            return data;
        }""",
        f"v1/image?path={first}",
    )
    page.dispatch_event("#ask", "dragenter", {"dataTransfer": data})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("#ask", "drop", {"dataTransfer": data})
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.locator("#grid li")).to_have_count(14)
    assert names(page)[0] == first.name


@pytest.mark.slow
def test_labels_are_counted_and_chosen(page: Page, library: Library) -> None:
    page.get_by_text("Classify", exact=True).click()
    page.fill("#words", "cat, dog")
    page.keyboard.press("Enter")
    expect(page.locator("#grid li")).to_have_count(14)
    labels = [one.label for one in library.classify(["cat", "dog"])]
    counts = {label: labels.count(label) for label in set(labels)}
    shown = page.locator("#counts button").all_text_contents()
    assert sorted(shown) == sorted(["all14", *(f"{name}{n}" for name, n in counts.items())])
    page.locator("#counts button").nth(1).click()
    expect(page.locator("#grid li")).to_have_count(max(counts.values()))


@pytest.mark.slow
def test_cards_say_how_likely_it_is_that_no_label_holds(page: Page, library: Library) -> None:
    use(library, 0.2, 1.0)
    page.get_by_text("Classify", exact=True).click()
    page.fill("#words", "cat, dog")
    page.keyboard.press("Enter")
    expect(page.locator("#grid li")).to_have_count(14)
    shown = {one.path: one for one in library.classify(["cat", "dog"])}
    for card in page.locator("#grid li").all():
        one = shown[card.locator(".name").get_attribute("title") or ""]
        likely = one.label != NONE and one.probability >= 0.5
        assert ("likely" in (card.get_attribute("class") or "").split()) == likely
        assert card.locator(".number").text_content() == f"{round(100 * one.probability)} %"
        others = [(x.label, x.probability) for x in one.labels if x.label != one.label]
        if one.label != NONE and (one.none or 0) > one.probability:
            others.insert(0, (NONE, one.none or 0))
        notes = [f"{label} {round(100 * p)} %" for label, p in others[:2]]
        assert card.locator(".note").text_content() == " · ".join(notes)


@pytest.mark.slow
def test_questions_are_answered_by_buttons_and_keys_and_fitted(
    page: Page, library: Library, browser: Browser
) -> None:
    expect(page.locator("#library")).to_have_text("14 images · toy")
    expect(page.get_by_text("Calibrate", exact=True)).to_be_hidden()  # this server only reads
    with running(Service(library, calibrates=True)) as address:
        asked = browser.new_page()
        asked.set_default_timeout(WAIT)
        asked.goto(address)
        asked.get_by_text("Calibrate", exact=True).click()
        asked.fill("#words", "cat")
        asked.keyboard.press("Enter")
        questions = library.calibration_questions(["cat"], 20)
        least = sorted(one.probability for one in questions)[7]
        place, shown = asked.locator("#asked-place"), asked.locator("#asked-image")
        for number, question in enumerate(questions[:12], 1):
            expect(place).to_have_text(f"{number} of 14")
            expect(asked.locator("#asked")).to_have_text("Does it show “cat”?")
            assert shown.get_attribute("alt") == Path(question.path).name
            assert shown.evaluate("i => i.decode().then(() => i.naturalWidth)") > 0
            holds = question.probability > least
            if number == 1:
                asked.get_by_role("button", name="Skip").click()
            elif number < 6:
                asked.get_by_role("button", name="Yes" if holds else "No").click()
            else:
                asked.keyboard.press("y" if holds else "n")
        expect(place).to_have_text("13 of 14")
        asked.keyboard.press("q")
        expect(asked.locator("#say")).to_contain_text("Fitted to 11 answers: mean squared error")
        expect(asked.locator("#asking")).to_be_hidden()
        asked.close()
    kept = {one.path: one.holds for one in library.answers()}
    assert kept == {one.path: one.probability > least for one in questions[1:12]}
    assert set(kept.values()) == {True, False}
    assert library.calibration().source == "fitted"


@pytest.mark.slow
def test_everything_can_be_done_by_keyboard(page: Page, library: Library) -> None:
    search(page, "x")
    hits = [Path(hit.path).name for hit in library.search("x", k=14)]
    page.locator("#grid .view").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#large-name")).to_have_text(hits[1])
    page.keyboard.press("ArrowRight")
    expect(page.locator("#large-name")).to_have_text(hits[2])
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator("#grid .view").nth(2)).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#words")).to_be_focused()


@pytest.mark.slow
def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    search(page, "x")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("#grid li").first.bounding_box()["width"] > 140  # type: ignore[index]
