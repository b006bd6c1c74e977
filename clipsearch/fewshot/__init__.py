"""Few-shot learning on stored vectors: labelled images improve a zero-shot head.

- `methods`: linear probe, prototypes and Tip-Adapter, each starting from the rows of the text
- `cross_validation`: which method and strength, and what that brings; the learning curve
- `margin_sampling`: which images to label next

Arrays in, arrays out: no files, no model. `Library.learn` and `Library.suggest` are built on it.
"""
