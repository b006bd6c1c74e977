"""Helpers below every package: arrays, files that are replaced in one step, threads."""
