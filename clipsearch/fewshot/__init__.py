"""Few-shot learning on stored vectors: images with labels improve a head made of text.

    task      labelled images beside the rows of text
    methods   probe, prototype and tip: each starts from the text and goes so far from it
    choose    which method, and how far, by cross-validation
    trial     what that brings, by cross-validation around it; the learning curve
    suggest   which images to label next

Arrays in, arrays out: no files, no model. `Library.learn` and `Library.suggest` are the ways in.
"""

from __future__ import annotations
