"""Chaos runs: what is watched during one, and the verdict and report after it (docs/report.md)."""
