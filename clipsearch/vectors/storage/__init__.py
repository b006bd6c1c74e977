"""Vectors on disk: files of named sections, and rows of float16 numbers in them."""
