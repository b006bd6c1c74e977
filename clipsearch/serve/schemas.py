"""Requests of the HTTP API and of the tools for assistants: their fields, descriptions and limits.

Both front-ends validate by these models (pydantic), and `clipsearch.serve.service` answers them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from clipsearch.types import Mode
from clipsearch.types.options import MAX_CHARACTERS

DEFAULT_RESULTS, MAX_RESULTS = 10, 1000
"""Images in an answer, where the request does not say how many, and at most."""

_MAX_TERMS, _MAX_LABELS = 100, 1000


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


TextField = Annotated[str, Field(max_length=MAX_CHARACTERS)]
TextsField = Annotated[list[TextField], BeforeValidator(_as_list), Field(max_length=_MAX_TERMS)]
LabelsField = Annotated[
    Annotated[list[TextField], Field(max_length=_MAX_LABELS)]
    | Annotated[dict[TextField, TextsField], Field(max_length=_MAX_LABELS)],
    BeforeValidator(_as_list),
    Field(description="Labels, or label -> its own prompts."),
]
CountField = Annotated[
    int | None,
    Field(
        ge=1,
        le=MAX_RESULTS,
        description=f"How many images: {DEFAULT_RESULTS} by default, with relevant up to {MAX_RESULTS}.",
    ),
]
WhereField = Annotated[
    TextField | None, Field(description="Only images whose facts match, e.g. 'taken >= 2024-01'.")
]
UnderField = Annotated[TextField | None, Field(description="Only images in this folder and below.")]
RelevantField = Annotated[
    bool, Field(description="Only images that more likely than not are what you want.")
]
TruncateField = Annotated[
    bool, Field(description="Cut texts that are too long, instead of reading them in pieces.")
]
HeadNameField = Annotated[
    TextField | None, Field(description="A head that the server was started with, by its name.")
]
KnownPathField = Annotated[
    TextField, Field(description="An image of the library by its whole path, as results have it.")
]
SearchTextsField = Annotated[
    TextsField, Field(description="What to find; several terms combine, `2:horse` counts double.")
]
ExcludedField = Annotated[TextsField, Field(description="What the images should not show.")]
ImageTermsField = Annotated[
    TextsField,
    Field(description="Images of the library as terms: whole paths, also weighted `0.5:PATH`."),
]


class LibraryRequest(BaseModel):
    """What all requests have in common; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")

    where: WhereField = None
    under: UnderField = None


class SearchRequest(LibraryRequest):
    """A search by texts, images or a head."""

    text: SearchTextsField = Field(default_factory=list)
    exclude: ExcludedField = Field(default_factory=list)
    image: ImageTermsField = Field(default_factory=list)
    head: HeadNameField = None
    label: Annotated[TextField | None, Field(description="The label of the head to look for.")] = (
        None
    )
    k: CountField = None
    min_score: Annotated[float | None, Field(description="The smallest cosine.")] = None
    relevant: RelevantField = False
    truncate: TruncateField = False


class SimilarRequest(LibraryRequest):
    """The nearest neighbours of an image."""

    path: KnownPathField
    k: CountField = None
    relevant: RelevantField = False


class ClassifyRequest(LibraryRequest):
    """Labels for images: of the library, or those that come with the request."""

    labels: LabelsField = Field(default_factory=list)
    template: Annotated[TextsField, Field(description="Prompts with {}, or names of sets.")] = (
        Field(default_factory=list)
    )
    head: HeadNameField = None
    path: KnownPathField | None = None
    mode: Annotated[
        Mode,
        Field(description="open: one label or none; multi: each by itself; closed: one always."),
    ] = "open"
    threshold: Annotated[
        float | dict[str, float] | None,
        Field(description="With multi: the probability from which a label holds; 0.5 by default."),
    ] = None
    top: Annotated[int | None, Field(ge=1, description="Keep this many labels per image.")] = None
    min_probability: Annotated[float | None, Field(ge=0, le=1)] = None
    inductive: Annotated[
        bool, Field(description="Judge each image by itself, not among the library's.")
    ] = False
    k: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many images, by path.")] = (
        MAX_RESULTS
    )
    truncate: TruncateField = False


