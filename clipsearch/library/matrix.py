"""Matrix: how well each of some texts fits each of some images, as numbers and as a figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import numpy as np

from clipsearch._util.presenting import presenter
from clipsearch.heads.head import Head
from clipsearch.types import Failure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Images in rows, texts in columns, a cosine and a probability in each cell.

    >>> matrix = library.matrix(["a.jpg", "b.jpg"], ["a cat", "a dog"])
    >>> matrix.scores                   # float32 (2, 2)
    >>> matrix.best_text["/home/me/a.jpg"]
    >>> matrix.save("matrix.png")
    """

    paths: tuple[str, ...]
    texts: tuple[str, ...]
    """The texts, or the labels where these have prompts of their own."""
    scores: np.ndarray
    """float32 (images, texts): cosines."""
    probabilities: np.ndarray
    """float32 (images, texts), normalised as `normalisation` says."""
    normalisation: Literal["softmax", "sigmoid"]
    """softmax of logit_scale x cosine over the texts of each image: its row sums to 1, however
    badly all of them fit. For a model with a bias, its sigmoid, for each cell by itself."""
    model: str
    failures: tuple[Failure, ...] = ()
    """Images that were asked for and could not be read."""

    @classmethod
    def of(
        cls,
        head: Head,
        paths: Sequence[str],
        vectors: np.ndarray,
        *,
        failures: Sequence[Failure] = (),
    ) -> Self:
        """Compare the unit vectors (n, dim) of images with the rows of a head."""
        scores = head.scores(vectors)
        return cls(
            paths=tuple(paths),
            texts=head.labels,
            scores=scores,
            probabilities=head.probabilities(scores),
            normalisation="softmax" if head.logit_bias is None else "sigmoid",
            model=head.model,
            failures=tuple(failures),
        )

    @property
    def best_text(self) -> dict[str, str]:
        """The text that fits each image best."""
        best = self.scores.argmax(axis=1).tolist()
        return {path: self.texts[j] for path, j in zip(self.paths, best, strict=True)}

    @property
    def best_image(self) -> dict[str, str]:
        """The path of the image that fits each text best."""
        best = self.scores.argmax(axis=0).tolist()
        return {text: self.paths[i] for text, i in zip(self.texts, best, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch matrix`."""
        best = self.best_text
        return {
            "model": self.model,
            "normalisation": self.normalisation,
            "texts": list(self.texts),
            "images": [
                {
                    "path": path,
                    "best_text": best[path],
                    "scores": scores.tolist(),
                    "probabilities": probabilities.tolist(),
                }
                for path, scores, probabilities in zip(
                    self.paths, self.scores, self.probabilities, strict=True
                )
            ],
            "best_images": self.best_image,
            "failures": [{"path": f.path, "reason": f.reason} for f in self.failures],
        }

    # --- shown -----------------------------------------------------------------------------

    def figure(self, *, probabilities: bool = False) -> Figure:
        """Draw the matrix: thumbnails above, captions at the left, values in the cells.

        probabilities: show these instead of cosines. Raises FigureTooLarge for more rows or
        columns than a person can read.
        """
        return cast("Figure", presenter().figure(self, probabilities=probabilities))

    def save(self, path: str | os.PathLike[str], *, probabilities: bool = False) -> None:
        """Write the figure as PNG, SVG or PDF. Raises BadFigureFile for another suffix."""
        presenter().save(self, path, probabilities=probabilities)

    def _repr_png_(self) -> bytes | None:
        return presenter().png(self)
