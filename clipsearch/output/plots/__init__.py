"""Figures: one file a figure, each a function of plain numbers; `base` holds the common style."""
