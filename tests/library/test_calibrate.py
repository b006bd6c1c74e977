"""Questions about images of a library, answers that it keeps, and constants fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ToyEncoder

from clipsearch.calibration.cohort import CohortCalibration
from clipsearch.errors import LibraryError, QueryError, TooFewExamples, UnknownImage
from clipsearch.library import Library
from clipsearch.types import LabelAnswer, LabelQuestion

LABELS = ["cat", "dog", "bird"]


@pytest.fixture
def library(
    tmp_path: Path, toy_encoder: ToyEncoder, make_images: Callable[..., list[Path]]
) -> Iterator[Library]:
    # Cosines of the toy vary six times as much as those of a real model.
    toy_encoder.info = replace(toy_encoder.info, logit_scale=20.0)
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        made.index([make_images(40)[0].parent])
        yield made


def judge(questions: list[LabelQuestion], *, least: float = 0.2) -> list[LabelAnswer]:
    """Answer as somebody who finds that labels hold more often than the model says."""
    return [one.answer(one.probability > least) for one in questions]


def test_questions_are_about_images_of_the_library_each_once(library: Library) -> None:
    questions = library.calibration_questions(LABELS, 20)
    known = {record.path for record in library.records()}
    paths = [one.path for one in questions]
    assert len(paths) == len(set(paths)) == 20 and set(paths) <= known
    assert {one.label for one in questions} == set(LABELS)
    assert questions == library.calibration_questions(LABELS, 20)
    assert questions != library.calibration_questions(LABELS, 20, seed=1)
    assert (
        0 <= min(one.probability for one in questions) < max(one.probability for one in questions)
    )


def test_questions_keep_to_a_filter_and_to_a_head(library: Library) -> None:
    head = library.head(["a red square", "noise"])
    questions = library.calibration_questions(head, 20, where='name < "0005"')
    assert sorted(Path(one.path).name for one in questions) == [f"000{i}.png" for i in range(5)]
    assert {one.label for one in questions} <= set(head.labels)
    assert library.calibration_questions(LABELS, where="width > 9999") == []


def test_without_labels_those_that_are_saved_are_asked_about(library: Library) -> None:
    library.classify(library.head(["moon", "sun"]), mode="closed", save=True)
    assert {one.label for one in library.calibration_questions()} == {"moon", "sun"}


def test_without_any_labels_the_names_of_topics_are_asked_about(library: Library) -> None:
    names = {topic.names[0] for topic in library.topics(8)}
    asked = {one.label for one in library.calibration_questions(n=30)}
    assert asked and asked <= names


def test_answers_are_kept_a_yes_as_a_label_and_are_not_asked_again(library: Library) -> None:
    first, second, third = library.calibration_questions(["cat"], 3)
    library.save_answers([first.answer(True), second.answer(False)])
    library.save_answers([third.answer(True)])
    given = [first.answer(True), second.answer(False), third.answer(True)]
    assert library.answers() == sorted(given, key=lambda one: one.path)
    labelled = {record.path for record in library.records(where='label = "cat"')}
    assert labelled == {first.path, third.path}
    again = {one.path for one in library.calibration_questions(["cat"], 40)}
    assert len(again) == 37 and not again & {first.path, second.path, third.path}


def test_a_later_answer_replaces_an_earlier_one(library: Library) -> None:
    (question,) = library.calibration_questions(["cat"], 1)
    library.save_answers([question.answer(True)])
    library.save_answers([LabelAnswer(question.path, "dog", True)])
    library.save_answers([question.answer(False)])
    path = question.path
    assert library.answers() == [LabelAnswer(path, "cat", False), LabelAnswer(path, "dog", True)]
    record = library.record(path)
    assert record is not None and record.labels == ("dog",)


def test_answers_belong_to_the_image_wherever_its_file_is(library: Library) -> None:
    (question,) = library.calibration_questions(["cat"], 1)
    library.save_answers([question.answer(True)])
    moved = Path(question.path).with_name("moved.png")
    Path(question.path).rename(moved)
    library.index([moved.parent])
    assert library.answers() == [LabelAnswer(str(moved), "cat", True)]
    library.remove(moved)
    assert library.answers() == []


def test_an_answer_about_a_strange_image_is_refused_with_all_others(library: Library) -> None:
    (question,) = library.calibration_questions(["cat"], 1)
    with pytest.raises(UnknownImage):
        library.save_answers([question.answer(True), LabelAnswer("/none.png", "cat", True)])
    assert library.answers() == []


def test_answers_fit_the_constants_which_are_used_from_then_on(library: Library) -> None:
    answers = sorted(judge(library.calibration_questions(LABELS, 20)), key=lambda one: one.path)
    dry = library.calibrate(answers, dry_run=True)
    assert library.calibration().source == "assumed"
    library.save_answers(answers)
    found = library.calibrate(library.answers())
    assert isinstance(found.calibration, CohortCalibration)
    assert found.calibration.to_dict() == dry.calibration.to_dict()
    assert library.calibration().to_dict() == found.calibration.to_dict()
    assert (found.pairs, found.labels) == (20, tuple(sorted(LABELS)))
    assert found.after.brier < found.before.brier


def test_all_answers_alike_move_the_probabilities_their_way(library: Library) -> None:
    questions = library.calibration_questions(["cat"], 20)

    def offset(holds: bool) -> float:
        found = library.calibrate([one.answer(holds) for one in questions], dry_run=True)
        assert isinstance(found.calibration, CohortCalibration)
        return found.calibration.offset

    assert offset(False) < -1.25 < offset(True)


def test_answers_can_be_for_a_head_and_too_few_are_refused(library: Library) -> None:
    head = library.head(["cat", "dog"])
    answers = judge(library.calibration_questions(head, 20))
    found = library.calibrate([*answers, LabelAnswer("/none.png", "owl", True)], head=head)
    assert found.pairs == 20 and "/none.png" in found.warnings[0]
    assert library.calibration(head).source == "fitted"
    assert library.calibration().source == "assumed"
    with pytest.raises(TooFewExamples, match="there are 9"):
        library.calibrate(answers[:9])
    with pytest.raises(TooFewExamples, match="calibrate --ask 20"):
        library.calibrate([])
    with pytest.raises(QueryError, match=r"a list of LabelAnswer: not 'labels\.csv'"):
        library.calibrate(["labels.csv"])  # type: ignore[list-item]


def test_the_hint_is_given_once_and_not_where_nothing_is_assumed(library: Library) -> None:
    assert "`clipsearch calibrate --ask 20`" in library.calibration_hint()
    assert library.calibration_hint() == ""
    library.calibrate(judge(library.calibration_questions(LABELS, 20)))
    assert library.calibration_hint() == ""


def test_a_shipped_calibration_has_no_hint(tmp_path: Path) -> None:
    with Library.create(tmp_path / "mini", model="mini") as library:
        assert library.calibration().source == "shipped"
        assert library.calibration_hint() == ""


def test_a_library_that_cannot_be_written_gets_no_hint_and_no_error(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LibraryError(library.path, "the library cannot be written to.")

    with monkeypatch.context() as patch:
        patch.setattr("clipsearch.catalog.Catalog.set_meta", refuse)
        assert library.calibration_hint() == ""
    assert library.calibration_hint() != ""
