"""Files of vectors on disk."""
