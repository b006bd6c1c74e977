"""Heads: queries and label sets as unit rows in the embedding space."""
