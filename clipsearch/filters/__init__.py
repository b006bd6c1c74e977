"""Filter expressions over the facts of images."""
