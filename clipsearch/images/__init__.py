"""Image files become pixels and facts."""
