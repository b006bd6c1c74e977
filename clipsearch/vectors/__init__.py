"""Nearest neighbours over unit rows."""
