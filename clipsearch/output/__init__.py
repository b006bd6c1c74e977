"""Results in every form people and programs want."""
