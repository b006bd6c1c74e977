"""Texts of any length become vectors."""
