"""Embeddings that were made elsewhere, and images embedded by many machines."""
