"""Attacks on the promises of docs/reliability.md: `scripts/torture` runs them for as long as asked."""
