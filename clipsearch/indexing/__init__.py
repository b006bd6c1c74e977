"""Folders in, embeddings out."""
