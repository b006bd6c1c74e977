"""Topics, events and duplicates."""