class QuestionsRequest(LibraryRequest):
    """Questions about images, to calibrate probabilities."""

    labels: Annotated[
        TextsField, Field(description="Labels to ask about; none: saved labels, or topics.")
    ] = Field(default_factory=list)
    n: Annotated[int, Field(ge=1, le=MAX_RESULTS, description="How many questions.")] = 20
    seed: Annotated[int, Field(ge=0, description="Another one makes another choice.")] = 0


class AnswerField(BaseModel):
    """Whether a label holds for an image of the library."""

    model_config = ConfigDict(extra="forbid")

    path: KnownPathField
    label: TextField
    holds: bool


class AnswersRequest(BaseModel):
    """Answers to questions."""

    model_config = ConfigDict(extra="forbid")

    answers: Annotated[list[AnswerField], Field(min_length=1, max_length=MAX_RESULTS)]


def parse_form(model: type[LibraryRequest], fields: Mapping[str, list[str]]) -> LibraryRequest:
    """Read a request from the fields of a form, of which each value is a text.

    Parameters
    ----------
    model
        The kind of request.
    fields
        Name -> the values given. A field that takes several values gets them all, another one the
        last.

    Returns
    -------
    The request.

    Raises
    ------
    pydantic.ValidationError
        An unknown field, or a value beyond the limits.
    """
    lists = {
        name
        for name, field in model.model_fields.items()
        if _as_list in [getattr(part, "func", None) for part in field.metadata]
    }
    return model.model_validate(
        {name: values if name in lists else values[-1] for name, values in fields.items()}
    )


# --- faults of a request ----------------------------------------------------------------------

_FAULTS = {
    "missing": "is missing",
    "extra_forbidden": "is no field of this request",
    "greater_than_equal": "has to be at least {ge}",
    "less_than_equal": "has to be at most {le}",
    "string_too_long": "has to be a text of at most {max_length} characters",
    "too_long": "has to hold at most {max_length} values",
    "too_short": "has to hold at least {min_length}",
    "literal_error": "has to be one of {expected}",
    "finite_number": "has to be a finite number",
    "string": "has to be a text",
    "int": "has to be a whole number",
    "float": "has to be a number",
    "bool": "has to be true or false",
    "list": "has to be a list",
    "dict": "has to be an object of names and values",
    "model": "has to be an object of names and values",
}
"""Type of a fault of pydantic, or how a family of them begins -> what it says of a field."""
_MOST_FAULTS = 5
_FIELD_NAME = re.compile(r"(?!(str|int|float|bool)$)\w+")


def describe_faults(faults: Sequence[Any]) -> str:
    """Name the faults of a request in plain words.

    Parameters
    ----------
    faults
        As `errors()` of pydantic returns them.

    Returns
    -------
    One line, as `k has to be at most 1000; count is no field of this request.`
    """
    said: dict[str, dict[str, None]] = {}
    for fault in faults:
        # Names of fields and places in lists, without those of pydantic for alternatives.
        parts = [p for p in fault["loc"] if isinstance(p, int) or _FIELD_NAME.fullmatch(p)]
        while len(parts) > 1 and parts[0] in ("body", "query", "path"):
            parts = parts[1:]
        name = ".".join(map(str, parts)) or "the request"
        kind = fault["type"]
        template = _FAULTS.get(kind) or _FAULTS.get(kind.partition("_")[0])
        text = (
            template.format(**fault.get("ctx", {})) if template else f"is refused: {fault['msg']}"
        )
        said.setdefault(name, {})[text] = None
    lines = [f"{name} {' or '.join(texts)}" for name, texts in said.items()]
    lines = [line.replace(" or has to be ", " or ") for line in lines]
    return "; ".join(lines[:_MOST_FAULTS]) + "."
