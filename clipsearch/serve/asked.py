"""What may be asked of a server, in which words and within which limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from clipsearch.serve.service import COUNT, MOST
from clipsearch.types import Mode

LONGEST = 20_000
"""Characters of one text: several pages."""
TERMS, LABELS = 100, 1000


def _several(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Text = Annotated[str, Field(max_length=LONGEST)]
Texts = Annotated[list[Text], BeforeValidator(_several), Field(max_length=TERMS)]
Labels = Annotated[
    Annotated[list[Text], Field(max_length=LABELS)]
    | Annotated[dict[Text, Texts], Field(max_length=LABELS)],
    BeforeValidator(_several),
    Field(description="Labels, or label -> its own prompts."),
]
Count = Annotated[
    int | None,
    Field(
        ge=1,
        le=MOST,
        description=f"How many images: {COUNT} unless told, with relevant up to {MOST}.",
    ),
]
Where = Annotated[
    Text | None, Field(description="Only images whose facts fit, e.g. 'taken >= 2024-01'.")
]
Under = Annotated[Text | None, Field(description="Only images in this folder and below.")]
Relevant = Annotated[
    bool, Field(description="Only images that more likely than not are what you want.")
]
Truncate = Annotated[
    bool, Field(description="Cut texts that are too long, instead of reading them in pieces.")
]
HeadName = Annotated[
    Text | None, Field(description="A head that the server was started with, by its name.")
]
KnownPath = Annotated[
    Text, Field(description="An image of the library by its whole path, as results have it.")
]
SearchTexts = Annotated[
    Texts, Field(description="What to find; several terms combine, `2:horse` counts double.")
]
Excluded = Annotated[Texts, Field(description="What the images should not show.")]
Images = Annotated[
    Texts,
    Field(description="Images of the library as terms: whole paths, also weighted `0.5:PATH`."),
]


class Asked(BaseModel):
    """What all questions have in common; a word that is not known is an error."""

    model_config = ConfigDict(extra="forbid")

    where: Where = None
    under: Under = None

    def given(self) -> dict[str, Any]:
        """Return what was said, by the names that `Service` has for it."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class SearchAsked(Asked):
    """A search by words, images or a head."""

    text: SearchTexts = Field(default_factory=list)
    exclude: Excluded = Field(default_factory=list)
    image: Images = Field(default_factory=list)
    head: HeadName = None
    label: Annotated[Text | None, Field(description="The label of the head to look for.")] = None
    k: Count = None
    min_score: Annotated[float | None, Field(description="The smallest cosine.")] = None
    relevant: Relevant = False
    truncate: Truncate = False


class SimilarAsked(Asked):
    """The neighbours of an image."""

    path: KnownPath
    k: Count = None
    relevant: Relevant = False


class ClassifyAsked(Asked):
    """Labels for images: of the library, or those that come with the request."""

    labels: Labels = Field(default_factory=list)
    template: Annotated[Texts, Field(description="Prompts with {}, or names of sets.")] = Field(
        default_factory=list
    )
    head: HeadName = None
    path: KnownPath | None = None
    mode: Annotated[
        Mode,
        Field(description="open: one label or none; multi: each by itself; closed: one always."),
    ] = "open"
    threshold: Annotated[
        float | dict[str, float] | None,
        Field(description="With multi: the probability from which a label holds, else 0.5."),
    ] = None
    top: Annotated[int | None, Field(ge=1, description="Keep so many labels an image.")] = None
    min_probability: Annotated[float | None, Field(ge=0, le=1)] = None
    k: Annotated[int, Field(ge=1, le=MOST, description="How many images, by path.")] = MOST
    truncate: Truncate = False


def from_fields(model: type[Asked], fields: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the fields of a form, of which each value is a text, as `model` takes them.

    A field that may be said several times is a list; of the others the last one counts.
    """
    many = {
        name
        for name, field in model.model_fields.items()
        if _several in [getattr(m, "func", None) for m in field.metadata]
    }
    return {name: said if name in many else said[-1] for name, said in fields.items()}
