"""Few-shot learning on stored vectors: labelled images improve a zero-shot head.

- `methods`: linear probe, prototypes and Tip-Adapter, each starting from the rows of the text; and
  margin sampling, which images to label next
- `cross_validation`: which method and strength, and what that brings; the learning curve

Arrays in, arrays out: no files, no model. `Library.learn` and `Library.suggest` are built on it.
"""
